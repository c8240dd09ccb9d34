//! Everything that a store can be asked for, once or twice, on a disk that may fail: each step is
//! noted with what was answered.

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use system_tests::powercut::Disk;
use system_tests::random::Random;
use system_tests::session::End;
use system_tests::session::Fd;
use system_tests::session::InProcess;
use system_tests::session::Session;
use worm_fs::clock::Clock as _;
use worm_fs::clock::HOUR_MS;
use worm_fs::fs::Control;

use super::facts::Directory;
use super::facts::Ending;
use super::facts::Facts;
use super::facts::File;
use super::facts::Span;

/// Lengths around all that matters: none, one write, the length from which another thread
/// digests, several pages.
const LENGTHS: [usize; 5] = [0, 10, 5_000, 70_000, 300_000];
/// What is written at a time.
const PIECE: usize = 100_000;

/// How the bytes get in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Order {
    Forward,
    /// The last piece first, so that the digest needs a second reading.
    Backward,
    /// In front of room that was reserved, and with a tail that is cut off again.
    Cut,
}

/// A run of the workload.
pub struct Work<'a> {
    worm: &'a InProcess,
    disk: &'a Disk,
    random: Random,
    pub facts: Facts,
}

impl<'a> Work<'a> {
    pub fn new(worm: &'a InProcess, disk: &'a Disk, seed: u64) -> Self {
        let mut work = Self { worm, disk, random: Random::new(seed), facts: Facts::default() };
        work.note_clock();
        work
    }

    fn worm(&self) -> &'a dyn Session {
        self.worm
    }

    fn note_clock(&mut self) {
        self.facts.clocks.push((self.disk.ops(), self.worm().clock().read()));
    }

    /// All of it. Whatever fails on the way is noted as not acknowledged.
    pub fn run(&mut self) {
        self.directory("hourly/dir");
        self.directory("hourly/dir/deep");
        for (number, length) in LENGTHS.into_iter().enumerate() {
            self.file(&format!("guest/close-{number}"), length, false, Ending::Close);
            self.file(&format!("hourly/dir/commit-{number}"), length, true, Ending::Commit);
        }
        self.remove_directory("hourly/dir/deep");
        for name in ["a.sql.gz", "a.sql.gz.sha256", "a.sql.gz.manifest.json"] {
            self.file(&format!("daily/{name}"), 5_000, true, Ending::Commit);
        }
        self.append(100, true);
        self.append(200, false);
        self.record_logs();
        self.append(40_000, true);
        self.extend("daily/a.sql.gz", "2026-01-30T00:00:00Z");
        self.file("hourly/retried", 5_000, true, Ending::Abort);
        self.file("hourly/retried", 10, true, Ending::Close);
        self.file("hourly/retried", 5_000, true, Ending::Commit);
        self.file("guest/left-open", 70_000, false, Ending::Never);
        self.append(300, false);
        self.restart(End::Crash);
        self.append(10, true);
        self.file("guest/brief", 10, false, Ending::Close);
        self.expire();
        self.file("guest/close-1", 300_000, false, Ending::Commit);
        self.unordered("hourly/backward", 300_000, Order::Backward, Ending::Close);
        self.unordered("hourly/cut", 70_000, Order::Cut, Ending::Commit);
        self.together();
        self.append(500, false);
        self.restart(End::Clean);
        self.append(20, true);
        self.append(30, false);
        self.file("hourly/last", 70_000, false, Ending::Close);
        self.file("guest/open-at-the-end", 5_000, true, Ending::Never);
    }

    fn append(&mut self, length: usize, sync: bool) {
        let (worm, disk): (&dyn Session, _) = (self.worm, self.disk);
        self.facts.log.append(worm, disk, length, sync);
    }

    /// So much time passes that what came to logs goes into the ledger.
    fn record_logs(&mut self) {
        self.worm().clock().advance(11_000);
        self.note_clock();
        self.worm().fs().record_logs();
    }

    fn directory(&mut self, path: &str) {
        let asked = self.disk.ops();
        let told = self.worm().mkdir(path.as_bytes(), 0o750).ok().map(|()| self.disk.ops());
        let made = Span { asked, told };
        self.facts.directories.push(Directory { path: path.to_owned(), made, removed: None });
    }

    fn remove_directory(&mut self, path: &str) {
        let asked = self.disk.ops();
        let told = self.worm().rmdir(path.as_bytes()).ok().map(|()| self.disk.ops());
        for directory in self.facts.directories.iter_mut().filter(|known| known.path == path) {
            directory.removed = Some(Span { asked, told });
        }
    }

    fn file(&mut self, path: &str, length: usize, begin: bool, ending: Ending) {
        let bytes = self.random.bytes(length);
        let file = put(self.worm(), self.disk, path, bytes, (begin, Order::Forward, ending));
        self.facts.files.push(file);
    }

    fn unordered(&mut self, path: &str, length: usize, order: Order, ending: Ending) {
        let bytes = self.random.bytes(length);
        let file = put(self.worm(), self.disk, path, bytes, (false, order, ending));
        self.facts.files.push(file);
    }

    /// Three at a time, so that one sync serves several.
    fn together(&mut self) {
        let contents: Vec<_> = (0..3).map(|_| self.random.bytes(5_000)).collect();
        let (worm, disk) = (self.worm(), self.disk);
        let files: Vec<File> = std::thread::scope(|scope| {
            let put = |(number, bytes): (usize, &Vec<u8>)| {
                let how = (true, Order::Forward, Ending::Commit);
                put(worm, disk, &format!("hourly/together-{number}"), bytes.clone(), how)
            };
            let threads = contents.iter().enumerate().map(|all| scope.spawn(move || put(all)));
            let threads: Vec<_> = threads.collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        self.facts.files.extend(files);
    }

    fn extend(&mut self, path: &str, until: &str) {
        let asked = self.disk.ops();
        let set = self.worm().setxattr(path.as_bytes(), "user.worm.retain_until", until.as_bytes());
        let span = Span { asked, told: set.ok().map(|()| self.disk.ops()) };
        for file in self.facts.files.iter_mut().filter(|file| file.path == path) {
            file.kept.push((span, until.to_owned()));
        }
    }

    /// More than an hour passes: what was sealed in `guest` is over.
    fn expire(&mut self) {
        self.worm().clock().advance(3 * HOUR_MS / 2);
        self.note_clock();
        self.remove("guest/close-0");
        let asked = self.disk.ops();
        let over = |file: &File| {
            file.path.starts_with("guest/")
                && file.ending == Ending::Close
                && file.removed.is_none()
        };
        let before: Vec<usize> =
            (0..self.facts.files.len()).filter(|at| over(&self.facts.files[*at])).collect();
        let outcome = self.housekeep();
        for at in before {
            // One of which nobody knows whether it was sealed is over, or incomplete.
            let sealed = self.facts.files[at].end.is_some_and(|span| span.told.is_some());
            let told = outcome.ok().filter(|()| sealed).map(|()| self.disk.ops());
            self.facts.files[at].removed = Some(Span { asked, told });
        }
    }

    fn housekeep(&self) -> Result<(), Errno> {
        while self.worm().fs().housekeep().map_err(|error| error.errno())? > 0 {}
        Ok(())
    }

    fn remove(&mut self, path: &str) {
        let asked = self.disk.ops();
        let told = self.worm().unlink(path.as_bytes()).ok().map(|()| self.disk.ops());
        for file in self.facts.files.iter_mut().filter(|file| file.path == path) {
            file.removed = Some(Span { asked, told });
        }
    }

    /// The daemon ends and another begins. A disk that has failed is repaired in between.
    fn restart(&mut self, end: End) {
        self.worm.stop(end);
        let repair = || {
            if self.disk.refused() > 0 {
                self.disk.fail(None);
            }
        };
        repair();
        if let Err(error) = self.worm.start() {
            // It failed only now.
            assert!(self.disk.refused() > 0, "{error}");
            repair();
            self.worm.start().unwrap_or_else(|error| panic!("start again: {error}"));
        }
    }
}

/// Puts one file in, as far as it goes.
fn put(
    worm: &dyn Session,
    disk: &Disk,
    path: &str,
    bytes: Vec<u8>,
    (begin, order, ending): (bool, Order, Ending),
) -> File {
    let made = disk.ops();
    let mut file = File {
        path: path.to_owned(),
        bytes,
        made,
        ending,
        broken: begin && ending == Ending::Close,
        end: None,
        kept: Vec::new(),
        removed: None,
    };
    let Ok(fd) = worm.create(path.as_bytes()) else {
        file.broken = true;
        return file;
    };
    if begin {
        worm.control(fd, Control::Begin).expect("begin: it needs no disk");
    }
    file.broken |= write(worm, fd, &file.bytes, order).is_err();
    let asked = disk.ops();
    let span = |told: bool| Some(Span { asked, told: told.then(|| disk.ops()) });
    match ending {
        Ending::Commit => {
            file.end = span(worm.control(fd, Control::Commit).is_ok());
            close(worm, fd);
        }
        Ending::Abort => {
            file.end = span(worm.control(fd, Control::Abort).is_ok());
            close(worm, fd);
        }
        Ending::Close => {
            // What `close` reports is of the writing; whether it is sealed the digest says.
            close(worm, fd);
            file.end = span(worm.worm(path.as_bytes(), "sha256").is_ok());
        }
        Ending::Never => {}
    }
    if let Some(span) = file.end.filter(|span| span.told.is_some() && ending != Ending::Abort)
        && let Ok(until) = worm.worm(path.as_bytes(), "retain_until")
    {
        file.kept.push((span, until));
    }
    let told = file.end.is_some_and(|span| span.told.is_some());
    assert!(!(told && file.broken && ending != Ending::Abort), "{path}: told that it is whole");
    file
}

/// A descriptor is gone after `close`, whatever it answers.
fn close(worm: &dyn Session, fd: Fd) {
    let _answer = worm.close(fd);
}

fn write(worm: &dyn Session, fd: Fd, bytes: &[u8], order: Order) -> Result<(), Errno> {
    let mut pieces: Vec<_> = (0..).step_by(PIECE).zip(bytes.chunks(PIECE)).collect();
    match order {
        Order::Forward => {}
        Order::Backward => pieces.reverse(),
        Order::Cut => {
            // Where there is no room nothing is spoilt.
            for flags in [FallocateFlags::KEEP_SIZE, FallocateFlags::empty()] {
                let _answer = worm.fallocate(fd, flags, 0, bytes.len() as u64);
            }
            worm.write_at(fd, b"to be cut off", bytes.len() as u64)?;
            worm.ftruncate(fd, bytes.len() as u64)?;
        }
    }
    for (offset, piece) in pieces {
        worm.write_at(fd, piece, offset as u64)?;
    }
    Ok(())
}
