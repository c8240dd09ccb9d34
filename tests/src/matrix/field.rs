//! Where one round of the matrix is played: a file in a given state, all that lies around it,
//! and every descriptor that can be kept of it.

use std::cell::OnceCell;
use std::cell::RefCell;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::IoSlice;
use std::io::IoSliceMut;
use std::io::Write as _;
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::os::fd::AsRawFd as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use io_uring::IoUring;
use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::RecvAncillaryBuffer;
use rustix::net::RecvAncillaryMessage;
use rustix::net::RecvFlags;
use rustix::net::SendAncillaryBuffer;
use rustix::net::SendAncillaryMessage;
use rustix::net::SendFlags;

use super::State;
use super::raw;
use super::raw::Arg;
use super::raw::Mapping;
use crate::session::Result;
use crate::session::SOON;

/// The file is a valid swap area of sixteen pages, so that `swapon` has no other reason to refuse.
const BYTES: usize = 16 * 4096;

/// `_IO(0xF5, n)` of the file system under test.
const BEGIN: u32 = 0xF501;
const COMMIT: u32 = 0xF502;
const ABORT: u32 = 0xF503;

/// A file, what lies around it, and the descriptors kept of it.
#[derive(Debug)]
pub struct Field {
    /// The mount.
    pub root: PathBuf,
    /// A class, or what stands for it.
    pub class: PathBuf,
    /// Another class.
    pub far_class: PathBuf,
    /// The directory above `dir`.
    pub above: PathBuf,
    /// The directory of the file.
    pub dir: PathBuf,
    /// The file under attack.
    pub file: PathBuf,
    /// Another file that is finished.
    pub other: PathBuf,
    /// A directory beside `dir`, with a finished file in it.
    pub aside: PathBuf,
    /// A free name beside the file.
    pub free: PathBuf,
    /// A directory on another file system, for this user to write.
    pub outside: PathBuf,
    /// Opened for reading now.
    pub reader: OwnedFd,
    /// Opened for reading while the file was being written.
    pub early: OwnedFd,
    /// Opened with `O_PATH`.
    pub place: OwnedFd,
    /// From `name_to_handle_at`, taken while the file was being written.
    pub handle: Vec<u8>,
    /// The descriptor that created it, where it is still open.
    pub writer: Option<Writer>,
}

/// Every way in which the descriptor that created a file can be kept.
#[derive(Debug)]
pub struct Writer {
    /// Itself.
    pub fd: OwnedFd,
    /// Its copy.
    pub copy: OwnedFd,
    /// A copy that is on its way through a socket while the file is finished.
    pub sent: Sent,
    /// A copy in a child that was started before.
    pub child: Keeper,
    /// What mapping it answered while the file was being written.
    pub mapping: Result<Mapping>,
    /// A ring that knows it as registered file 0.
    pub ring: Ring,
}

/// An `io_uring` that lasts for several rows.
pub struct Ring(pub RefCell<IoUring>);

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str("Ring")
    }
}

/// A child that holds a copy of the descriptor as its standard output.
#[derive(Debug)]
pub struct Keeper {
    child: RefCell<Child>,
}

impl Keeper {
    fn new(fd: OwnedFd) -> Self {
        let this = std::env::current_exe().expect("ask for the path of this program");
        let mut command = Command::new(this);
        command.arg("keep").stdin(Stdio::piped()).stdout(fd).stderr(Stdio::piped());
        let child = command.spawn().expect("start a child that keeps the descriptor");
        Self { child: RefCell::new(child) }
    }

    /// Lets the child do something with its copy.
    ///
    /// # Errors
    /// What it was answered.
    ///
    /// # Panics
    /// When the child is gone.
    pub fn ask(&self, what: &str) -> Result<()> {
        let mut child = self.child.borrow_mut();
        writeln!(child.stdin.as_mut().expect("a pipe"), "{what}").expect("tell the child");
        let mut answer = String::new();
        let mut answers = BufReader::new(child.stderr.as_mut().expect("a pipe"));
        let _bytes = answers.read_line(&mut answer).expect("hear from the child");
        match answer.trim().parse().expect("the number of an error") {
            0 => Ok(()),
            errno => Err(Errno::from_raw_os_error(errno)),
        }
    }

    /// What the child does: obeys lines on its standard input until that ends.
    pub fn serve() {
        for line in std::io::stdin().lines().map_while(std::result::Result::ok) {
            let kept = std::io::stdout();
            let answer = match line.as_str() {
                "truncate" => rustix::fs::ftruncate(&kept, 0),
                _ => rustix::io::write(&kept, b"child").map(drop),
            };
            eprintln!("{}", answer.map_or_else(Errno::raw_os_error, |()| 0));
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        let child = self.child.get_mut();
        drop(child.stdin.take());
        drop(child.wait());
    }
}

impl Field {
    /// Makes the file and brings it into `state`, in a new directory `place` of the class
    /// `class` below `root`. `ready` is called where the state needs help from outside: it
    /// returns when that was given. Without `keep` the writing descriptor is closed at once.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn new(ground: &Ground, state: State, ready: &mut dyn FnMut(), keep: bool) -> Self {
        let Ground { root, class, far, outside, .. } = ground;
        let class = root.join(class);
        let above = class.join(format!("{state:?}").to_lowercase());
        let (dir, aside) = (above.join("nested"), above.join("aside"));
        make_directories(&[&class, &root.join(far), &above, &dir, &aside]);
        let (file, other) = (dir.join("x"), dir.join("other"));
        drop(create(&aside.join("y"), b"aside"));
        drop(create(&other, &[b'o'; 8192]));
        let fd = create(&file, &content());
        let writer = keep.then(|| Writer::new(fd));
        let handle = handle_of(&file);
        let (early, place) = (open(&file, OFlags::RDONLY), open(&file, OFlags::PATH));
        let mut field = Self {
            reader: open(&other, OFlags::RDONLY),
            root: root.clone(),
            far_class: root.join(far),
            free: dir.join("free"),
            outside: outside.clone(),
            writer,
            class,
            above,
            dir,
            aside,
            file,
            other,
            early,
            place,
            handle,
        };
        if state == State::Plain {
            give_attributes(&field.file);
        } else {
            wait_for(&field.other, "sealed");
        }
        field.bring_into(state, ready);
        if state == State::Viewed {
            field.look_through(&ground.view);
        }
        field.reader = open(&field.file, OFlags::RDONLY);
        field
    }

    fn bring_into(&mut self, state: State, ready: &mut dyn FnMut()) {
        let control = |field: &Self, number| {
            let writer = field.writer.as_ref().expect("it is open");
            raw::ioctl(&writer.fd, number, &mut []).expect("tell the file system");
        };
        match state {
            State::Sealed | State::Expired | State::Viewed => {
                self.writer = None;
                wait_for(&self.file, "sealed");
                if state == State::Expired {
                    ready();
                    wait_for(&self.file, "expired");
                }
            }
            State::Committed => control(self, COMMIT),
            State::Aborted => {
                control(self, ABORT);
                self.follow_to_incomplete();
            }
            State::Incomplete => {
                control(self, BEGIN);
                self.writer = None;
                self.follow_to_incomplete();
            }
            State::Closing => {
                let writer = self.writer.as_ref().expect("it is open");
                rustix::fs::fsync(&writer.fd).expect("sync, so that nothing is left for close");
                ready();
                self.writer = None;
                wait_for(&self.file, "closing");
            }
            State::Writing | State::Plain => {}
        }
    }

    /// Everything is approached through the view from here on.
    fn look_through(&mut self, view: &Path) {
        let Self { root, class, far_class, above, dir, aside, file, other, free, .. } = self;
        let paths = [class, far_class, above, dir, aside, file, other, free];
        for path in paths {
            *path = view.join(path.strip_prefix(&*root).expect("below the mount"));
        }
        view.clone_into(root);
        self.early = open(&self.file, OFlags::RDONLY);
        self.place = open(&self.file, OFlags::PATH);
        self.handle = handle_of(&self.file);
    }

    /// The file is kept as `.incomplete/NAME.N` from here on.
    fn follow_to_incomplete(&mut self) {
        let kept = self.class.join(".incomplete");
        let name = self.file.file_name().expect("a name").as_bytes().to_vec();
        let deadline = Instant::now() + SOON;
        self.file = loop {
            let entries = std::fs::read_dir(&kept).expect("list what is incomplete");
            let inode = rustix::fs::fstat(&self.place).expect("look at it").st_ino;
            let is_it = |path: &PathBuf| {
                let found = rustix::fs::lstat(path).is_ok_and(|stat| stat.st_ino == inode);
                found && path.file_name().is_some_and(|found| found.as_bytes().starts_with(&name))
            };
            let found = entries.flatten().map(|entry| entry.path()).find(is_it);
            if let Some(found) = found {
                break found;
            }
            assert!(Instant::now() < deadline, "it did not become incomplete");
            std::thread::sleep(Duration::from_millis(1));
        };
        self.above.clone_from(&self.class);
        self.dir = kept;
        self.free = self.dir.join("free");
    }
}

/// Where fields are made.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The mount.
    pub root: PathBuf,
    /// The class that takes the file.
    pub class: String,
    /// Another class.
    pub far: String,
    /// A directory on another file system, for this user to write.
    pub outside: PathBuf,
    /// Where the same files are shown and nothing can be written.
    pub view: PathBuf,
}

impl Writer {
    fn new(fd: OwnedFd) -> Self {
        let copy = || rustix::io::fcntl_dupfd_cloexec(&fd, 3).expect("copy the descriptor");
        let ring = IoUring::new(4).expect("make a ring: kernel.io_uring_disabled is not 0?");
        ring.submitter().register_files(&[fd.as_raw_fd()]).expect("register the descriptor");
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        Self {
            mapping: Mapping::new(&fd, protection, libc::MAP_SHARED),
            sent: Sent::new(copy()),
            child: Keeper::new(copy()),
            ring: Ring(RefCell::new(ring)),
            copy: copy(),
            fd,
        }
    }
}

/// A descriptor on its way through a socket, taken out when it is wanted.
#[derive(Debug)]
pub struct Sent {
    socket: UnixStream,
    received: OnceCell<OwnedFd>,
}

impl Sent {
    fn new(fd: OwnedFd) -> Self {
        let (here, there) = UnixStream::pair().expect("make sockets");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut buffer = SendAncillaryBuffer::new(&mut space);
        let fds = [fd.as_fd()];
        assert!(buffer.push(SendAncillaryMessage::ScmRights(&fds)), "room for one descriptor");
        rustix::net::sendmsg(&here, &[IoSlice::new(b"x")], &mut buffer, SendFlags::empty())
            .expect("send the descriptor");
        Self { socket: there, received: OnceCell::new() }
    }

    /// What comes out at the other end.
    ///
    /// # Panics
    /// When nothing does.
    pub fn fd(&self) -> &OwnedFd {
        self.received.get_or_init(|| {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut buffer = RecvAncillaryBuffer::new(&mut space);
            let mut byte = [0];
            let bytes = &mut [IoSliceMut::new(&mut byte)];
            rustix::net::recvmsg(&self.socket, bytes, &mut buffer, RecvFlags::CMSG_CLOEXEC)
                .expect("receive the descriptor");
            let received = buffer.drain().find_map(|message| match message {
                RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
                _ => None,
            });
            received.expect("a descriptor")
        })
    }
}

fn make_directories(paths: &[&Path]) {
    for path in paths {
        match rustix::fs::mkdir(*path, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            // A class of somebody else's, or one that the configuration makes.
            Err(Errno::PERM | Errno::ACCESS) if path.is_dir() => {}
            Err(errno) => panic!("make {}: {errno}", path.display()),
        }
    }
}

/// Attributes such as a file of ours has, and others, as far as this user and this file system
/// can have them: for rows that replace or remove them.
fn give_attributes(path: &Path) {
    for name in [
        "user.x",
        "user.worm.state",
        "user.worm.sha256",
        "user.worm.retain_until",
        "trusted.x",
        "security.capability",
    ] {
        let value: &[u8] =
            if name.starts_with("security") { super::xattrs::CAPABILITY } else { b"1" };
        let flags = rustix::fs::XattrFlags::empty();
        let _unsupported = rustix::fs::setxattr(path, name, value, flags);
    }
}

fn content() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..BYTES).map(|at| b'a' + u8::try_from(at % 23).unwrap()).collect();
    bytes[..4096].fill(0);
    bytes[1024..1028].copy_from_slice(&1_u32.to_ne_bytes());
    bytes[1028..1032].copy_from_slice(&15_u32.to_ne_bytes());
    bytes[4086..4096].copy_from_slice(b"SWAPSPACE2");
    bytes
}

fn create(path: &Path, bytes: &[u8]) -> OwnedFd {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::CLOEXEC;
    let created = rustix::fs::open(path, flags, Mode::from_raw_mode(0o644));
    let fd = created.unwrap_or_else(|errno| panic!("create {}: {errno}", path.display()));
    assert_eq!(rustix::io::write(&fd, bytes), Ok(bytes.len()), "write {}", path.display());
    fd
}

fn open(path: &Path, flags: OFlags) -> OwnedFd {
    let opened = rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty());
    opened.unwrap_or_else(|errno| panic!("open {}: {errno}", path.display()))
}

/// A `struct file_handle` of this file; nothing where the file system has none.
fn handle_of(path: &Path) -> Vec<u8> {
    let mut handle = vec![0; 8 + 128];
    handle[..4].copy_from_slice(&128_u32.to_ne_bytes());
    let (path, mut mount) = (raw::path(path), [0; 8]);
    let cwd = Arg::Int(i64::from(libc::AT_FDCWD));
    let args = &mut [cwd, Arg::In(&path), Arg::Out(&mut handle), Arg::Out(&mut mount), Arg::Int(0)];
    match raw::call(libc::SYS_name_to_handle_at, args) {
        Ok(_) => handle,
        Err(Errno::OPNOTSUPP) => Vec::new(),
        Err(errno) => panic!("take a handle of the file: {errno}"),
    }
}

/// Waits until a file is in this state.
fn wait_for(path: &Path, state: &str) {
    let deadline = Instant::now() + SOON;
    loop {
        let mut value = [0; 64];
        let length = rustix::fs::lgetxattr(path, "user.worm.state", &mut value[..]);
        let now = length.map(|length| String::from_utf8_lossy(&value[..length]).into_owned());
        if now.as_deref() == Ok(state) {
            return;
        }
        assert!(Instant::now() < deadline, "{} is {now:?}, not {state}", path.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}
