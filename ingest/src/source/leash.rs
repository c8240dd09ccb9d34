//! Children that end when we do, however we end.
//!
//! The kernel can send a process a signal when its parent dies, but only a process itself can ask
//! for that. So a child begins as this program, asks, makes sure that its parent still lives, and
//! only then becomes the program that is wanted. Nothing of this is unsafe, and no helper program
//! is needed.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::mpsc;
use std::sync::mpsc::Sender;
use std::thread;

use rustix::process::Pid;
use rustix::process::Signal;
use tokio::process::Child;
use tokio::runtime::Handle;

/// The first argument of a child that is to become another program.
const WORD: &str = "--become";
/// Ourselves, also when the file was replaced by a newer version meanwhile.
const OURSELVES: &str = "/proc/self/exe";

/// Whether this program understands [`WORD`].
static UNDERSTOOD: OnceLock<()> = OnceLock::new();

/// To be called first of all in `main`. Does not come back in a child that was started here.
pub fn enter() {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|first| first != WORD) {
        UNDERSTOOD.get_or_init(|| ());
        return;
    }
    let parent = arguments.next().and_then(|id| Pid::from_raw(id.to_str()?.parse().ok()?));
    let Some(program) = arguments.next() else { std::process::exit(2) };
    // TERM and not KILL: pg_dump passes it on to its workers and tells the server.
    let asked = rustix::process::set_parent_process_death_signal(Some(Signal::TERM));
    // If it died before we asked, nobody will tell.
    if asked.is_err() || rustix::process::getppid() != parent {
        std::process::exit(1);
    }
    // Only returns when it failed. 127 is what shells say then.
    drop(Command::new(program).args(arguments).exec());
    std::process::exit(127);
}

/// A command for `program` that ends when this process does.
pub(super) fn command(program: &std::path::Path) -> Command {
    if UNDERSTOOD.get().is_none() {
        return Command::new(program);
    }
    let mut command = Command::new(OURSELVES);
    command.arg(WORD).arg(std::process::id().to_string()).arg(program);
    command
}

type Order = (tokio::process::Command, Handle, Sender<io::Result<Child>>);

/// Starts a child. The kernel takes the end of the *thread* that started it for the end of its
/// parent, so all children are started by one thread that lives as long as we do.
pub(super) fn spawn(command: tokio::process::Command) -> io::Result<Child> {
    static STARTER: OnceLock<Sender<Order>> = OnceLock::new();
    let gone = || io::Error::other("the thread that starts programs ended");
    let starter = STARTER.get_or_init(|| {
        let (orders, wanted) = mpsc::channel::<Order>();
        drop(thread::Builder::new().name("starter".to_owned()).spawn(move || {
            for (mut command, runtime, answer) in wanted {
                let _entered = runtime.enter();
                let child = command.spawn();
                // Also closes our copies of its ends of pipes, before anybody waits for them.
                drop(command);
                drop(answer.send(child));
            }
        }));
        orders
    });
    let (answer, child) = mpsc::channel();
    starter.send((command, Handle::current(), answer)).map_err(|_closed| gone())?;
    child.recv().map_err(|_closed| gone())?
}
