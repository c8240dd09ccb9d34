//! I/O: the audit log of the extractor, hash-chained JSON lines that are only ever added to.
//!
//! Each line is one write, synced before the next step. A restore may add its line while a run
//! adds its own: the file is locked for each line only, and what others added is read first.

pub mod chain;

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use jiff::Timestamp;
use rustix::fs::FlockOperation;

use crate::audit::chain::Break;
use crate::audit::chain::Chain;
use crate::audit::chain::Event;
use crate::durable;
use crate::error::Error;
use crate::error::Result;

/// Of half a line that is cut off, so much is kept in the line that says so.
const TORN_BYTES_KEPT: usize = 4096;

/// An audit log that was read to its end.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    file: File,
    chain: Chain,
    /// Where the last line that was followed ends.
    end: u64,
}

impl AuditLog {
    /// Opens or begins a log and follows its chain, handing each event to `see`.
    ///
    /// A broken chain is no error here: ask [`AuditLog::broken`].
    ///
    /// # Errors
    /// [`Error::Refused`] when the log cannot be opened for appending, [`Error::Io`] otherwise.
    pub fn open(path: &Path, see: impl FnMut(Event)) -> Result<Self> {
        let refused = |error: io::Error| {
            let path = path.display();
            Error::Refused(format!("cannot open the audit log {path}: {error} (see --audit)"))
        };
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o640)
            .open(path)
            .map_err(refused)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        durable::sync_dir(parent.unwrap_or(Path::new(".")))?;
        let mut log = Self { path: path.to_owned(), file, chain: Chain::default(), end: 0 };
        log.locked(|log| log.catch_up(see))?;
        Ok(log)
    }

    /// Follows the chain of a log and changes nothing. None if there is no log.
    ///
    /// # Errors
    /// [`Error::Refused`] when it cannot be opened, [`Error::Io`] when it cannot be read.
    pub fn read(path: &Path, see: impl FnMut(Event)) -> Result<Option<Chain>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let path = path.display();
                return Err(Error::Refused(format!(
                    "cannot read the audit log {path}: {error} (see --audit)"
                )));
            }
        };
        let mut log = Self { path: path.to_owned(), file, chain: Chain::default(), end: 0 };
        // Without the lock: a line that is being written is half a line, and passed over.
        log.catch_up(see)?;
        Ok(Some(log.chain))
    }

    /// Where the chain is broken, if it is.
    #[must_use]
    pub fn broken(&self) -> Option<&Break> {
        self.chain.broken.as_ref()
    }

    /// Adds a line, and returns when it is on disk.
    ///
    /// # Errors
    /// [`Error::Io`]; the log then ends as it did before, or in half a line that the next one cuts.
    pub fn append(&mut self, time: Timestamp, event: Event) -> Result<()> {
        self.locked(|log| {
            log.catch_up(|_| {})?;
            if let Some(torn) = log.cut_torn_line()? {
                log.write(time, Event::Recovered { torn })?;
            }
            log.write(time, event)
        })
    }

    fn locked(&mut self, act: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        rustix::fs::flock(&self.file, FlockOperation::LockExclusive)
            .map_err(self.failed_to("lock"))?;
        let outcome = act(self);
        rustix::fs::flock(&self.file, FlockOperation::Unlock).map_err(self.failed_to("unlock"))?;
        outcome
    }

    /// Follows the whole lines that were added since.
    fn catch_up(&mut self, mut see: impl FnMut(Event)) -> Result<()> {
        let mut file = &self.file;
        let len = file.metadata().map_err(self.failed_to("look at"))?.len();
        if len < self.end {
            let what = "was the last one, then the log was cut short";
            let _first = self.chain.broken.get_or_insert(Break { line: self.chain.lines, what });
            self.end = len;
        }
        let _at = file.seek(SeekFrom::Start(self.end)).map_err(self.failed_to("read"))?;
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.read_until(b'\n', &mut line).map_err(self.failed_to("read"))?;
            if line.last() != Some(&b'\n') {
                return Ok(());
            }
            self.end += read as u64;
            if let Some(event) = self.chain.follow(&line) {
                see(event);
            }
        }
    }

    /// Cuts off what follows the last newline: a line whose writer died, and never answered for.
    fn cut_torn_line(&mut self) -> Result<Option<String>> {
        let mut file = &self.file;
        let len = file.metadata().map_err(self.failed_to("look at"))?.len();
        if len == self.end {
            return Ok(None);
        }
        let _at = file.seek(SeekFrom::Start(self.end)).map_err(self.failed_to("read"))?;
        let mut torn = Vec::new();
        let _read = file
            .take(TORN_BYTES_KEPT as u64)
            .read_to_end(&mut torn)
            .map_err(self.failed_to("read"))?;
        file.set_len(self.end).map_err(self.failed_to("cut half a line off"))?;
        Ok(Some(String::from_utf8_lossy(&torn).into_owned()))
    }

    fn write(&mut self, time: Timestamp, event: Event) -> Result<()> {
        let line = self.chain.next(time, event).map_err(|error| {
            Error::Failed(format!("cannot write the audit log {}: {error}", self.path.display()))
        })?;
        let mut file = &self.file;
        let written = file.write_all(&line).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // Half a line would be cut by the next writer, too; this is only tidier.
            drop(file.set_len(self.end));
            return Err(self.failed_to("write")(error));
        }
        self.end += line.len() as u64;
        let _event = self.chain.follow(&line);
        Ok(())
    }

    fn failed_to<E: Into<io::Error>>(&self, verb: &str) -> impl FnOnce(E) -> Error + use<E> {
        Error::io(format!("{verb} the audit log {}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::chain::Run;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn run(bytes: u64) -> Event {
        Event::Run(Run { bytes, ..Run::default() })
    }

    fn read(path: &Path) -> (Vec<Event>, Option<u64>) {
        let mut events = Vec::new();
        let log = AuditLog::open(path, |event| events.push(event)).unwrap();
        (events, log.broken().map(|found| found.line))
    }

    #[test]
    fn two_writers_share_one_chain() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut first = AuditLog::open(&path, |_| {}).unwrap();
        let mut second = AuditLog::open(&path, |_| {}).unwrap();
        first.append(NOW, run(1)).unwrap();
        second.append(NOW, run(2)).unwrap();
        first.append(NOW, run(3)).unwrap();
        assert_eq!(read(&path), (vec![run(1), run(2), run(3)], None));
    }

    #[test]
    fn half_a_line_is_cut_and_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        AuditLog::open(&path, |_| {}).unwrap().append(NOW, run(1)).unwrap();
        File::options().append(true).open(&path).unwrap().write_all(b"{\"prev\":\"ab").unwrap();
        assert_eq!(read(&path), (vec![run(1)], None));
        AuditLog::open(&path, |_| {}).unwrap().append(NOW, run(2)).unwrap();
        let torn = Event::Recovered { torn: "{\"prev\":\"ab".to_owned() };
        assert_eq!(read(&path), (vec![run(1), torn, run(2)], None));
    }

    #[test]
    fn a_break_stays_and_the_log_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = AuditLog::open(&path, |_| {}).unwrap();
        log.append(NOW, run(1)).unwrap();
        log.append(NOW, run(2)).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let forged = text.replacen("\"bytes\":1", "\"bytes\":9", 1);
        File::create_new(&path).unwrap().write_all(forged.as_bytes()).unwrap();
        AuditLog::open(&path, |_| {}).unwrap().append(NOW, run(3)).unwrap();
        let (events, broken) = read(&path);
        assert_eq!((events.len(), broken), (3, Some(2)));
    }
}
