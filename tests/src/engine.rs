//! A container engine for the tests, on a host of its own: a network, a tree of mounts and a table
//! of processes that nobody else sees. When it ends, all that ran on it is gone: containers, mounts
//! in whatever state, rules of the firewall. The host of the tests is not touched.
//!
//! Images are kept in the target directory, so only the first run of the tests makes them.

use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;
use std::time::Instant;

use crate::binary;
use crate::binary::Output;

/// What the images are built on, and what it is called when no registry can be reached.
pub const BASE: &str = "debian:bookworm-slim";

/// What is in the image.
pub const PROGRAMS: [&str; 3] = ["worm", "worm-ingest", "worm-extractor"];

/// How long the engine may take to start or end on a busy machine.
const START: Duration = Duration::from_secs(120);
/// How long the first build of all images may take.
const BUILD: Duration = Duration::from_secs(1500);
/// How long a test program may use it. Then everything on it is killed, so that nothing hangs.
const LIFETIME_S: &str = "2400";

/// Stands between the test and the engine: makes it, and when its standard input ends, which the
/// kernel sees to however the test process ends, or after its time, takes it away.
const SUPERVISOR: &str = r#"
directory=$1 kept=$2 lifetime=$3 inside=$4; shift 4
cd "$directory" && exec >log 2>&1
exec 9>"$kept/lock" && flock 9
unshare --net --mount --pid --fork --mount-proc --kill-child \
    sh -c "$inside" engine "$directory" "$kept" </dev/null 9>&- &
outside=$!
init=
while [ -z "$init" ] && kill -0 "$outside"; do init=$(ps -o pid= --ppid "$outside" | tr -d ' '); done
echo "$init" >init
# The way out of its network, for building images.
slirp4netns --configure --mtu=1500 --disable-host-loopback "$init" tap0 </dev/null 9>&- & way_out=$!
timeout "$lifetime" cat >/dev/null
nsenter -t "$init" -m -n -p timeout 60 sh -c '
    export DOCKER_HOST=unix://$1/docker.sock
    docker ps --quiet --all | xargs --no-run-if-empty docker rm --force --volumes
    docker volume prune --force
    kill -TERM "$(cat "$1/docker.pid")" && for i in $(seq 100); do [ -e "$1/docker.pid" ] || break; sleep 0.1; done
' sh "$directory" 9>&-
kill -KILL "$init"
kill -TERM "$way_out"
wait "$outside" "$way_out"
for controller in /sys/fs/cgroup /sys/fs/cgroup/*; do
    find "$controller/$(basename "$directory")" -depth -type d -exec rmdir {} +
done
chattr -R -i "$directory/stacks" "$directory/srv"
rm -rf "$directory"
"#;

/// The first process of the engine's host.
const INSIDE: &str = r#"
directory=$1 kept=$2
mount --make-rprivate / && mount -t tmpfs tmpfs /run && ip link set lo up || exit
# Where the documents put everything.
mount --bind "$directory/srv" /srv || exit
# Images are kept, and nothing else that an earlier run may have left.
rm -rf "$kept/data/containers" "$kept/data/network" "$kept/data/volumes"
exec dockerd --data-root "$kept/data" --exec-root "$directory/exec" --pidfile "$directory/docker.pid" \
    --host "unix://$directory/docker.sock" --dns 10.0.2.3 --bip 10.214.0.1/24 \
    --default-address-pool base=10.213.0.0/16,size=24 \
    --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent "/$(basename "$directory")"
"#;

/// Compose is a part of `docker` or a program of its own, and asks for a terminal, which tests lack.
const DOCKER: &str = r#"#!/bin/sh
[ "$1" = compose ] || exec /usr/bin/docker "$@"
shift
compose='/usr/bin/docker compose'
command -v docker-compose >/dev/null && compose=docker-compose
case $1 in
exec | run) verb=$1 && shift && exec $compose "$verb" -T "$@" ;;
esac
exec $compose "$@"
"#;

/// A running engine with the images of this repository. It ends with the test process.
#[derive(Debug)]
pub struct Engine {
    directory: PathBuf,
    init: String,
    _supervisor: Child,
}

impl Engine {
    /// The engine of this test process, which all its tests share.
    ///
    /// # Panics
    /// When it does not start, or its images cannot be built.
    #[must_use]
    pub fn shared() -> &'static Self {
        static ENGINE: OnceLock<Engine> = OnceLock::new();
        ENGINE.get_or_init(|| {
            let engine = Self::start();
            engine.build();
            engine
        })
    }

    fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("worm-engine-").tempdir();
        let directory = directory.expect("make a directory for the engine").keep();
        let kept = kept();
        std::fs::create_dir_all(&kept).expect("make a directory for images");
        for name in ["stacks", "bin", "srv"] {
            std::fs::create_dir(directory.join(name)).expect("make a directory of the engine");
        }
        put_program(&directory.join("bin/docker"), DOCKER);
        let mut supervisor = Command::new("bash");
        supervisor.args(["-c", SUPERVISOR, "engine-supervisor"]).arg(&directory).arg(&kept);
        supervisor.args([LIFETIME_S, INSIDE]);
        supervisor.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // A group of its own, so that an interrupt from the terminal cannot end it half-way.
        let supervisor =
            std::os::unix::process::CommandExt::process_group(&mut supervisor, 0).spawn();
        let supervisor = supervisor.expect("start the engine");
        let mut engine = Self { directory, init: String::new(), _supervisor: supervisor };
        engine.wait();
        engine
    }

    fn wait(&mut self) {
        let deadline = Instant::now() + START;
        loop {
            let init = std::fs::read_to_string(self.directory.join("init")).unwrap_or_default();
            init.trim().clone_into(&mut self.init);
            if !self.init.is_empty() && self.docker(&["version"]).code() == 0 {
                return;
            }
            let log = || std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "no engine (is dockerd installed?):\n{}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// A directory for a stack, which goes with the engine.
    #[must_use]
    pub fn stacks(&self) -> PathBuf {
        self.directory.join("stacks")
    }

    /// A command that runs on the engine's host, in `directory`, as root.
    #[must_use]
    pub fn on_host(&self, directory: &Path, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.init, "--mount", "--net", "--pid", "env", "-C"]).arg(directory);
        command.arg(format!("DOCKER_HOST=unix://{}/docker.sock", self.directory.display()));
        // Debian's client can build with BuildKit by itself; a newer one may want a plugin for it.
        let path = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin";
        command.arg(format!("PATH={}/bin:{path}", self.directory.display()));
        command.arg("DOCKER_BUILDKIT=1");
        command.arg("COMPOSE_DOCKER_CLI_BUILD=1").arg(program);
        command
    }

    /// Runs `docker` with these arguments.
    pub fn docker(&self, arguments: &[&str]) -> Output {
        binary::run(self.on_host(Path::new("/"), "docker").args(arguments))
    }

    fn build(&self) {
        if self.docker(&["image", "inspect", BASE]).code() != 0 {
            self.get_base();
        }
        let context = self.directory.join("context");
        let programs = context.join("target/release");
        std::fs::create_dir_all(&programs).expect("make a build context");
        for program in PROGRAMS {
            std::fs::copy(binary::path(program), programs.join(program)).expect("copy a program");
        }
        copy(&compose(), &context.join("compose"));
        for (target, image) in [("worm", "worm:local"), ("database", "worm-database:local")] {
            let mut build = self.on_host(&context, "docker");
            build.args(["build", "--file", "compose/Dockerfile", "--target", target]);
            build.args(["--build-arg", "BINARIES=prebuilt", "--tag", image, "."]);
            binary::run_within(BUILD, &mut build).success();
        }
        // What earlier runs built and nothing uses any more.
        drop(self.docker(&["image", "prune", "--force"]));
        drop(self.docker(&["builder", "prune", "--force", "--keep-storage", "3g"]));
    }

    /// From the registry, or made from Debian's packages under the same name.
    fn get_base(&self) {
        let mut pull = self.on_host(Path::new("/"), "timeout");
        if binary::run(pull.args(["60", "docker", "pull", BASE])).code() == 0 {
            return;
        }
        let tar = self.directory.join("base.tar");
        let mut make = Command::new("mmdebstrap");
        make.args(["--quiet", "--variant=minbase", "bookworm"]).arg(&tar);
        for (site, suite) in [
            ("debian", "bookworm"),
            ("debian", "bookworm-updates"),
            ("debian-security", "bookworm-security"),
        ] {
            make.arg(format!("deb http://deb.debian.org/{site} {suite} main"));
        }
        binary::run_within(BUILD, &mut make).success();
        let mut import = self.on_host(Path::new("/"), "docker");
        binary::run_within(BUILD, import.arg("import").arg(&tar).arg(BASE)).success();
        std::fs::remove_file(tar).expect("remove the archive");
    }
}

fn put_program(path: &Path, text: &str) {
    let file = std::fs::File::create_new(path);
    let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()));
    written.expect("write a program");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(path, mode).expect("make a program executable");
}

/// Where images are kept from one run to the next: in the target directory.
fn kept() -> PathBuf {
    let program = binary::path("worm");
    let target = program.ancestors().nth(2).expect("programs are in the target directory");
    target.join("engine")
}

/// The directory of this repository that is deployed.
#[must_use]
pub fn compose() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../compose")
}

/// Copies a directory, without what a deployment from it has added.
///
/// # Panics
/// When it cannot.
pub fn copy(from: &Path, to: &Path) {
    let mut copy = Command::new("rsync");
    copy.args(["-a", "--exclude", "/secrets", "--exclude", "/.env"]);
    copy.arg(format!("{}/", from.display())).arg(to);
    binary::run(&mut copy).success();
}
