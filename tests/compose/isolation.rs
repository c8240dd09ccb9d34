//! What each part cannot reach. Every refusal has a control that shows the attempt was a real one.

use system_tests::stack::SERVICES;
use system_tests::stack::Stack;

use crate::calm;

/// Attempts to undo a backup `$f` in `/backups/active`, one a line.
const DESTROY: &str = r#"echo x >> "$f"
: > "$f"
truncate -s 0 "$f"
dd if=/dev/zero of="$f" bs=1 count=1 conv=notrunc
cp /etc/passwd "$f"
rm -f "$f"
rm -rf /backups/active/daily
mv "$f" "$f.gone"
mv /backups/active/daily /backups/active/gone
ln -f /etc/passwd "$f"
ln -s "$f" "$f.link"
chmod 777 "$f"
chown 12345 "$f"
touch -d 1970-01-01 "$f"
perl -e 'utime 0, 0, $ARGV[0] or die' "$f"
perl -e 'truncate $ARGV[0], 0 or die' "$f"
find /backups/active/daily -name '*.gz' -exec rm {} + && ! test -e "$f""#;

/// Attempts to take the mount away or to look behind it.
const UNMOUNT: &str = "umount /backups/active
umount -l /backups/active
umount -f /backups/active
mount -t tmpfs none /backups/active
mount --bind /tmp /backups/active
mount -o remount,ro /backups/active
mount --move /backups/active /tmp
unshare -m true
nsenter -t 1 -m true
mknod /tmp/disk b 254 0
ls /store
ls /etc/worm/keys/*
find /run /var /etc /backups /tmp -type s ! -name ingest.sock | grep .
test -e /var/run/docker.sock
chroot / true
echo 1 > /proc/sysrq-trigger
date -s 2030-01-01";

/// A script that makes each attempt and says which succeeded.
fn attempts(stack: &Stack, list: &str) -> String {
    // Without the right to look into the class, root would not even find it.
    let find = "ls /backups/active/daily/*.sql.gz | head -n 1";
    let mut script = format!("f={}\n", stack.exec("backup-agent", find).success().trim());
    for attempt in list.lines() {
        let quoted = attempt.replace('\'', r"'\''");
        script
            .push_str(&format!("(\n{attempt}\n) >/dev/null 2>&1 && echo 'SUCCEEDED: {quoted}'\n"));
    }
    script + "true"
}

/// Runs a script in a container of its own with all that the engine gives by default, as root.
fn contained(stack: &Stack, options: &str, script: &str) -> String {
    let quoted = script.replace('\'', r"'\''");
    let run = format!("docker run --rm --user 0 {options} worm:local bash -c '{quoted}'");
    stack.shell(&run).success()
}

#[test]
fn root_in_the_agents_container_cannot_undo_a_backup() {
    let stack = calm();
    let before = stack.sealed();
    assert!(before.contains(".manifest.json"), "{before}");
    for list in [DESTROY, UNMOUNT] {
        assert_eq!(stack.exec_as_root("backup-agent", &attempts(stack, list)).success(), "");
        assert_eq!(stack.exec("backup-agent", &attempts(stack, list)).success(), "");
    }
    // With the rights that the agent's container gave up, and the same mounts.
    let options = "--network none -v $WORM_HOST/agent:/backups:rslave";
    let destroyed = contained(stack, options, &attempts(stack, DESTROY));
    assert_eq!(destroyed, "");
    stack.check_nothing_lost(&before);
}

#[test]
fn nobody_writes_through_the_view_even_where_the_bind_is_writable() {
    let stack = calm();
    let write = "echo x > /backups/active/daily/new\nmkdir /backups/active/daily/d\n\
                 mount -o remount,rw /backups/active && echo x > /backups/active/daily/new";
    let list = format!("{DESTROY}\n{write}");
    assert_eq!(stack.exec("backup-extractor", &attempts(stack, &list)).success(), "");
    assert_eq!(stack.exec_as_root("backup-extractor", &attempts(stack, &list)).success(), "");
    for rights in ["", "--cap-add SYS_ADMIN --security-opt apparmor:unconfined"] {
        let options = format!("--network none {rights} -v $WORM_HOST/view:/backups:rslave");
        assert_eq!(contained(stack, &options, &attempts(stack, &list)), "", "{rights}");
        // The bind itself is writable: only the view is not.
        contained(stack, &options, "touch /backups/probe && rm /backups/probe");
    }
}

/// An address that is on no network of the engine.
const OUTSIDE: &str = "198.51.100.2";

/// Makes a machine with that address, and the engine's host its neighbour.
const WORLD: &str = "ip netns add world
ip link add outside type veth peer name inside netns world
ip addr add 198.51.100.1/24 dev outside
ip link set outside up
ip -n world addr add 198.51.100.2/24 dev inside
ip -n world link set inside up
ip -n world route add default via 198.51.100.1";

/// Whether a service's container can connect there.
fn connects(stack: &Stack, service: &str, host: &str, port: u16) -> bool {
    let script = format!("timeout 5 bash -c '</dev/tcp/{host}/{port}'");
    stack.exec_as_root(service, &script).code() == 0
}

#[test]
fn networks_keep_the_parts_apart() {
    let stack = calm();
    let address = |service| {
        stack.inspect(service, "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}")
    };
    let (db, extractor) = (address("db"), address("backup-extractor"));
    // Somebody listens beside the extractor, and somebody in the world outside.
    let listen = "use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalPort => 8099, Listen => 5, \
                  ReuseAddr => 1) or die; close $s->accept while 1";
    let beside = format!("--network container:{}", stack.container("backup-extractor"));
    stack
        .shell(&format!("docker run -d --name listener {beside} worm:local perl -e '{listen}'"))
        .success();
    stack.shell(WORLD).success();
    let mut outside = stack.on_host("ip");
    outside.args(["netns", "exec", "world", "perl", "-e", listen]);
    let mut outside = outside.spawn().unwrap();

    stack.wait_until("the listeners listen", || {
        connects(stack, "backup-extractor", "127.0.0.1", 8099)
            && connects(stack, "backup-extractor", OUTSIDE, 8099)
    });
    let reached = [
        ("backup-agent", "db", 5432),
        ("backup-agent", extractor.as_str(), 8099),
        ("backup-agent", OUTSIDE, 8099),
        ("backup-extractor", db.as_str(), 5432),
        ("backup-extractor", "db", 5432),
        ("worm-fs", db.as_str(), 5432),
        ("worm-fs", OUTSIDE, 8099),
    ]
    .map(|(service, host, port)| connects(stack, service, host, port));
    outside.kill().unwrap();
    drop(outside.wait());
    stack.shell("docker rm -f listener").success();
    assert_eq!(reached, [true, false, false, false, false, false, false]);
    let devices = stack.exec("worm-fs", "ls /sys/class/net").success();
    assert_eq!(devices.trim(), "lo");
}

#[test]
fn secrets_are_in_files_of_their_readers_and_nowhere_else() {
    let stack = calm();
    let password = stack.shell("cat secrets/db_password").success();
    assert!(password.len() >= 32, "a password that cannot be guessed");
    for service in SERVICES {
        let container = stack.container(service);
        let inspected = stack.shell(&format!("docker inspect {container}")).success();
        assert!(!inspected.contains(&password), "{service}");
        let seen =
            stack.exec_as_root(service, "cat /proc/*/environ /proc/*/cmdline 2>/dev/null; env");
        assert!(!seen.stdout.contains(&password), "{service}");
        let logs = stack.shell(&format!("docker compose logs {service}")).success();
        assert!(!logs.contains(&password), "{service}");
    }
    assert_eq!(stack.exec("backup-agent", "cat /run/secrets/db_password").success(), password);
    for service in ["worm-fs", "backup-extractor"] {
        stack.exec_as_root(service, "! ls /run/secrets/* 2>/dev/null").success();
    }
    let images = stack.shell("docker history --no-trunc worm:local").success();
    assert!(!images.contains(&password));
}

#[test]
fn every_container_has_only_what_it_needs() {
    let stack = calm();
    let rights = |service| {
        let template = "{{.HostConfig.CapAdd}} {{.HostConfig.CapDrop}} {{.HostConfig.ReadonlyRootfs}} \
                        {{.HostConfig.Privileged}} {{.Config.User}}";
        stack.inspect(service, template)
    };
    assert_eq!(rights("worm-fs"), "[SYS_ADMIN] [ALL] true false 0:0");
    assert_eq!(rights("backup-agent"), "[] [ALL] true false 34:34");
    assert_eq!(rights("backup-extractor"), "[] [ALL] true false 935:935");
    for service in SERVICES {
        let security = stack.inspect(service, "{{.HostConfig.SecurityOpt}}");
        assert!(security.contains("no-new-privileges"), "{service}: {security}");
        let limits =
            "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.LogConfig.Config}}";
        let limits = stack.inspect(service, limits);
        assert!(!limits.starts_with("0 ") && limits.contains("max-size"), "{service}: {limits}");
        let mounts = stack.inspect(service, "{{range .Mounts}}{{.Source}} {{end}}");
        assert!(!mounts.contains("docker.sock"), "{service}: {mounts}");
        let has_store = mounts.contains("/host/store");
        assert_eq!(has_store, service == "worm-fs", "{service}: {mounts}");
    }
    let status = stack.exec("backup-agent", "grep CapEff /proc/1/status").success();
    assert!(status.trim().ends_with("0000000000000000"), "{status}");
}
