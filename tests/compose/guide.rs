//! `docs/deployment.md`, typed from its first command to its last on a fresh host.

use std::process::Command;
use std::time::Duration;

use system_tests::binary;
use system_tests::engine;
use system_tests::engine::Engine;

/// How long one block may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// What stands between ```sh and ```, in order.
fn blocks(text: &str) -> Vec<&str> {
    let begun = text.split("\n```sh\n").skip(1);
    begun.map(|rest| rest.split_once("\n```").expect("a block ends").0).collect()
}

/// A database of the reader's own, as the document supposes it.
const SHOP: &str = "docker network create --internal shop_default
printf %s correct-horse >/srv/shop-password && chown 999 /srv/shop-password
docker run -d --name shop-db --network shop_default -v /srv/shop-password:/password:ro \
    -e POSTGRES_USER=shop -e POSTGRES_DB=shop -e POSTGRES_PASSWORD_FILE=/password worm-database:local
until docker exec shop-db pg_isready -q -h localhost -U shop -d shop; do sleep 0.2; done";

#[test]
fn every_step_of_the_deployment_works() {
    let engine = Engine::shared();
    // The repository as it was fetched, with programs that were built before.
    let repository = engine.stacks().join("guide");
    std::fs::create_dir_all(repository.join("target/release")).unwrap();
    engine::copy(&engine::compose(), &repository.join("compose"));
    for program in engine::PROGRAMS {
        let to = repository.join("target/release").join(program);
        std::fs::copy(binary::path(program), to).unwrap();
    }
    let bash = |script: &str| -> Command {
        let mut command = engine.on_host(&repository.join("compose"), "env");
        command.args(["COMPOSE_PROJECT_NAME=guide", "WORM_BINARIES=prebuilt"]);
        command.args(["WORM_HEALTH_INTERVAL=1s", "WORM_EVERY=1s", "bash", "-euo", "pipefail"]);
        command.args(["-c", script]);
        command
    };
    binary::run_within(PATIENCE, &mut bash(SHOP)).success();

    let document = engine::compose().join("../docs/deployment.md");
    let document = std::fs::read_to_string(document).unwrap();
    let blocks = blocks(&document);
    assert!(blocks.len() > 10, "{blocks:?}");
    let mut said = String::new();
    for block in blocks {
        let output = binary::run_within(PATIENCE, &mut bash(block));
        if output.code() != 0 {
            let state = "docker compose ps; docker compose logs --tail 20";
            let state = binary::run_within(PATIENCE, &mut bash(state)).stdout;
            panic!("{block}\n{}\n{}\n{state}", output.stdout, output.stderr);
        }
        said.push_str(&output.stdout);
    }
    // What the steps are for.
    for expected in ["1 tables, 1000 rows", "all rows there", "\n1000\n", "all is as it was sealed"]
    {
        assert!(said.contains(expected), "{expected}:\n{said}");
    }
    binary::run_within(PATIENCE, &mut bash("docker rm -f shop-db")).success();
    let left = binary::run_within(PATIENCE, &mut bash("ls /srv/worm || true")).stdout;
    assert_eq!(left, "", "the last step removes everything");
}
