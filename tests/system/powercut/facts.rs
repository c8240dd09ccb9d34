//! What a workload asked for and what it was told, each with its moment, and what must therefore
//! stand after a crash at any other moment.
//!
//! A moment is the number of requests that the disk had carried out.

use std::collections::BTreeMap;

use rustix::io::Errno;
use sha2::Digest as _;
use system_tests::session::Session;
use worm_fs::clock::Reading;

use super::logs::Log;

/// From when something may be there, and from when it must.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// It was asked for.
    pub asked: usize,
    /// It was acknowledged.
    pub told: Option<usize>,
}

impl Span {
    fn may_be(self, moment: usize) -> bool {
        self.asked < moment
    }

    fn must_be(self, moment: usize) -> bool {
        self.told.is_some_and(|told| told <= moment)
    }
}

/// How a file was ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ending {
    Commit,
    Close,
    Abort,
    /// It never was.
    Never,
}

/// One file on its way in. A path may have several, one after the other.
#[derive(Clone, Debug)]
pub struct File {
    pub path: String,
    pub bytes: Vec<u8>,
    pub made: usize,
    pub ending: Ending,
    /// Not all of its bytes were taken, or it ended in a way that cannot make it whole.
    pub broken: bool,
    pub end: Option<Span>,
    /// Until when it is kept, in system time, as it was told.
    pub kept: Vec<(Span, String)>,
    pub removed: Option<Span>,
}

impl File {
    fn sealed_for_sure(&self, moment: usize) -> bool {
        !self.broken && self.ending != Ending::Abort && self.end.is_some_and(|s| s.must_be(moment))
    }

    fn sealed_perhaps(&self, moment: usize) -> bool {
        !self.broken && self.ending != Ending::Abort && self.end.is_some_and(|s| s.may_be(moment))
    }

    fn gone_perhaps(&self, moment: usize) -> bool {
        self.removed.is_some_and(|span| span.may_be(moment))
    }

    fn gone_for_sure(&self, moment: usize) -> bool {
        self.removed.is_some_and(|span| span.must_be(moment))
    }

    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    fn class(&self) -> &str {
        self.path.split('/').next().unwrap_or_default()
    }
}

/// A directory that was made.
#[derive(Clone, Debug)]
pub struct Directory {
    pub path: String,
    pub made: Span,
    pub removed: Option<Span>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub files: Vec<File>,
    pub directories: Vec<Directory>,
    pub log: Log,
    /// The disk lost bytes that were never acknowledged.
    pub incomplete_may_lack_bytes: bool,
    /// What the clocks showed from which moment on.
    pub clocks: Vec<(usize, Reading)>,
}

/// What is seen of a file.
#[derive(Debug)]
struct Seen {
    state: String,
    bytes: Result<Vec<u8>, Errno>,
    sha256: Option<String>,
    kept: String,
}

/// All that a served store shows.
#[derive(Debug, Default)]
struct Listing {
    files: BTreeMap<String, Seen>,
    directories: Vec<String>,
}

impl Facts {
    /// What the clocks showed when the power was cut.
    pub fn clock(&self, moment: usize) -> Reading {
        let before = self.clocks.iter().rfind(|(from, _)| *from <= moment);
        before.unwrap_or(&self.clocks[0]).1.clone()
    }

    /// Whether a served store is what it must be after a crash at this moment; else what is
    /// wrong.
    pub fn check(&self, worm: &dyn Session, moment: usize) -> Result<(), String> {
        let listing = list(worm);
        self.check_directories(&listing, moment)?;
        let mut paths: BTreeMap<&str, Vec<&File>> = BTreeMap::new();
        for file in &self.files {
            paths.entry(&file.path).or_default().push(file);
        }
        for (path, files) in &paths {
            check_path(path, files, listing.files.get(*path), moment)?;
        }
        for (path, seen) in &listing.files {
            if path.contains("/.incomplete/") {
                self.check_incomplete(path, seen, moment)?;
            } else if !paths.contains_key(&path[..]) {
                return Err(format!("{path} came from nowhere"));
            }
        }
        self.log.check(worm, moment)?;
        self.check_given_up(&listing, moment)
    }

    fn check_directories(&self, listing: &Listing, moment: usize) -> Result<(), String> {
        for seen in &listing.directories {
            let known = self.directories.iter().any(|known| {
                known.path == *seen
                    && known.made.may_be(moment)
                    && !known.removed.is_some_and(|span| span.must_be(moment))
            });
            if !known {
                return Err(format!("directory {seen} came from nowhere"));
            }
        }
        for known in &self.directories {
            let gone = known.removed.is_some_and(|span| span.may_be(moment));
            if known.made.must_be(moment) && !gone && !listing.directories.contains(&known.path) {
                return Err(format!("directory {} is gone", known.path));
            }
        }
        Ok(())
    }

    /// As many as were given up, and no more: what was sealed does not come back here.
    fn check_incomplete(&self, path: &str, seen: &Seen, moment: usize) -> Result<(), String> {
        let (class, name) = path.split_once("/.incomplete/").unwrap_or_default();
        let meant = name.rsplit_once('.').unwrap_or_default().0;
        let possible = self.files.iter().any(|file| {
            (file.class(), file.name()) == (class, meant)
                && file.made < moment
                && !file.sealed_for_sure(moment)
                && !file.gone_for_sure(moment)
        });
        if !possible {
            return Err(format!("{path} was never given up"));
        }
        match (&seen.bytes, &seen.sha256) {
            (Err(Errno::IO), None) if self.incomplete_may_lack_bytes => Ok(()),
            (Ok(_), None) if seen.state == "incomplete" || seen.state == "expired" => Ok(()),
            _ => Err(format!("{path} is not as an incomplete file is: {}", seen.say())),
        }
    }

    /// What was aborted is there as it was, unless its bytes or its name could not be synced:
    /// nothing is promised of those.
    fn check_given_up(&self, listing: &Listing, moment: usize) -> Result<(), String> {
        if self.incomplete_may_lack_bytes {
            return Ok(());
        }
        for file in &self.files {
            let told = file.ending == Ending::Abort && file.end.is_some_and(|s| s.must_be(moment));
            if !told || file.broken || file.gone_perhaps(moment) {
                continue;
            }
            let start = format!("{}/.incomplete/{}.", file.class(), file.name());
            let kept = listing.files.iter().filter(|(path, _)| path.starts_with(&start));
            if !kept.into_iter().any(|(_, seen)| seen.bytes.as_ref() == Ok(&file.bytes)) {
                return Err(format!("{} was aborted, and nothing of it is kept", file.path));
            }
        }
        Ok(())
    }
}

/// What stands at one path against all files that had it.
fn check_path(
    path: &str,
    files: &[&File],
    seen: Option<&Seen>,
    moment: usize,
) -> Result<(), String> {
    let must = files.iter().find(|f| f.sealed_for_sure(moment) && !f.gone_perhaps(moment));
    let Some(seen) = seen else {
        return match must {
            Some(_) => Err(format!("{path} was acknowledged and is gone")),
            None => Ok(()),
        };
    };
    let is_it = |file: &&&File| {
        let digest = hex::encode(sha2::Sha256::digest(&file.bytes));
        file.sealed_perhaps(moment)
            && !file.gone_for_sure(moment)
            && seen.bytes.as_ref() == Ok(&file.bytes)
            && seen.sha256 == Some(digest)
    };
    let Some(file) = files.iter().find(is_it) else {
        let known: Vec<_> = files.iter().map(|file| file.say()).collect();
        return Err(format!("{path} is served as {}; known: {known:?}", seen.say()));
    };
    if must.is_some_and(|must| !std::ptr::eq(*must, *file)) {
        return Err(format!("{path} is another file than the one that was acknowledged"));
    }
    for (span, until) in &file.kept {
        if span.must_be(moment) && seen.kept < *until {
            return Err(format!("{path} is kept until {}, not {until}", seen.kept));
        }
    }
    Ok(())
}

impl Seen {
    fn say(&self) -> String {
        let bytes = self.bytes.as_ref().map(Vec::len);
        format!("{} with {bytes:?} bytes, {:?}, until {}", self.state, self.sha256, self.kept)
    }
}

impl File {
    fn say(&self) -> String {
        let (ending, bytes) = (self.ending, self.bytes.len());
        let Self { made, broken, end, removed, .. } = self;
        format!("{bytes} bytes, made {made}, {ending:?} {end:?}, broken {broken}, {removed:?}")
    }
}

/// Everything in the classes.
fn list(worm: &dyn Session) -> Listing {
    let mut listing = Listing::default();
    let mut left: Vec<String> = ["hourly", "daily", "guest"].map(str::to_owned).into();
    while let Some(directory) = left.pop() {
        let names = worm.list(directory.as_bytes());
        for name in names.unwrap_or_else(|errno| panic!("list {directory}: {errno:?}")) {
            let path = format!("{directory}/{}", String::from_utf8(name).expect("our names"));
            let at = path.as_bytes();
            let stat = worm.stat(at).unwrap_or_else(|errno| panic!("stat {path}: {errno:?}"));
            if stat.is_directory {
                if !path.ends_with("/.incomplete") {
                    listing.directories.push(path.clone());
                }
                left.push(path);
                continue;
            }
            let attribute = |name| worm.worm(at, name);
            let seen = Seen {
                state: attribute("state").expect("a file has a state"),
                bytes: worm.get(at),
                sha256: attribute("sha256").ok(),
                kept: attribute("retain_until").unwrap_or_default(),
            };
            listing.files.insert(path, seen);
        }
    }
    listing
}
