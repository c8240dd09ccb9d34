//! The daemon as the rest of a system starts it: by `mount -t worm`, by a line of fstab, and by a
//! service manager that wants to be told.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;
use system_tests::binary;
use system_tests::daemon::Daemon;

/// In a mount namespace of its own, with `mount.worm` where mount(8) looks for it.
const SET_UP: &str = r#"set -eu
ln -s "$WORM" helper/mount.worm
mount -t overlay -o "lowerdir=$PWD/helper:$(readlink -f /sbin)" helper "$(readlink -f /sbin)"
"#;

/// Runs a script below the daemon's directory, and gives what it printed.
fn script(daemon: &Daemon, text: &str) -> String {
    std::fs::create_dir(daemon.directory().join("helper")).unwrap();
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "--propagation", "private", "sh", "-c"]);
    shell.arg(format!("{SET_UP}{text}")).current_dir(daemon.directory());
    shell.env("WORM", binary::path("worm"));
    binary::run(&mut shell).success()
}

#[test]
fn mount_with_the_type_worm_mounts_a_store() {
    let daemon = Daemon::prepare();
    let said = script(
        &daemon,
        r#"
mount -t worm "$PWD/store" "$PWD/active" -o "view=$PWD/view,key=$PWD/key,run-dir=$PWD/run,nofail" > /dev/null
echo words > active/daily/file
"$WORM" wait active/daily/file > /dev/null
if echo other > active/daily/file; then exit 1; fi 2> /dev/null
cat view/daily/file
findmnt --noheadings --output FSTYPE active | sort
"$WORM" umount active --run-dir run
"#,
    );
    assert_eq!(said, "words\nfuse.worm\ntmpfs\n");
    daemon.verify();
}

#[test]
fn a_line_of_fstab_mounts_a_store() {
    let daemon = Daemon::prepare();
    let said = script(
        &daemon,
        r#"
echo "$PWD/store $PWD/active worm key=$PWD/key,run-dir=$PWD/run,logs=$PWD/logs,nofail,x-systemd.requires=x 0 0" > fstab
mount --fstab fstab "$PWD/active" > /dev/null
echo line >> logs/log
cat logs/log
"$WORM" umount active --run-dir run
"#,
    );
    assert_eq!(said, "line\n");
}

#[test]
fn what_mount_does_not_understand_ends_with_its_numbers() {
    let daemon = Daemon::prepare();
    let said = script(
        &daemon,
        r#"
code=0; mount -t worm store active -o veiw=/v 2>&1 || code=$?; echo $code
echo > file; code=0; mount -t worm file active -o key=key,run-dir=run 2> /dev/null || code=$?; echo $code
"#,
    );
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].contains("unknown option \"veiw=/v\""), "{said}");
    assert_eq!(lines[1..], ["1", "32"]);
}

/// What a service manager heard, one message after the other.
fn heard(socket: &UnixDatagram) -> String {
    let mut message = [0; 4096];
    let length = socket.recv(&mut message).expect("a message within the time");
    String::from_utf8_lossy(&message[..length]).into_owned()
}

fn hear(socket: &UnixDatagram, wanted: &str) {
    while !heard(socket).lines().any(|line| line == wanted) {}
}

#[test]
fn a_service_manager_hears_that_it_serves_lives_and_ends() {
    let daemon = Daemon::prepare();
    let path = daemon.directory().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut service = daemon.mount_command();
    service.arg("--foreground").env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
    service.stderr(std::fs::File::create(daemon.directory().join("words")).unwrap());
    let mut child = service.spawn().unwrap();

    hear(&socket, "READY=1");
    assert!(is_mounted(&daemon.active()), "ready before the mount answers");
    for _ in 0..3 {
        hear(&socket, "WATCHDOG=1");
    }
    rustix::process::kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    hear(&socket, "STOPPING=1");
    assert!(child.wait().unwrap().success());
}

fn is_mounted(place: &Path) -> bool {
    place.join("hourly").is_dir()
}
