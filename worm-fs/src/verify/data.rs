//! I/O: every byte of the files that should be there, and every name that is there.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::Kind;
use super::Problem;
use super::Progress;
use super::known::Known;
use super::known::KnownFile;
use crate::digest;
use crate::policy::name::StorePath;
use crate::record::Digest;
use crate::store::durable;
use crate::store::files;
use crate::store::files::Found;
use crate::store::layout;
use crate::store::layout::OpenName;

/// The directories of a store, as far as they are there.
pub(super) struct Disk {
    pub(super) root: OwnedFd,
    pub(super) ledger: Option<OwnedFd>,
    open: Option<OwnedFd>,
    data: Option<OwnedFd>,
}

/// What is wrong with one path.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    kind: Kind,
    what: String,
    /// SHA-256 of what stands there, where it was read.
    digest: Option<Digest>,
}

/// What is wrong, by path.
pub(super) type Findings = BTreeMap<StorePath, Finding>;

impl Finding {
    fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), digest: None }
    }

    fn add_origin(&mut self, text: &str) {
        if self.kind == Kind::Changed && !self.what.contains("; they are those of") {
            self.what.push_str(text);
        }
    }

    pub(super) fn problem(self, path: &StorePath) -> Problem {
        Problem { path: path.to_string(), kind: self.kind, what: self.what }
    }
}

impl Disk {
    /// Opens what is there; what is not is added to `problems`.
    pub(super) fn open(root: OwnedFd, problems: &mut Vec<Problem>) -> Self {
        let mut open = |name: &str| match durable::open_directory(&root, name.as_bytes()) {
            Ok(directory) => Some(directory),
            Err(error) => {
                let gone = error.kind() == io::ErrorKind::NotFound;
                let kind = if gone { Kind::Missing } else { Kind::Unreadable };
                let what = format!("it cannot be opened: {error}");
                problems.push(Problem { path: format!("{name}/"), kind, what });
                None
            }
        };
        let (ledger, data) = (open(layout::LEDGER), open(layout::DATA));
        let open = open(layout::OPEN);
        Self { root, ledger, open, data }
    }

    /// Names in `open/`.
    pub(super) fn open_names(&self) -> io::Result<Vec<Vec<u8>>> {
        let Some(open) = &self.open else { return Ok(Vec::new()) };
        Ok(files::scan(open)?.into_iter().map(|(name, _)| name).collect())
    }

    fn open_data(&self, path: &StorePath) -> io::Result<File> {
        let data = self.data.as_ref().ok_or(io::ErrorKind::NotFound)?;
        durable::open_file(data, path.as_bytes())
    }

    /// The data of a finished file. One that has not reached its place yet stands in `open/`.
    fn open_finished(&self, path: &StorePath, id: u64) -> io::Result<File> {
        match self.open_data(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened,
        }
        let is_it = |name: &Vec<u8>| OpenName::decode(name).is_some_and(|open| open.id == id);
        if let (Some(open), Some(name)) = (&self.open, self.open_names()?.into_iter().find(is_it))
            && let Ok(file) = durable::open_file(open, &name)
        {
            return Ok(file);
        }
        // Between the two looks it may have reached its place.
        self.open_data(path)
    }

    /// Everything in `data/`. What cannot be listed is a finding of its directory.
    fn list(&self, findings: &mut Findings) -> BTreeMap<StorePath, Found> {
        let (mut all, mut left) = (BTreeMap::new(), vec![StorePath::root()]);
        let Some(data) = &self.data else { return all };
        while let Some(path) = left.pop() {
            let listed =
                durable::open_directory(data, path.as_bytes()).and_then(|d| files::scan(&d));
            match listed {
                Ok(entries) => {
                    for (name, found) in entries {
                        let path = path.join(&name);
                        if found == Found::Directory {
                            left.push(path.clone());
                        }
                        all.insert(path, found);
                    }
                }
                // A daemon at work has removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let what = format!("it cannot be listed: {error}");
                    findings.insert(path, Finding::new(Kind::Unreadable, what));
                }
            }
        }
        all
    }
}

/// Compares names and bytes with what is known of them, with so many threads. The second value
/// is how many bytes at the ends of logs nobody has recorded yet.
pub(super) fn check(
    disk: &Disk,
    known: &Known,
    threads: usize,
    progress: &Progress,
) -> (Findings, u64) {
    let mut findings = Findings::new();
    let listed = disk.list(&mut findings);
    findings.extend(read_all(disk, known, threads, progress));
    findings.extend(names(known, &listed));
    let missing: HashSet<u64> = findings
        .iter()
        .filter(|(_, finding)| finding.kind == Kind::Missing)
        .filter_map(|(path, _)| Some(known.files.get(path)?.size))
        .collect();
    for (path, finding) in &mut findings {
        // Only what is as long as something that is missing can be that.
        let may_be = |found: &Found| matches!(found, Found::File(b) if missing.contains(b));
        if finding.kind == Kind::Added && listed.get(path).is_some_and(may_be) {
            finding.digest = disk.open_data(path).and_then(|file| digest_of(&file)).ok();
        }
    }
    renames(known, &mut findings);
    (findings, uncovered(known, &listed))
}

/// What came to logs after they were last recorded.
fn uncovered(known: &Known, listed: &BTreeMap<StorePath, Found>) -> u64 {
    let logs = known.files.iter().filter(|(_, file)| file.is_log);
    let uncovered = logs.map(|(path, file)| match listed.get(path) {
        Some(Found::File(bytes)) => bytes.saturating_sub(file.size),
        Some(Found::Directory | Found::Other) | None => 0,
    });
    uncovered.sum()
}

fn digest_of(file: &File) -> io::Result<Digest> {
    digest::of_reader(|buffer, offset| file.read_at(buffer, offset)).map(|(digest, _)| digest)
}

/// What stands in `data/` without a record, or as something else than was recorded. A directory
/// that is missing, or that nobody recorded, is none of this: a crash may leave that, and the next
/// start makes it, or removes it if it is empty. What stands in it counts by itself.
fn names(known: &Known, listed: &BTreeMap<StorePath, Found>) -> Findings {
    let mut findings = Findings::new();
    for (path, found) in listed {
        let (file, directory) = (known.files.contains_key(path), known.directories.contains(path));
        let (kind, what) = match found {
            Found::File(_) if file => continue,
            Found::Directory if !file => continue,
            // A crash came before its data went: the next start finishes that.
            _ if !file && !directory && known.leaving.contains(path) => continue,
            _ if !file && !directory && known.lines_lost => {
                (Kind::Added, "it was added, or its record is among the lost lines")
            }
            _ if !file && !directory => (Kind::Added, "it was added: nobody recorded it"),
            Found::Directory => (Kind::Changed, "it is a directory, not a file"),
            Found::File(_) => (Kind::Changed, "it is a file, not a directory"),
            Found::Other => (Kind::Changed, "it is neither a file nor a directory"),
        };
        findings.insert(path.clone(), Finding::new(kind, what));
    }
    findings
}

/// The biggest files first, so that the threads end together.
fn read_all(disk: &Disk, known: &Known, threads: usize, progress: &Progress) -> Findings {
    let mut tasks: Vec<(&StorePath, &KnownFile)> = known.files.iter().collect();
    // The record of a log comes before its data, and of what is incomplete nothing was promised.
    tasks.retain(|(_, file)| file.sha256.is_some() && !(file.is_log && file.size == 0));
    tasks.sort_by_key(|(_, file)| std::cmp::Reverse(file.size));
    let bytes = tasks.iter().map(|(_, file)| file.size);
    progress.total.store(bytes.sum(), Ordering::Relaxed);
    let (next, findings) = (AtomicUsize::new(0), Mutex::new(Findings::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while let Some((path, file)) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(finding) = read_one(disk, path, file, progress) {
                        findings.lock().insert((*path).clone(), finding);
                    }
                }
            });
        }
    });
    findings.into_inner()
}

fn read_one(
    disk: &Disk,
    path: &StorePath,
    known: &KnownFile,
    progress: &Progress,
) -> Result<(), Finding> {
    let unreadable =
        |error| Finding::new(Kind::Unreadable, format!("its data cannot be read: {error}"));
    let file = match disk.open_finished(path, known.id) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Finding::new(Kind::Missing, "it is missing: its data is gone"));
        }
        opened => opened.map_err(unreadable)?,
    };
    let changed = |what: String, digest| Finding { kind: Kind::Changed, what, digest };
    let read = |buffer: &mut [u8], offset| {
        let left = if known.is_log { known.size.saturating_sub(offset) } else { u64::MAX };
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let bytes = file.read_at(&mut buffer[..most], offset)?;
        progress.done.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    };
    let (sha256, bytes) = digest::of_reader(read).map_err(unreadable)?;
    if bytes != known.size {
        let what = format!("it was changed: it has {bytes} bytes, not {}", known.size);
        return Err(changed(what, Some(sha256)));
    }
    match known.sha256 {
        Some(wanted) if sha256 != wanted => {
            let what = format!("its bytes were changed: SHA-256 {sha256}, not {wanted}");
            Err(changed(what, Some(sha256)))
        }
        Some(_) | None => Ok(()),
    }
}

/// Bytes that are missing in one place and found in another.
fn renames(known: &Known, findings: &mut Findings) {
    let mut found: HashMap<Digest, StorePath> = HashMap::new();
    for (path, finding) in findings.iter() {
        let Some(digest) = finding.digest else { continue };
        // A name that nobody recorded says more than one that lost its own bytes.
        let better = |there: &StorePath| findings.get(there).is_some_and(|f| f.kind == Kind::Added);
        if !found.get(&digest).is_some_and(better) {
            found.insert(digest, path.clone());
        }
    }
    if found.is_empty() {
        return;
    }
    let mut named = Vec::new();
    for (path, file) in &known.files {
        let Some(there) = file.sha256.and_then(|sha256| found.get(&sha256)) else { continue };
        if let Some(finding) = findings.get_mut(path)
            && finding.kind == Kind::Missing
        {
            finding.kind = Kind::Renamed;
            finding.what = format!("it was renamed: its bytes are found as {there}");
            named.push(there.clone());
        }
        let origin = format!("; they are those of {path}");
        findings.entry(there.clone()).and_modify(|finding| finding.add_origin(&origin));
    }
    for there in named {
        if findings.get(&there).is_some_and(|finding| finding.kind == Kind::Added) {
            findings.remove(&there);
        }
    }
}
