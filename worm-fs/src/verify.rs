//! The checker: compares a store's disk with its ledger, and its ledger with its signed head.
//! It changes nothing, and may run while a daemon serves the store.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use crate::catalog::Catalog;
use crate::digest;
use crate::policy::name::StorePath;
use crate::record::Digest;
use crate::store::Access;
use crate::store::Loaded;
use crate::store::OpenError;
use crate::store::Store;
use crate::store::files::Found;
use crate::store::is_served;
use crate::store::layout::OpenName;

/// How often, and with what pause, a daemon at work is given time to sign.
const SIGNING_TRIES: u32 = 100;
/// See [`SIGNING_TRIES`].
const SIGNING_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// Something that is not as it should be.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, serde::Serialize)]
pub struct Problem {
    /// Where: a path below the mount, or a file of the store.
    pub path: String,
    /// What is wrong with it.
    pub what: String,
}

/// What a check found.
#[derive(Debug, Default, serde::Serialize)]
pub struct Report {
    /// The store's id; empty when it could not be opened.
    pub store: String,
    /// Lines of the ledger, all of which name the one before.
    pub lines: u64,
    /// How many of them the signed head covers.
    pub signed: u64,
    /// Sealed files whose bytes were read and compared.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Logs, of which the beginning that the ledger covers was read and compared.
    pub logs: u64,
    /// Bytes at the ends of logs that the ledger does not cover yet.
    pub uncovered: u64,
    /// Files that were never finished; nothing was promised about them.
    pub incomplete: u64,
    /// Files that are being written at this moment.
    pub open: u64,
    /// What is not as it should be.
    pub problems: Vec<Problem>,
}

/// How far a check is.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes to read.
    pub total: AtomicU64,
    /// Bytes read.
    pub done: AtomicU64,
}

/// One sealed file to read.
struct Task {
    id: u64,
    path: StorePath,
    size: u64,
    sha256: Digest,
    /// It may be longer.
    is_log: bool,
}

/// Checks a store with so many threads.
///
/// # Errors
/// When there is no store, or the disk fails. A damaged store is a [`Report`] with problems.
pub fn verify(path: &Path, threads: usize, progress: &Progress) -> Result<Report, OpenError> {
    let (store, loaded) = match Store::open(path, Access::Check) {
        Ok(opened) => opened,
        Err(OpenError::Damaged { what, .. }) => {
            let problem = Problem { path: path.display().to_string(), what };
            return Ok(Report { problems: vec![problem], ..Report::default() });
        }
        Err(error) => return Err(error),
    };
    let doing = |doing: &str| {
        let doing = format!("{doing} {}", path.display());
        move |source| OpenError::Disk { doing, source }
    };
    let mut report = Report {
        store: store.id.clone(),
        lines: loaded.catalog.seq,
        signed: loaded.signed,
        ..Report::default()
    };
    let open = store.scan_open().map_err(doing("list the open files of"))?;
    let data = store.scan_data().map_err(doing("list the data of"))?;
    let names = names(&loaded.catalog, &data);
    let tasks = tasks(&loaded.catalog, &mut report);
    report.uncovered = uncovered(&loaded.catalog, &data);
    progress.total.store(tasks.iter().map(|task| task.size).sum(), Ordering::Relaxed);
    let found = read_all(&store, &tasks, threads, progress);
    report.bytes = progress.done.load(Ordering::Relaxed);
    for (name, _) in open {
        match OpenName::decode(&name) {
            Some(_) => report.open += 1,
            None => report.problems.push(problem_of_open(&name)),
        }
    }
    // While a daemon serves the store it goes on: what differs may be what happened since.
    if !found.is_empty() || !names.is_empty() {
        let now = store.load()?.catalog;
        let leaving = |path: &StorePath| now.find(path).is_none() && was_removed(&now, path);
        let still = |path: &StorePath| now.find(path) == loaded.catalog.find(path);
        let misnamed = names.into_iter().filter(|(path, _)| still(path) && !leaving(path));
        let changed = found.into_iter().filter(|(path, _)| still(path));
        report.problems.extend(
            misnamed.chain(changed).map(|(path, what)| Problem { path: path.to_string(), what }),
        );
    }
    report.problems.extend(unsigned(&store, &loaded));
    let snapshots = loaded.findings.into_iter();
    report.problems.extend(snapshots.map(|(path, what)| Problem { path, what }));
    report.problems.sort();
    Ok(report)
}

/// Lines that the signed head does not reach. A daemon at work signs them in a moment; without
/// one, a crash may have left them, or somebody who has no key may have written them.
fn unsigned(store: &Store, loaded: &Loaded) -> Option<Problem> {
    let lines = loaded.catalog.seq + u64::from(loaded.end.bare);
    for _ in 0..SIGNING_TRIES {
        if store.head().is_ok_and(|head| head.seq >= lines) {
            return None;
        }
        if !is_served(&store.path) {
            break;
        }
        std::thread::sleep(SIGNING_PAUSE);
    }
    let what = format!(
        "lines {} to {lines} are not signed: a crash can leave a few, which the next daemon \
         signs; look at them before you mount",
        loaded.signed + 1
    );
    Some(Problem { path: "ledger".to_owned(), what })
}

fn was_removed(catalog: &Catalog, path: &StorePath) -> bool {
    catalog.removed.contains_key(path)
}

fn problem_of_open(name: &[u8]) -> Problem {
    let path = format!("open/{}", crate::policy::name::encode(name));
    Problem { path, what: "it is nothing that this file system would make".to_owned() }
}

/// What stands in `data/` without a record, or as something else than was recorded. A directory
/// that is missing, or that nobody recorded, is none of this: a crash may leave that, and the next
/// start makes it, or removes it if it is empty. What stands in it counts by itself.
fn names(catalog: &Catalog, data: &BTreeMap<StorePath, Found>) -> Vec<(StorePath, String)> {
    let mut problems = Vec::new();
    for (path, found) in data {
        let recorded = catalog.find(path);
        let is_file = recorded.is_some_and(|id| catalog.get_file(id).is_some());
        let what = match (found, recorded) {
            (Found::Directory, Some(_)) if !is_file => continue,
            (Found::File(_), Some(_)) if is_file => continue,
            (Found::Directory, None) => continue,
            (_, None) => "it was added: nobody recorded it",
            (Found::Directory, Some(_)) => "it is a directory, not a file",
            (Found::File(_), Some(_)) => "it is a file, not a directory",
            (Found::Other, Some(_)) => "it is neither a file nor a directory",
        };
        problems.push((path.clone(), what.to_owned()));
    }
    problems
}

/// The sealed files, biggest first, so that the threads end together.
fn tasks(catalog: &Catalog, report: &mut Report) -> Vec<Task> {
    let mut tasks = Vec::new();
    for (id, file) in catalog.files() {
        let is_log = catalog.is_log(id);
        report.logs += u64::from(is_log);
        match file.sha256 {
            // The record of a log comes before its data.
            Some(_) if is_log && file.size == 0 => {}
            Some(sha256) => {
                tasks.push(Task { id, path: catalog.path(id), size: file.size, sha256, is_log });
            }
            None => report.incomplete += 1,
        }
    }
    report.files = tasks.iter().filter(|task| !task.is_log).count() as u64;
    tasks.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.path.cmp(&b.path)));
    tasks
}

/// What came to logs after they were last recorded.
fn uncovered(catalog: &Catalog, data: &BTreeMap<StorePath, Found>) -> u64 {
    let logs = catalog.files().filter(|(id, _)| catalog.is_log(*id));
    let uncovered = logs.map(|(id, file)| match data.get(&catalog.path(id)) {
        Some(Found::File(bytes)) => bytes.saturating_sub(file.size),
        Some(Found::Directory | Found::Other) | None => 0,
    });
    uncovered.sum()
}

fn read_all(
    store: &Store,
    tasks: &[Task],
    threads: usize,
    progress: &Progress,
) -> Vec<(StorePath, String)> {
    let (next, problems) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(what) = read_one(store, task, progress) {
                        problems.lock().push((task.path.clone(), what));
                    }
                }
            });
        }
    });
    problems.into_inner()
}

fn read_one(store: &Store, task: &Task, progress: &Progress) -> Result<(), String> {
    let file = match store.open_data(&task.path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => waiting(store, task)?,
        opened => opened.map_err(|error| format!("its data cannot be opened: {error}"))?,
    };
    let read = |buffer: &mut [u8], offset| {
        let left = if task.is_log { task.size.saturating_sub(offset) } else { u64::MAX };
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let bytes = file.read_at(&mut buffer[..most], offset)?;
        progress.done.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    };
    let (sha256, bytes) =
        digest::of_reader(read).map_err(|error| format!("its data cannot be read: {error}"))?;
    if bytes != task.size {
        return Err(format!("it has {bytes} bytes, not {}", task.size));
    }
    if sha256 != task.sha256 {
        return Err(format!("its bytes were changed: SHA-256 {sha256}, not {}", task.sha256));
    }
    Ok(())
}

/// A file that is sealed but has not reached its place yet stands in `open/`.
fn waiting(store: &Store, task: &Task) -> Result<std::fs::File, String> {
    let gone = || "its data is gone".to_owned();
    let open = store.scan_open().map_err(|error| format!("open/ cannot be listed: {error}"))?;
    let name = open
        .into_iter()
        .find(|(name, _)| OpenName::decode(name).is_some_and(|open| open.id == task.id))
        .map(|(name, _)| name);
    // Between the two looks it may have reached its place.
    let opened = match name {
        Some(name) => store.open_unplaced(&name).or_else(|_moved| store.open_data(&task.path)),
        None => store.open_data(&task.path),
    };
    opened.map_err(|_gone| gone())
}
