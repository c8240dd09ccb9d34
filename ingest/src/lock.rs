//! One run at a time for one database: a lock file on this host, and a lock in the database for
//! agents on other hosts. Both go with the process that holds them, however it ends.

use std::fs::File;
use std::io;
use std::io::Read;
use std::io::Seek;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::fs::OFlags;
use rustix::io::Errno;
use sha2::Digest;
use sha2::Sha256;
use tokio_postgres::Client;

use crate::config::Config;
use crate::error::Error;

/// The first half of the number of our lock in a database: "worm" in ASCII. Locks of a database
/// belong to it alone, so the second half need not name it.
const NAMESPACE: i32 = i32::from_be_bytes(*b"worm");
/// The second half: what is locked.
const BACKUP: i32 = 1;
/// Who waits looks again so often.
const EVERY: Duration = Duration::from_secs(1);
/// More is not read of what a lock file says.
const WORDS: u64 = 200;

const TRY: &str = "SELECT pg_catalog.pg_try_advisory_lock($1, $2)";
const WHO: &str = "SELECT coalesce(a.application_name, '?') \
     || ' at ' || coalesce(host(a.client_addr), 'its unix socket') \
     || ', server process ' || l.pid::text \
     FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a USING (pid) \
     WHERE l.locktype = 'advisory' AND l.classid::bigint = $1 AND l.objid::bigint = $2 \
     AND l.objsubid = 2 AND l.granted \
     AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) \
     LIMIT 1";

/// A lock on this host, until it is dropped.
#[derive(Debug)]
pub(crate) struct HostLock {
    _file: Option<File>,
}

/// Where lock files are when nobody names one: the first that can be written.
const DIRECTORIES: [&str; 3] = ["/run/lock", "/run", "/tmp"];

/// Takes the lock of this host for a run of the agent that is set up so. Where no lock file can be,
/// the lock in the database has to do.
///
/// # Errors
/// As [`host`].
pub(crate) async fn for_run(config: &Config) -> Result<HostLock, Error> {
    let user = rustix::process::geteuid().as_raw().to_string();
    let (port, backups) = (config.target.port.to_string(), config.backups.to_string_lossy());
    let what = [&user, &config.target.host, &port, &config.target.database, &*backups];
    let path = match &config.lock_file {
        Some(path) => Some(path.clone()),
        None => default_path(&DIRECTORIES.map(PathBuf::from), &what),
    };
    match path {
        Some(path) => host(&path, config.wait).await,
        None => {
            tracing::debug!("no lock file: none of {DIRECTORIES:?} can be written");
            Ok(HostLock { _file: None })
        }
    }
}

/// Where the lock file is when nobody names one: the same for every agent of this user that backs
/// up the same databases into the same place.
fn default_path(directories: &[PathBuf], what: &[&str]) -> Option<PathBuf> {
    let mut digest = Sha256::new();
    for word in what {
        digest.update(word.as_bytes());
        digest.update([0]);
    }
    let name = format!("worm-ingest-{}.lock", &hex::encode(digest.finalize())[..16]);
    let usable = |directory: &&PathBuf| {
        rustix::fs::access(*directory, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
            .is_ok()
    };
    Some(directories.iter().find(usable)?.join(name))
}

/// Takes the lock of this host. With `wait`, waits for whoever has it.
///
/// # Errors
/// [`Error::Busy`] when somebody has it, [`Error::Lock`] when the file cannot be used.
async fn host(path: &Path, wait: bool) -> Result<HostLock, Error> {
    let failed = |source: io::Error| Error::Lock { path: path.to_owned(), source };
    let mut file = open(path).map_err(failed)?;
    let mut told = false;
    loop {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK) => {
                let who = format!("{} ({})", holder(&mut file), path.display());
                if !wait {
                    return Err(Error::Busy { who });
                }
                if !told {
                    tracing::info!(who, "waiting for another run to end");
                }
                told = true;
                tokio::time::sleep(EVERY).await;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
    }
    // Only to be told to others; the lock holds without it.
    if let Err(error) = note(&mut file) {
        tracing::debug!(%error, "the lock file does not say who holds it");
    }
    Ok(HostLock { _file: Some(file) })
}

/// Takes the lock of the database that `session` is in, for as long as the session lasts.
///
/// # Errors
/// [`Error::Busy`] when somebody has it.
pub(crate) async fn database(session: &Client, wait: bool) -> Result<(), Error> {
    let failed =
        |error: tokio_postgres::Error| Error::Query { message: crate::error::chain(&error) };
    let mut told = false;
    loop {
        let row = session.query_one(TRY, &[&NAMESPACE, &BACKUP]).await.map_err(failed)?;
        if row.try_get(0).map_err(failed)? {
            return Ok(());
        }
        let numbers = [i64::from(NAMESPACE), i64::from(BACKUP)];
        let row = session.query_opt(WHO, &[&numbers[0], &numbers[1]]).await.map_err(failed)?;
        let who: Option<String> = match row {
            Some(row) => row.try_get(0).map_err(failed)?,
            None => None,
        };
        let who = who.unwrap_or_else(|| "it has ended just now".to_owned());
        if !wait {
            return Err(Error::Busy { who });
        }
        if !told {
            tracing::info!(who, "waiting for another run to end");
        }
        told = true;
        tokio::time::sleep(EVERY).await;
    }
}

/// Never through a link, and never a file that another user has put there.
fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut options = File::options();
    let file =
        options.read(true).write(true).create(true).mode(0o600).custom_flags(flags).open(path)?;
    let found = rustix::fs::fstat(&file)?;
    let ours = found.st_uid == rustix::process::geteuid().as_raw();
    if !ours || !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file of ours"));
    }
    Ok(file)
}

fn holder(file: &mut File) -> String {
    let mut words = String::new();
    let read = file.rewind().and_then(|()| file.take(WORDS).read_to_string(&mut words));
    let words = words.trim();
    if read.is_err() || words.is_empty() { "another agent".to_owned() } else { words.to_owned() }
}

fn note(file: &mut File) -> io::Result<()> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let words = format!("worm-ingest, process {} on {}\n", std::process::id(), host.trim());
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(words.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_second_is_told_who_the_first_is_and_comes_later() {
        let directory = tempfile::tempdir().unwrap();
        let path = default_path(&[directory.path().to_owned()], &["host", "app"]).unwrap();
        let first = host(&path, false).await.unwrap();
        let error = host(&path, false).await.unwrap_err();
        assert_eq!(error.exit().number(), 7);
        let process = format!("process {} on", std::process::id());
        assert!(error.to_string().contains(&process), "{error}");

        let waiting = host(&path, true);
        let (second, ()) = tokio::join!(waiting, async { drop(first) });
        assert!(second.is_ok());
    }

    #[tokio::test]
    async fn a_file_of_another_kind_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(directory.path().join("target"), &link).unwrap();
        assert!(matches!(host(&link, false).await, Err(Error::Lock { .. })));
        assert!(!directory.path().join("target").exists());
        let absent = Path::new("/nonexistent/lock");
        assert_eq!(host(absent, false).await.unwrap_err().exit().number(), 4);
    }

    #[test]
    fn the_default_is_the_first_directory_that_can_be_written() {
        let directory = tempfile::tempdir().unwrap();
        let directories = [PathBuf::from("/nonexistent"), directory.path().to_owned()];
        let path = default_path(&directories, &["a", "b"]).unwrap();
        assert_eq!(path.parent(), Some(directory.path()));
        assert_ne!(Some(path), default_path(&directories, &["ab", ""]));
        assert_eq!(default_path(&directories[..1], &["a"]), None);
    }
}
