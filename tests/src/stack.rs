//! The deployment of `compose/`, on the engine of the tests: containers, store, mirror and database
//! of its own, in a directory that goes with the engine.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use crate::binary;
use crate::binary::Output;
use crate::engine;
use crate::engine::Engine;

/// How long a stack may take to come up or go, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// A deployment.
#[derive(Debug)]
pub struct Stack {
    engine: &'static Engine,
    name: &'static str,
    directory: PathBuf,
}

impl Stack {
    /// Copies `compose/` and prepares the host.
    ///
    /// # Panics
    /// When it cannot be prepared.
    #[must_use]
    pub fn prepare(name: &'static str) -> Self {
        let engine = Engine::shared();
        let directory = engine.stacks().join(name);
        std::fs::create_dir(&directory).expect("one stack of each name");
        engine::copy(&engine::compose(), &directory.join("compose"));
        let stack = Self { engine, name, directory };
        stack.shell("./prepare.sh").success();
        stack
    }

    /// The same, with all services up and healthy.
    ///
    /// # Panics
    /// When they do not come up.
    #[must_use]
    pub fn up(name: &'static str) -> Self {
        let stack = Self::prepare(name);
        stack.shell("docker compose up -d").success();
        stack.wait_until_healthy(&SERVICES);
        stack
    }

    /// Where everything of it lies: `compose/`, `host/`, `mirror/`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A command that runs on the host, in the directory with `compose.yaml`, as root.
    #[must_use]
    pub fn on_host(&self, program: &str) -> Command {
        let mut command = self.engine.on_host(&self.directory.join("compose"), "env");
        let directory = self.directory.display();
        command.arg(format!("WORM_HOST={directory}/host"));
        command.arg(format!("EXTERNAL_STORAGE={directory}/mirror"));
        command.arg(format!("COMPOSE_PROJECT_NAME={}", self.name));
        command.args(["WORM_HEALTH_INTERVAL=1s", "WORM_EVERY=1s", program]);
        command
    }

    /// Runs a shell script on the host.
    pub fn shell(&self, script: &str) -> Output {
        let mut command = self.on_host("bash");
        binary::run_within(PATIENCE, command.args(["-euo", "pipefail", "-c", script]))
    }

    /// Runs a shell script in the container of a service, as its user.
    pub fn exec(&self, service: &str, script: &str) -> Output {
        self.exec_as(&[], service, script)
    }

    /// Runs a shell script in the container of a service, as root.
    pub fn exec_as_root(&self, service: &str, script: &str) -> Output {
        self.exec_as(&["--user", "0"], service, script)
    }

    fn exec_as(&self, options: &[&str], service: &str, script: &str) -> Output {
        let mut command = self.on_host("docker");
        command.args(["compose", "exec"]).args(options).args([service, "bash", "-c", script]);
        binary::run_within(PATIENCE, &mut command)
    }

    /// The number of a service's container.
    #[must_use]
    pub fn container(&self, service: &str) -> String {
        self.shell(&format!("docker compose ps -q {service}")).success().trim().to_owned()
    }

    /// What the engine says about a service's container, by a template.
    #[must_use]
    pub fn inspect(&self, service: &str, template: &str) -> String {
        let container = self.container(service);
        let said = self.engine.docker(&["inspect", "--format", template, &container]);
        said.success().trim().to_owned()
    }

    /// Kills the first process of a service's container, as a crash would.
    pub fn kill(&self, service: &str) {
        let pid = self.inspect(service, "{{.State.Pid}}");
        self.shell(&format!("kill -KILL {pid}")).success();
    }

    /// Waits until services are up and say that they are well.
    ///
    /// # Panics
    /// When one does not become healthy.
    pub fn wait_until_healthy(&self, services: &[&str]) {
        for service in services {
            self.wait_until(&format!("{service} is healthy"), || {
                let state = self.shell(&format!(
                    "docker inspect --format '{{{{.State.Health.Status}}}}' $(docker compose ps -q {service})"
                ));
                state.stdout.trim() == "healthy"
            });
        }
    }

    /// Waits until something is so.
    ///
    /// # Panics
    /// With what the containers said, when it does not come to be.
    pub fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            if Instant::now() > deadline {
                let said = self.shell("docker compose ps; docker compose logs --tail 30");
                panic!("waited too long until {what}\n{}\n{}", said.stdout, said.stderr);
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Makes a backup, by the command that people know, and gives its path below the mount.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn backup(&self, class: &str) -> String {
        let said = self.exec("backup-agent", &format!("worm-ingest backup {class} --json"));
        let said: serde_json::Value =
            serde_json::from_str(&said.success()).expect("a line of JSON");
        format!("{class}/{}", said["name"].as_str().expect("the backup has a name"))
    }

    /// Waits until the mirror has these backups, whole.
    ///
    /// # Panics
    /// When it does not get them.
    pub fn wait_until_mirrored(&self, backups: &[String]) {
        for backup in backups {
            let (class, name) = backup.split_once('/').expect("a class and a name");
            let found = format!("ls $EXTERNAL_STORAGE/{class}/*/{name}.manifest.json");
            self.wait_until(&format!("{backup} is mirrored"), || self.shell(&found).code() == 0);
            let check = format!("cd $EXTERNAL_STORAGE/{class}/*/ && sha256sum -c {name}.sha256");
            self.shell(&check).success();
        }
    }

    /// Makes sure that every backup of `before`, see [`Stack::sealed`], is what it was.
    ///
    /// # Panics
    /// When one is not.
    #[track_caller]
    pub fn check_nothing_lost(&self, before: &str) {
        let after = self.sealed();
        let lost: Vec<_> = before.lines().filter(|line| !after.contains(*line)).collect();
        assert!(lost.is_empty() && !before.is_empty(), "lost: {lost:?} of {before}");
    }

    /// The SHA-256 of all backups that the view shows, as lines.
    #[must_use]
    pub fn sealed(&self) -> String {
        let list = "cd /backups/active && find . -name .worm -prune -o -name logs -prune -o -type f -print | sort | xargs -r sha256sum";
        self.exec("backup-extractor", list).success()
    }
}

/// All that run for long.
pub const SERVICES: [&str; 4] = ["worm-fs", "db", "backup-agent", "backup-extractor"];

impl Drop for Stack {
    /// A stack that all tests share is never dropped: it goes with the engine.
    fn drop(&mut self) {
        let gone = self.shell("docker compose --profile restore down --volumes --timeout 5");
        if gone.code() != 0 && !std::thread::panicking() {
            panic!("the stack {} did not go: {}", self.name, gone.stderr);
        }
    }
}
