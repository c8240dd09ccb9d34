//! Reading everything again, now and then, in the background: what a disk has lost in silence is
//! found while a mirror still has it. A file that is not what was sealed is an alarm and nothing
//! more; it is never removed for that.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use rustix::fs::Advice;
use rustix::fs::OFlags;
use rustix::io::Errno;
use sha2::Digest as _;
use sha2::Sha256;

use super::WormFs;
use super::read::waiting;
use crate::catalog::Pass;
use crate::clock::SECOND_MS;
use crate::config::Scrub;
use crate::error::Result;
use crate::record::Digest;
use crate::record::Event;
use crate::sys;

/// Bytes read at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// Direct reads want memory, offset and length in multiples of the disk's blocks.
const ALIGNMENT: usize = 4096;
/// How often the progress of a pass is noted in the ledger.
const NOTE_MS: i64 = 600 * SECOND_MS;
/// How often at most a damage that was found or settled is noted.
const DAMAGE_NOTE_MS: i64 = 60 * SECOND_MS;
/// The most damaged files that a line names: it must fit.
const DAMAGED_MAX: usize = 2000;

/// Whether the scrub may go on after a rest of that length. It ends at once when it may not.
pub type Rest<'a> = &'a dyn Fn(Duration) -> bool;

/// What became of reading one file.
enum Read {
    /// It is what was sealed.
    Right,
    /// It is not, and why.
    Wrong(String),
    /// It is not there any more, and needs not be.
    Gone,
    /// The scrub was told to end.
    Ended,
}

/// A pass under way.
struct Work {
    pass: Pass,
    damaged: BTreeSet<u64>,
    /// When a line was written last, on the uptime clock.
    noted_ms: i64,
    /// What that said of damage.
    noted: BTreeSet<u64>,
}

impl WormFs {
    /// Makes the calling thread one that waits for all others.
    pub fn yield_to_others() {
        sys::yield_to_others();
    }

    /// Reads what is due, and says when it wants to be called again, in milliseconds from now; it
    /// rests between the pieces. A pass that a restart has interrupted goes on.
    ///
    /// # Errors
    /// When the progress cannot be recorded. What is wrong with a file is an alarm.
    pub fn scrub(&self, rule: &Scrub, rest: Rest<'_>) -> Result<i64> {
        if self.committer.is_none() || rule.interval == 0 {
            return Ok(i64::MAX);
        }
        let now_ms = self.now_ms();
        let (pass, left) = {
            let state = self.state.read();
            let pass = state.catalog.pass.clone();
            let left = state.catalog.to_read(&pass);
            (pass, left)
        };
        let next_ms = pass.began_ms.saturating_add(rule.interval);
        if !left.is_empty() {
            tracing::info!(files = left.len(), "the scrub goes on");
            self.read_all(rule, rest, pass, left)?;
        } else if now_ms >= next_ms {
            let pass = pass.next(now_ms);
            let left = self.state.read().catalog.to_read(&pass);
            tracing::info!(files = left.len(), "a scrub begins");
            self.read_all(rule, rest, pass, left)?;
        } else {
            return Ok(next_ms - now_ms);
        }
        Ok(0)
    }

    fn read_all(&self, rule: &Scrub, rest: Rest<'_>, pass: Pass, left: Vec<u64>) -> Result<()> {
        let damaged: BTreeSet<u64> = pass.damaged.iter().copied().collect();
        let (noted_ms, noted) = (self.clock.read().raw_ms, damaged.clone());
        let mut work = Work { pass, damaged, noted_ms, noted };
        for id in left {
            match self.read_again(rule, rest, id) {
                Read::Right => {
                    work.damaged.remove(&id);
                    self.state.write().found_right(id);
                }
                Read::Wrong(what) => {
                    work.damaged.insert(id);
                    self.state.write().damage(id, &what);
                }
                Read::Gone => drop(work.damaged.remove(&id)),
                // A damage that was found must not be forgotten.
                Read::Ended if work.damaged != work.noted => return self.note(&mut work),
                Read::Ended => return Ok(()),
            }
            work.pass.through = id;
            let waited_ms = self.clock.read().raw_ms.saturating_sub(work.noted_ms);
            let changed = work.damaged != work.noted;
            if waited_ms >= NOTE_MS || (changed && waited_ms >= DAMAGE_NOTE_MS) {
                self.note(&mut work)?;
            }
        }
        self.note(&mut work)
    }

    /// Records how far the pass is.
    fn note(&self, work: &mut Work) -> Result<()> {
        let alive = {
            let state = self.state.read();
            let alive = |id: &&u64| state.catalog.get_file(**id).is_some();
            work.damaged.iter().filter(alive).copied().collect::<BTreeSet<u64>>()
        };
        let damaged = alive.iter().copied().take(DAMAGED_MAX).collect();
        let Pass { began_ms, through, .. } = work.pass;
        self.commit(vec![Event::Scrubbed { pass_ms: began_ms, through, damaged }])?;
        work.noted_ms = self.clock.read().raw_ms;
        (work.noted, work.damaged) = (alive.clone(), alive);
        Ok(())
    }

    fn read_again(&self, rule: &Scrub, rest: Rest<'_>, id: u64) -> Read {
        let found = {
            let state = self.state.read();
            state.catalog.get_file(id).map(|file| {
                let (size, is_log) = (file.size, state.catalog.is_log(id));
                (state.catalog.path(id), size, file.sha256, is_log, waiting(&state, id))
            })
        };
        let Some((path, size, sha256, is_log, waiting)) = found else { return Read::Gone };
        // The record of a log comes before its data, and the log goes on after what is recorded.
        if is_log && size == 0 {
            return Read::Right;
        }
        let most = if is_log { size } else { u64::MAX };
        let file = self.open_finished(&path, &waiting);
        let read = file.and_then(|file| digest(&file, most, rule, rest));
        let what = match read {
            Ok(None) => return Read::Ended,
            Ok(Some((digest, bytes))) if bytes == size && Some(digest) == sha256 => {
                return Read::Right;
            }
            Ok(Some((_, bytes))) if bytes != size => {
                format!("its data has {bytes} bytes, not {size}")
            }
            Ok(Some(_)) => "its bytes are not those that were sealed".to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => "its data is gone".to_owned(),
            Err(error) => format!("its data cannot be read: {error}"),
        };
        // It may have been removed meanwhile.
        let state = self.state.read();
        if state.catalog.get_file(id).is_none() || state.leaving.contains(&id) {
            return Read::Gone;
        }
        Read::Wrong(what)
    }
}

/// The digest and the length of a file, or of its first `most` bytes, from the disk where that can be; `None` when there is no
/// time for it any more.
fn digest(
    file: &File,
    most: u64,
    rule: &Scrub,
    rest: Rest<'_>,
) -> io::Result<Option<(Digest, u64)>> {
    let flags = rustix::fs::fcntl_getfl(file)?;
    // What the page cache holds says nothing about the disk, and is not ours to push out.
    let mut direct = rustix::fs::fcntl_setfl(file, flags | OFlags::DIRECT).is_ok();
    let mut memory = vec![0; CHUNK_BYTES + ALIGNMENT];
    let skipped = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
    let buffer = &mut memory[skipped..skipped + CHUNK_BYTES];
    let (mut hasher, mut offset) = (Sha256::new(), 0);
    loop {
        let bytes = match file.read_at(buffer, offset) {
            Ok(bytes) => bytes.min(usize::try_from(most - offset).unwrap_or(usize::MAX)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // The disk wants it otherwise, or the end is no multiple of its blocks.
            Err(error) if direct && Errno::from_io_error(&error) == Some(Errno::INVAL) => {
                rustix::fs::fcntl_setfl(file, flags)?;
                direct = false;
                continue;
            }
            Err(error) => return Err(error),
        };
        if !direct && bytes > 0 {
            let read = std::num::NonZero::new(bytes as u64);
            let dropped = rustix::fs::fadvise(file, offset, read, Advice::DontNeed);
            tracing::trace!(?dropped);
        }
        if bytes == 0 {
            return Ok(Some((Digest(hasher.finalize().into()), offset)));
        }
        hasher.update(&buffer[..bytes]);
        offset += bytes as u64;
        if !rest(Duration::from_nanos(rule.rest_ns(bytes as u64))) {
            return Ok(None);
        }
    }
}
