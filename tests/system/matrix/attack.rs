//! Starts the program that goes through the table, helps it where it asks, and hands back what
//! it reports.

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::Mode;
use system_tests::binary;
use system_tests::matrix::Report;
use system_tests::matrix::State;
use system_tests::session::GUEST;

/// How long the program may be silent. Its slowest row takes a second on a busy machine.
const SILENCE: Duration = Duration::from_secs(60);

/// Who attacks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum User {
    /// Root, who owns the file.
    Root,
    /// The owner of the file and of its directory, who is not root.
    Owner,
}

/// The program, where everybody may start it, and room for whoever does.
#[derive(Debug)]
pub(crate) struct Attacker {
    directory: tempfile::TempDir,
}

impl Attacker {
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("worm-test-").tempdir().unwrap();
        rustix::fs::chmod(directory.path(), Mode::from_raw_mode(0o755)).unwrap();
        let attacker = Self { directory };
        std::fs::copy(binary::path("try-changes"), attacker.program()).unwrap();
        attacker
    }

    fn program(&self) -> PathBuf {
        self.directory.path().join("try-changes")
    }

    /// Goes through the table. `help` is called when the program asks for it.
    pub(crate) fn attack(
        &self,
        user: User,
        state: State,
        (root, view): (&Path, &Path),
        help: &mut dyn FnMut(),
    ) -> Vec<Report> {
        let outside = self.directory.path().join(format!("{user:?}-{state:?}"));
        std::fs::create_dir(&outside).unwrap();
        let mut command = match user {
            User::Root => Command::new(self.program()),
            User::Owner => self.as_owner(&outside),
        };
        let (class, far) = match user {
            User::Root => ("hourly", "daily"),
            User::Owner => ("guest", "hourly"),
        };
        command.arg(format!("{state:?}")).arg(root).args([class, far]).arg(&outside).arg(view);
        run(&mut command, help)
    }

    fn as_owner(&self, outside: &Path) -> Command {
        std::os::unix::fs::chown(outside, Some(GUEST), Some(GUEST)).unwrap();
        let mut command = Command::new("setpriv");
        let user = GUEST.to_string();
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]);
        command.arg(self.program());
        command
    }
}

fn run(command: &mut Command, help: &mut dyn FnMut()) -> Vec<Report> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let (sender, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            drop(sender.send(line));
        }
    });
    let mut reports: Vec<Report> = Vec::new();
    loop {
        match lines.recv_timeout(SILENCE) {
            Ok(line) if line == "ready" => {
                help();
                writeln!(input).unwrap();
            }
            Ok(line) => reports.push(Report::parse(&line)),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                child.kill().unwrap();
                panic!("nothing more after {:?}", reports.last());
            }
        }
    }
    reader.join().unwrap();
    let ended = child.wait().unwrap();
    assert!(ended.success(), "{command:?}: {ended} after {:?}", reports.last());
    reports
}
