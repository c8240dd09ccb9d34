//! Snapshots: what was alive at the end of a segment, written out behind everybody's back.
//!
//! Nobody who writes waits for it: it is made from the ledger on the disk, not from the state.
//! The newest one that was read back is the one that a start needs; those before it go then.

use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

use super::WormFs;
use super::state::Undone;
use crate::record::Event;
use crate::record::Snapshot;
use crate::store::Ended;
use crate::sys;

impl WormFs {
    /// Begins to write a snapshot for each segment that ends, until the ledger takes no more. The
    /// start read snapshot `from`.
    pub(super) fn keep_snapshots(
        self: &Arc<Self>,
        ended: Receiver<Ended>,
        from: Option<u64>,
    ) -> std::io::Result<JoinHandle<()>> {
        let fs = Arc::downgrade(self);
        let keep = move || {
            sys::yield_to_others();
            if let (Some(fs), Some(from)) = (Weak::upgrade(&fs), from) {
                fs.remove_snapshots_before(from);
            }
            while let Ok(ended) = ended.recv() {
                let Some(fs) = Weak::upgrade(&fs) else { return };
                match fs.write_snapshot(ended) {
                    Ok(()) => fs.state.write().done(&Undone::Snapshot),
                    Err(_) if fs.is_ending() => return,
                    Err(why) => {
                        let why = format!("snapshot {:06} could not be made: {why}", ended.segment);
                        let alarm = format!("{why}; the next start takes longer");
                        fs.state.write().failed(Undone::Snapshot, alarm);
                    }
                }
            }
        };
        std::thread::Builder::new().name("snapshots".to_owned()).spawn(keep)
    }

    fn write_snapshot(&self, ended: Ended) -> Result<(), String> {
        let ending = || self.is_ending();
        let number = ended.segment;
        let catalog = self.store.state_after(ended, ending).map_err(|error| error.to_string())?;
        let Some(catalog) = catalog else { return Ok(()) };
        let written = self.store.write_snapshot(number, &catalog, ending);
        let Some((sha256, bytes)) = written.map_err(|error| error.to_string())? else {
            return Ok(());
        };
        let snapshot = Snapshot { number, up_to: ended.seq, sha256, bytes };
        self.store.read_back(&snapshot)?;
        // What was damaged and is whole again has its record.
        if self.state.read().catalog.snapshot.as_ref() != Some(&snapshot) {
            tracing::info!(number, bytes, seq = ended.seq, "snapshot");
            self.commit(vec![Event::Snapshot(snapshot)]).map_err(|error| error.to_string())?;
        }
        self.remove_snapshots_before(number);
        Ok(())
    }

    /// Removes what no start needs any more: snapshot `number` is there, recorded and under the
    /// signed head.
    fn remove_snapshots_before(&self, number: u64) {
        if let Err(error) = self.store.remove_snapshots_before(number) {
            tracing::warn!(%error, "older snapshots stay");
        }
    }

    /// Whether what runs in the background should stop.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Ends what runs in the background.
    pub(super) fn end_background(&self) {
        self.ending.store(true, Ordering::Relaxed);
        for thread in std::mem::take(&mut *self.background.lock()) {
            if thread.join().is_err() {
                tracing::error!("a thread in the background panicked");
            }
        }
    }
}
