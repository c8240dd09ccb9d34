//! The README and `docs/operations.md`, typed from their first command to their last as root on a
//! host of its own. What stands in ```sh is a command; so is the end of a line in ```cron.

use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use system_tests::binary;
use system_tests::device::Device;
use system_tests::postgres::Postgres;

/// How long all of them may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// What other tests and people run: the build, and `docs/deployment.md`.
const ELSEWHERE: [&str; 2] = ["make demo", "./prepare.sh"];

/// What has to happen before a command is of use, by how its block begins.
const BEFORE: &[(&str, &str)] = &[
    ("scripts/setup.sh", "cargo() { echo built before; }"),
    (
        "systemctl",
        "systemctl() { ls packaging/systemd/worm-guard.service packaging/systemd/worm.service; }",
    ),
    ("worm status", "worm mount /srv/worm /backups/active >/dev/null"),
    // There is none, and grep says so by its exit code.
    ("grep alarm=", "trap 'exit 0' ERR"),
    ("mkfs.ext4", "worm umount /backups/active --guard; mv /srv/worm /srv/kept; mkdir /srv/worm"),
    ("mount -o ro", "worm umount /backups/active"),
    (
        "/usr/local/bin/worm mount",
        "umount /mnt; chattr -i /srv/worm; rmdir /srv/worm; mv /srv/kept /srv/worm",
    ),
    ("worm verify /srv/worm --witness", "cd /elsewhere; cp /etc/worm/keys/STORE-ID store.key"),
    (
        "worm mount /srv/worm /backups/active --view /backups/view --logs /backups/logs\nworm verify",
        "kill -KILL $(jq .pid /run/worm/*.json); ! ls /backups/active 2>/dev/null",
    ),
    ("createdb", "dropdb -U postgres --if-exists app2"),
    (
        "worm extend",
        "worm umount /backups/active
      printf '[class.daily]\\nretention = \"7d\"\\nmax_retention = \"60d\"\\n' >/etc/worm/worm.toml
      worm mount /srv/worm /backups/active --view /backups/view --logs /backups/logs >/dev/null
      # What comes next is done to another backup than in the README.
      PGHOST=/var/run/postgresql PGUSER=postgres PGDATABASE=app worm-ingest backup daily",
    ),
];

/// A root directory of its own, in which nothing of the host's can be changed but in `/tmp` and
/// `/dev`, and the host's own processes cannot be seen.
const HOST: &str = r#"
directory=$1 sockets=$2 repository=$3
new=$directory/root
mount --make-rprivate / && mount -t tmpfs -o mode=755 tmpfs "$new" && cd "$new"
for entry in /*; do
    name=${entry#/}
    case $name in
        etc) cp -a /etc . ;;
        run | srv | mnt | backups | external_storage) ;;
        *) if [ -L "$entry" ]; then cp -P "$entry" .
           elif [ -d "$entry" ]; then mkdir "$name"; mount --rbind "$entry" "$name"; fi ;;
    esac
done
mkdir -p run/postgresql srv mnt elsewhere/heads newhost/srv newhost/etc/worm/keys old
mount --bind "$sockets" run/postgresql
mount -t tmpfs tmpfs usr/local/bin
pivot_root . old && umount -l /old
cd "$repository"
for block in "$directory"/blocks/*; do
    stamp=$(basename -s .sql.gz "$(ls -d /backups/view/daily/*.sql.gz 2>/dev/null | tail -n 1)")
    store=$(jq -r .store /srv/worm/store.json 2>/dev/null)
    sed -E "s/20[0-9-]{8}_[0-9]{2}-[0-9]{2}-00/$stamp/g; s|/daily/20[0-9-]{8}\$|/daily/${stamp%_*}|
        s/STORE-ID/$store/g; s|/dev/vdb|$DEVICE|g; s|other-machine:|/elsewhere/|; s|newhost:|/newhost|g" \
        "$block" >/tmp/worm-typed.$$
    sed 's/^/# /' /tmp/worm-typed.$$
    bash -eu /tmp/worm-typed.$$ 2>&1 </dev/null || { echo "it ended with $?"; rm /tmp/worm-typed.$$; exit 1; }
    rm /tmp/worm-typed.$$
done
"#;

/// The commands of a document, block by block.
fn blocks(document: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        let language = line.trim();
        if !["```sh", "```cron"].contains(&language) {
            continue;
        }
        let body = lines.by_ref().take_while(|line| line.trim() != "```");
        let command = |line: &str| match language {
            "```cron" => line.split_once(" root ").unwrap().1.trim().to_owned(),
            _ => line.trim().to_owned(),
        };
        blocks.push(body.map(command).collect::<Vec<_>>().join("\n"));
    }
    blocks
}

#[test]
fn every_command_of_the_readme_and_of_the_operations_works() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let directory = tempfile::Builder::new().prefix("worm-documents-").tempdir().unwrap();
    for name in ["root", "blocks", "repository/target"] {
        std::fs::create_dir_all(directory.path().join(name)).unwrap();
    }
    // The repository as it was fetched, with programs that were built before.
    let typed_in = directory.path().join("repository");
    for name in ["scripts", "packaging", "Cargo.toml"] {
        symlink(repository.join(name).canonicalize().unwrap(), typed_in.join(name)).unwrap();
    }
    symlink(binary::path("worm").parent().unwrap(), typed_in.join("target/release")).unwrap();

    let mut number = 0;
    let mut used = vec![false; BEFORE.len()];
    for document in ["README.md", "docs/operations.md"] {
        let text = std::fs::read_to_string(repository.join(document)).unwrap();
        for block in blocks(&text) {
            if ELSEWHERE.iter().any(|begin| block.starts_with(begin)) {
                continue;
            }
            number += 1;
            let path = directory.path().join(format!("blocks/{number:03}"));
            let mut file = std::fs::File::create_new(path).unwrap();
            writeln!(file, "scp() {{ cp \"$@\"; }}").unwrap();
            for (at, (begin, before)) in BEFORE.iter().enumerate() {
                if block.starts_with(begin) {
                    writeln!(file, "{before}").unwrap();
                    used[at] = true;
                }
            }
            writeln!(file, "{block}").unwrap();
        }
    }
    assert!(number > 30, "only {number} blocks were found");
    let unused = BEFORE.iter().zip(used).filter(|(_, used)| !used).map(|(before, _)| before.0);
    assert_eq!(unused.collect::<Vec<_>>(), [""; 0], "what no document says any more");

    let postgres = Postgres::start();
    postgres.create_database("app");
    postgres.psql("app", "CREATE TABLE visits AS SELECT generate_series(1, 1000) AS n");
    let device = Device::ext4();
    let mut host = Command::new("unshare");
    host.args(["--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "bash", "-c", HOST]);
    host.arg("host").arg(directory.path()).arg(postgres.directory()).arg(&typed_in);
    host.env("DEVICE", device.path()).env("PATH", "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    host.env_remove("PGHOST").env_remove("PGUSER");
    let said = binary::run_within(PATIENCE, &mut host);
    assert_eq!(said.code(), 0, "{}\n{}", said.stdout, said.stderr);
    for expected in ["all is as it was sealed", "all rows there", ".sql.gz: OK", "\nrestored\n"] {
        assert!(said.stdout.contains(expected), "{expected}:\n{}", said.stdout);
    }
}
