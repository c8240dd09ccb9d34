//! An agent that was taken over writes all it can.

use system_tests::stack::SERVICES;
use system_tests::stack::Stack;

use crate::fill;

/// Writes files until not even a small one is taken.
const FLOOD: &str = "cd /backups/active/daily
for size in 1000000 100000 10000 1000; do
    for n in $(seq 1 100); do
        head -c $size /dev/urandom > junk-$size-$n || { echo stopped at $n of $size; break; }
    done
done 2>&1";

#[test]
fn a_flood_stops_at_its_limit_and_the_remedy_works() {
    let stack = Stack::prepare("flood");
    let limit = r#"sed -i '/^\[class.daily\]/a limits.bytes_per_day = "8MiB"' worm.toml"#;
    stack.shell(&format!("{limit} && docker compose up -d")).success();
    stack.wait_until_healthy(&SERVICES);
    fill(&stack, 20_000);
    let _earlier = stack.backup("daily");
    let before = stack.sealed();

    let said = stack.exec("backup-agent", FLOOD).stdout;
    assert!(said.contains("Disk quota exceeded") && said.contains("of 1000\n"), "{said}");
    let refused = stack.exec("backup-agent", "worm-ingest backup daily");
    assert_ne!(refused.code(), 0, "{refused:?}");
    let other = stack.backup("hourly");
    assert!(other.starts_with("hourly/"), "other classes go on");
    stack.wait_until("an alarm is raised", || {
        let status = stack.shell("docker compose exec worm-fs worm status /store");
        status.code() == 9 && status.stdout.contains("ALARM") && status.stdout.contains("daily")
    });
    stack.check_nothing_lost(&before);
    // An alarm wants a person; a restart would not help.
    stack.wait_until_healthy(&["worm-fs"]);

    // docs/operations.md, A class is full.
    let remedy = "sed -i 's/8MiB/1GiB/' worm.toml && docker compose restart worm-fs";
    stack.shell(remedy).success();
    stack.wait_until_healthy(&["worm-fs"]);
    let _again = stack.backup("daily");
    stack.check_nothing_lost(&before);
}
