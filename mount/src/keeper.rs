//! The keeper: a small process beside the daemon that attaches its mounts and takes them away, so
//! that the daemon itself needs no right to mount. It does nothing else, and ends with the daemon.

use std::io::IoSlice;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::fd::BorrowedFd;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Child;
use std::process::Stdio;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::AddressFamily;
use rustix::net::RecvAncillaryBuffer;
use rustix::net::RecvAncillaryMessage;
use rustix::net::RecvFlags;
use rustix::net::SendAncillaryBuffer;
use rustix::net::SendAncillaryMessage;
use rustix::net::SendFlags;
use rustix::net::SocketFlags;
use rustix::net::SocketType;
use rustix::thread::CapabilitySet;
use signal_hook::consts::SIGHUP;
use signal_hook::consts::SIGINT;
use signal_hook::consts::SIGTERM;

use crate::cli::KeepArgs;
use crate::guard;
use crate::outcome::Exit;
use crate::outcome::Failure;
use crate::outcome::Outcome;
use crate::places::PLACES_MAX;
use crate::places::Places;
use crate::places::Role;
use crate::sandbox;
use crate::target;
use crate::target::Standing;

/// What asks to take the mount at a place away. What asks to attach mounts is a store's id.
const DETACH: [&str; PLACES_MAX] = ["detach 0", "detach 1", "detach 2"];
/// The longest message: a path and an errno with room.
const MESSAGE_BYTES_MAX: usize = 16_384;

/// How a mount was taken away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Taken {
    /// Nobody used it any more.
    Unmounted,
    /// Somebody still used it.
    Detached,
    /// Somebody else had taken it away.
    Before,
}

impl Taken {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Unmounted, "unmounted"), (Self::Detached, "detached"), (Self::Before, "before")];
}

/// The daemon's side.
#[derive(Debug)]
pub(crate) struct Keeper {
    places: Places,
    process: Child,
    socket: Option<OwnedFd>,
}

impl Keeper {
    /// Starts one, for the places of a store. It stays in the mount namespace in which it is
    /// started.
    pub(crate) fn start(places: Places) -> Outcome<Self> {
        let doing = "start the keeper of the mounts";
        let flags = SocketFlags::CLOEXEC;
        let (ours, its) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
                .map_err(Failure::doing(doing))?;
        let mut command = std::process::Command::new("/proc/self/exe");
        command.arg0("worm").arg("keep");
        for (path, role) in places.all() {
            command.arg(role.flag()).arg(path);
        }
        let process = command
            .stdin(Stdio::from(its))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .spawn()
            .map_err(Failure::doing(doing))?;
        Ok(Self { places, process, socket: Some(ours) })
    }

    /// Its places.
    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    /// Puts the mounts of a store at their places, in order: all, or none.
    pub(crate) fn attach(&self, store: &str, mounts: &[OwnedFd]) -> Outcome {
        let mounts: Vec<BorrowedFd<'_>> = mounts.iter().map(OwnedFd::as_fd).collect();
        self.ask(store, &mounts).map(drop)
    }

    /// Takes the mount at a place away, be it in use.
    pub(crate) fn detach(&self, place: usize) -> Outcome<Taken> {
        let answer = self.ask(DETACH[place.min(PLACES_MAX - 1)], &[])?;
        let taken = Taken::ALL.into_iter().find(|(_, name)| *name == answer);
        taken.map(|(taken, _)| taken).ok_or_else(|| Failure::new(Exit::Failed, answer))
    }

    fn ask(&self, request: &str, mounts: &[BorrowedFd<'_>]) -> Outcome<String> {
        let doing = "ask the keeper of the mounts";
        let Some(socket) = &self.socket else { return Err(Failure::new(Exit::Failed, doing)) };
        send(socket.as_fd(), request, mounts).map_err(Failure::doing(doing))?;
        let (answer, _) = receive(socket.as_fd()).map_err(Failure::doing(doing))?;
        match answer.split_once(' ') {
            None if answer.is_empty() => {
                Err(Failure::new(Exit::Failed, "the keeper of the mounts has ended"))
            }
            None => Ok(answer),
            Some((number, message)) => Err(Failure::new(Exit::from_number(number), message)),
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.socket.take());
        let ended = self.process.wait();
        tracing::debug!(?ended, "the keeper of the mounts");
    }
}

/// Runs the keeper. It hears from its daemon on standard input, until that has ended.
pub(crate) fn run(args: &KeepArgs) -> Outcome {
    // Signals are meant for the daemon, which then asks for what is to be done.
    let told = Arc::default();
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&told))
            .map_err(Failure::doing("leave signals to the daemon"))?;
    }
    if let Err(error) = rustix::process::setsid() {
        tracing::debug!(%error, "no session of its own");
    }
    // The way to a mount point may be closed to others.
    sandbox::drop_capabilities(CapabilitySet::SYS_ADMIN | CapabilitySet::DAC_READ_SEARCH);
    sandbox::take_no_new_privileges();
    let input = std::io::stdin();
    let doing = "hear from the daemon";
    let mut store = String::new();
    loop {
        let (request, mounts) = receive(input.as_fd()).map_err(Failure::doing(doing))?;
        let done = match DETACH.iter().position(|detach| *detach == request) {
            _ if request.is_empty() => return Ok(()),
            Some(place) => detach(args, &store, place),
            None => {
                store = request;
                attach(args, &store, &mounts)
            }
        };
        // Whoever hears that they are attached may unmount them: from here they would be in use.
        drop(mounts);
        let answer = done.unwrap_or_else(|failure| failure.line());
        send(input.as_fd(), &answer, &[]).map_err(Failure::doing("answer the daemon"))?;
    }
}

fn attach(args: &KeepArgs, store: &str, mounts: &[OwnedFd]) -> Outcome<String> {
    let places = args.places.all();
    for (number, ((path, role), mount)) in places.into_iter().zip(mounts).enumerate() {
        if let Err(failure) = attach_one(store, path, role, mount) {
            for done in 0..number {
                detach(args, store, done)?;
            }
            return Err(failure);
        }
    }
    Ok("attached".to_owned())
}

fn attach_one(store: &str, path: &Path, role: Role, mount: &OwnedFd) -> Outcome {
    target::clear(path, store)?;
    match role {
        Role::Active | Role::Logs => guard::prepare(path)?,
        Role::View => target::detach_dead(path)?,
    }
    worm_fs::fuse::attach(mount.as_fd(), path).map_err(|error| target::cannot_mount(path, &error))
}

/// Takes away what stands at a place, if it is a mount of our store.
fn detach(args: &KeepArgs, ours: &str, place: usize) -> Outcome<String> {
    let Some((path, _)) = args.places.all().get(place).copied() else {
        return Err(Failure::new(Exit::Usage, format_args!("there is no place {place}")));
    };
    let taken = match target::standing(path)? {
        Standing::Ours { dead, store, .. } if store == ours => {
            if !dead && target::unmount(path).is_ok() {
                Taken::Unmounted
            } else {
                target::detach(path)?;
                Taken::Detached
            }
        }
        // Somebody else has unmounted it; what stands there now is not ours.
        Standing::Ours { .. } | Standing::Nothing | Standing::Guard | Standing::Foreign(_) => {
            Taken::Before
        }
    };
    let name = Taken::ALL.iter().find(|(one, _)| *one == taken).map_or("", |(_, name)| name);
    Ok(name.to_owned())
}

fn send(socket: BorrowedFd<'_>, message: &str, mounts: &[BorrowedFd<'_>]) -> Result<(), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PLACES_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !mounts.is_empty() && !control.push(SendAncillaryMessage::ScmRights(mounts)) {
        return Err(Errno::TOOBIG);
    }
    let bytes = &message.as_bytes()[..message.len().min(MESSAGE_BYTES_MAX)];
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The next message, empty when the other side has ended.
fn receive(socket: BorrowedFd<'_>) -> Result<(String, Vec<OwnedFd>), Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(PLACES_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0; MESSAGE_BYTES_MAX];
    let received = rustix::io::retry_on_intr(|| {
        let slices = &mut [IoSliceMut::new(&mut bytes)];
        rustix::net::recvmsg(socket, slices, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    bytes.truncate(received.bytes);
    let mut mounts = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = message {
            mounts.extend(fds);
        }
    }
    Ok((String::from_utf8_lossy(&bytes).into_owned(), mounts))
}
