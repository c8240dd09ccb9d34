//! What a workload appended to a log, and what must be there of it after a crash.

use rustix::fs::OFlags;
use rustix::io::Errno;
use system_tests::powercut::Disk;
use system_tests::session::Session;

/// The log, in its own place and in the view.
const NAME: &[u8] = b"app.log";
/// See [`NAME`].
const IN_VIEW: &[u8] = b"logs/app.log";

/// The log that a workload writes.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// From when it may be there.
    asked: Option<usize>,
    /// What was served when a sync was acknowledged, and at which moment.
    synced: Vec<(usize, Vec<u8>)>,
}

impl Log {
    /// Appends a line of so many bytes, and may wait until the disk has it.
    pub fn append(&mut self, worm: &dyn Session, disk: &Disk, length: usize, sync: bool) {
        let letter = b'a' + u8::try_from(self.synced.len()).expect("a few lines");
        let line = [vec![letter; length], b"\n".to_vec()].concat();
        self.asked.get_or_insert(disk.ops());
        // A failing disk refuses it; then nothing was promised.
        let Ok(told) = append(worm, &line, sync) else { return };
        if told {
            let served = worm.view().get(IN_VIEW).expect("what was synced can be read");
            assert!(served.ends_with(&line), "what was synced is not at its end");
            assert!(served.starts_with(self.last()), "it does not begin as it did");
            self.synced.push((disk.ops(), served));
        }
    }

    fn last(&self) -> &[u8] {
        self.synced.last().map_or(&[], |(_, bytes)| bytes)
    }

    /// Whether a served store has of it what it must after a crash at this moment.
    pub fn check(&self, worm: &dyn Session, moment: usize) -> Result<(), String> {
        let must = self.synced.iter().rfind(|(told, _)| *told <= moment);
        let must = must.map(|(_, bytes)| &bytes[..]);
        let state = worm.view().worm(IN_VIEW, "state");
        match (worm.view().get(IN_VIEW), must) {
            (Err(Errno::NOENT), None) => Ok(()),
            (Ok(_), _) if self.asked.is_none_or(|asked| asked >= moment) => {
                Err("a log came from nowhere".to_owned())
            }
            (Ok(_), _) if state.as_deref() != Ok("appending") => Err(format!("a log is {state:?}")),
            (Ok(bytes), must) if bytes.starts_with(must.unwrap_or_default()) => Ok(()),
            (found, must) => {
                let found = found.map(|bytes| bytes.len());
                let must = must.map(<[u8]>::len);
                Err(format!("a log has {found:?} bytes, and not the {must:?} that were synced"))
            }
        }
    }
}

/// Whether it was synced.
fn append(worm: &dyn Session, line: &[u8], sync: bool) -> Result<bool, Errno> {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::APPEND;
    let fd = worm.logs().open(NAME, flags, 0o640)?;
    let written = worm.logs().write(fd, line).and_then(|bytes| {
        assert_eq!(bytes, line.len(), "a line is taken whole or not at all");
        if sync { worm.logs().fsync(fd).map(|()| true) } else { Ok(false) }
    });
    // A descriptor is gone after `close`, whatever it answers.
    let _answer = worm.logs().close(fd);
    written
}
