//! Parts that die. The mount comes back by itself, nothing lands beneath it meanwhile, and nothing
//! that was sealed is lost.

use system_tests::stack::SERVICES;
use system_tests::stack::Stack;

use crate::fill;

/// Says of each place on the host whether root could write a file there.
const STRAY: &str = "cd $WORM_HOST && for place in agent/active agent/active/daily agent/logs view/active \
    view/active/daily; do (echo stray > $place/stray) 2>/dev/null && echo wrote into $place; done; true";

/// Since when a container runs: another moment when it was started again.
fn started(stack: &Stack, service: &str) -> String {
    stack.inspect(service, "{{.State.StartedAt}}")
}

/// Whether agent and extractor both reach a served store through their own mounts.
fn all_see_it(stack: &Stack) -> bool {
    let look = "ls /backups/active/daily >/dev/null";
    ["backup-agent", "backup-extractor"].iter().all(|service| stack.exec(service, look).code() == 0)
}

#[test]
fn a_mount_that_died_comes_back_and_nothing_lands_beneath_it() {
    let stack = Stack::up("stale");
    fill(&stack, 100);
    let first = stack.backup("daily");
    let before = stack.sealed();
    let since = ["backup-agent", "backup-extractor"].map(|service| started(&stack, service));

    // Killed, as by the kernel when memory runs out: the engine starts it again.
    let served_since = started(&stack, "worm-fs");
    stack.kill("worm-fs");
    stack.wait_until("it was started again", || started(&stack, "worm-fs") != served_since);
    stack.wait_until("all see it", || all_see_it(&stack));

    // Killed for good, which leaves a dead mount; stopped, which leaves the guard.
    for end in ["kill", "stop"] {
        stack.shell(&format!("docker compose {end} worm-fs")).success();
        stack.wait_until("it has ended", || {
            stack.inspect("worm-fs", "{{.State.Running}}") == "false"
        });
        assert_eq!(stack.shell(STRAY).success(), "", "after {end}");
        let refused = stack.exec("backup-agent", "worm-ingest backup daily");
        assert_eq!(refused.code(), 10, "after {end}: {refused:?}");
        stack
            .exec_as_root("backup-agent", "! (echo x > /backups/active/daily/x) 2>/dev/null")
            .success();
        stack.shell("docker compose start worm-fs").success();
        stack.wait_until("all see it", || all_see_it(&stack));
    }
    stack.shell("docker compose restart worm-fs").success();
    stack.wait_until("all see it", || all_see_it(&stack));
    stack.shell("docker compose up -d --force-recreate --no-deps worm-fs").success();
    stack.wait_until("all see it", || all_see_it(&stack));
    stack.wait_until_healthy(&SERVICES);

    let now = ["backup-agent", "backup-extractor"].map(|service| started(&stack, service));
    assert_eq!(now, since, "nobody else had to be restarted");
    stack.check_nothing_lost(&before);
    let second = stack.backup("daily");
    assert_ne!(first, second);
    stack.exec("worm-fs", "worm verify /store").success();
}

#[test]
fn killing_any_one_service_loses_nothing() {
    let stack = Stack::up("killed");
    fill(&stack, 100);
    let mut backups = vec![stack.backup("daily")];
    for service in SERVICES {
        let before = stack.sealed();
        let since = started(&stack, service);
        stack.kill(service);
        stack.wait_until("it was started again", || {
            stack
                .inspect(service, "{{.State.StartedAt}} {{.State.Running}}")
                .strip_suffix(" true")
                .is_some_and(|now| now != since)
        });
        stack.wait_until_healthy(&SERVICES);
        backups.push(stack.backup("daily"));
        stack.check_nothing_lost(&before);
    }
    stack.wait_until_mirrored(&backups);
    stack.exec("worm-fs", "worm verify /store").success();
}
