//! Two who want the same thing at the same moment, through a real mount, with one request thread
//! and with eight. Each round is a file of its own; at the end the store is verified and served
//! again.

use std::fs::File;
use std::fs::OpenOptions;
use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Barrier;

use rustix::fs::RenameFlags;
use system_tests::daemon::Daemon;
use system_tests::daemon::sha256;
use system_tests::rounds;
use system_tests::session::raw;

/// Long enough that closing it takes a moment.
const BYTES: usize = 300_000;

/// The ioctl that seals a file.
const COMMIT: u32 = 0xF502;

/// Room for all rounds of a long run.
const RULES: &str = "[class.daily]\nretention = \"7d\"\n\n\
                     [class.daily.limits]\ncreates_per_day = 1000000\nfiles = 1000000\n";

fn count() -> usize {
    rounds(500, 10_000)
}

fn errno(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

/// Runs rounds of a race on a store that is served by so many threads, each round in a path of
/// its own, and looks at the store afterwards.
fn race(threads: &str, round: impl Fn(&Path, usize)) {
    let daemon = Daemon::prepare();
    let config = daemon.directory().join("worm.toml");
    std::fs::File::create(&config).unwrap().write_all(RULES.as_bytes()).unwrap();
    let serve = ["--threads", threads, "--config", config.to_str().unwrap()];
    daemon.mount(&serve).success();
    for number in 0..count() {
        // Not all in one directory: those of thousands are another test.
        let directory = daemon.active().join(format!("daily/{}", number / 100));
        std::fs::create_dir_all(&directory).unwrap();
        round(&directory.join(number.to_string()), number);
    }
    assert_eq!(daemon.verify()["problems"], serde_json::json!([]));
    daemon.worm("umount", &daemon.active(), &[]).success();
    daemon.mount(&serve).success();
    assert_eq!(daemon.verify()["problems"], serde_json::json!([]));
}

macro_rules! races {
    ($($name:ident => $round:expr;)*) => {$(
        mod $name {
            #[test]
            fn with_one_thread() {
                super::race("1", $round);
            }

            #[test]
            fn with_eight_threads() {
                super::race("8", $round);
            }
        }
    )*};
}

races! {
    of_two_creators_one_wins => super::two_creators;
    nobody_opens_for_writing_what_another_closes => super::open_while_closing;
    nothing_is_taken_between_close_and_seal => super::take_while_closing;
    no_byte_comes_after_a_commit => super::write_while_committing;
    no_file_is_lost_in_a_directory_that_goes => super::create_while_removing;
}

/// Runs two at the same moment, and gives what they answer.
fn at_once<A: Send, B: Send>(
    one: impl FnOnce() -> A + Send,
    other: impl FnOnce() -> B + Send,
) -> (A, B) {
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            barrier.wait();
            other()
        });
        barrier.wait();
        let one = one();
        (one, other.join().expect("it does not panic"))
    })
}

fn two_creators(path: &Path, round: usize) {
    let create = |byte: u8| {
        let mut options = OpenOptions::new();
        // Every other round without O_EXCL: then the kernel may find the name first.
        options.write(true).create(true).create_new(round.is_multiple_of(2));
        let mut file = options.open(path)?;
        file.write_all(&[byte; 100])?;
        Ok::<_, std::io::Error>(byte)
    };
    let winner = match at_once(|| create(1), || create(2)) {
        (Ok(winner), Err(error)) | (Err(error), Ok(winner)) => {
            // Taken, being written, or sealed already.
            assert!([libc::EEXIST, libc::EBUSY, libc::EPERM].contains(&errno(&error)), "{error}");
            winner
        }
        both => panic!("round {round}: {both:?}"),
    };
    assert_eq!(std::fs::read(path).unwrap(), [winner; 100], "round {round}");
}

fn open_while_closing(path: &Path, round: usize) {
    let mut file = File::create_new(path).unwrap();
    file.write_all(&[7; BYTES]).unwrap();
    let ((), opened) = at_once(
        || drop(file),
        || {
            (0..6).find_map(|attempt| {
                let mut options = OpenOptions::new();
                match attempt % 3 {
                    0 => options.write(true),
                    1 => options.append(true),
                    _ => options.read(true).custom_flags(libc::O_TRUNC),
                };
                options.open(path).ok().map(|_file| attempt)
            })
        },
    );
    assert_eq!(opened, None, "round {round}");
    assert_eq!(std::fs::read(path).unwrap(), [7; BYTES], "round {round}");
}

fn take_while_closing(path: &Path, round: usize) {
    let mut file = File::create_new(path).unwrap();
    file.write_all(&[7; BYTES]).unwrap();
    let aside = path.with_extension("aside");
    let ((), taken) = at_once(
        || drop(file),
        || {
            let mut taken = Vec::new();
            for _ in 0..3 {
                let renamed = rustix::fs::renameat_with(
                    rustix::fs::CWD,
                    path,
                    rustix::fs::CWD,
                    &aside,
                    RenameFlags::empty(),
                );
                taken.extend(renamed.ok().map(|()| "renamed"));
                taken.extend(std::fs::remove_file(path).ok().map(|()| "unlinked"));
                taken.extend(raw::truncate(path, 0).ok().map(|()| "truncated"));
                // Before the last close was seen this is allowed: what it sets is sealed.
                drop(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)));
            }
            taken
        },
    );
    assert!(taken.is_empty(), "round {round}: {taken:?}");
    assert!(!aside.exists());
    let digest = sealed(path);
    let before = std::fs::metadata(path).unwrap();
    assert_eq!(before.len(), BYTES as u64);
    let changed = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777));
    assert_eq!(errno(&changed.unwrap_err()), libc::EPERM, "round {round}");
    assert_eq!(std::fs::metadata(path).unwrap().mode(), before.mode());
    assert_eq!(sha256(path), digest, "round {round}");
}

/// The digest of a file that is closed, when it is sealed. Until the daemon has heard of the
/// close there is none.
fn sealed(path: &Path) -> String {
    let deadline = std::time::Instant::now() + system_tests::session::SOON;
    let mut value = [0; 64];
    loop {
        match rustix::fs::getxattr(path, "user.worm.sha256", &mut value) {
            Ok(length) => return String::from_utf8(value[..length].to_vec()).unwrap(),
            Err(rustix::io::Errno::NODATA) if std::time::Instant::now() < deadline => {
                std::thread::yield_now();
            }
            Err(errno) => panic!("{}: {errno}", path.display()),
        }
    }
}

fn write_while_committing(path: &Path, round: usize) {
    let mut file = File::create_new(path).unwrap();
    file.write_all(&[1; 1000]).unwrap();
    let mut other = file.try_clone().unwrap();
    let (committed, written) = at_once(
        || raw::ioctl(&file, COMMIT),
        || {
            let mut written = 0;
            while other.write_all(&[2; 1000]).is_ok() {
                written += 1;
            }
            written
        },
    );
    committed.unwrap_or_else(|error| panic!("round {round}: {error}"));
    let mut bytes = Vec::new();
    File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    // What was acknowledged before the commit is in it, and nothing else is.
    assert_eq!(bytes.len(), 1000 + 1000 * written, "round {round}");
    assert_eq!(sha256(path), sealed(path), "round {round}");
}

fn create_while_removing(path: &Path, round: usize) {
    let directory = path.with_extension("d");
    std::fs::create_dir(&directory).unwrap();
    let inside = directory.join("x");
    let (made, removed) = at_once(
        || File::create_new(&inside).and_then(|mut file| file.write_all(b"bytes")),
        || std::fs::remove_dir(&directory),
    );
    match (made, removed) {
        (Ok(()), Err(error)) => {
            assert_eq!(errno(&error), libc::ENOTEMPTY, "round {round}");
            assert_eq!(std::fs::read(&inside).unwrap(), b"bytes", "round {round}");
        }
        (Err(error), Ok(())) => {
            assert_eq!(errno(&error), libc::ENOENT, "round {round}");
            assert!(!directory.exists(), "round {round}");
        }
        both => panic!("round {round}: {both:?}"),
    }
}
