//! What each class has of what is limited, with the files that are being written, and the room
//! that is left on the disk. Asked for each write, so neither takes the lock of `State`.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use crate::config::Size;
use crate::error::Error;
use crate::error::Result;
use crate::policy::Refusal;
use crate::policy::limits;
use crate::policy::limits::Amounts;
use crate::policy::limits::Limit;

/// The account of one class. Its lock is held for a few additions and never across anything
/// that waits.
#[derive(Debug, Default)]
pub(crate) struct Meter(Mutex<Account>);

#[derive(Debug, Default)]
struct Account {
    may_have: Amounts,
    /// As the catalog says.
    finished: Amounts,
    /// What is on its way into the catalog.
    shared_out: Amounts,
}

impl Meter {
    /// Follows the catalog and the disk.
    pub(crate) fn settle(&self, finished: Amounts, may_have: Amounts) {
        let mut account = self.0.lock();
        (account.finished, account.may_have) = (finished, may_have);
    }

    /// What the class has, and what it may have.
    pub(crate) fn amounts(&self) -> (Amounts, Amounts) {
        let account = self.0.lock();
        (account.finished.plus(account.shared_out), account.may_have)
    }

    /// Counts what is about to come, unless a limit says no. Asking and counting are one step,
    /// so no number of writers gets beyond a limit together.
    fn take(&self, more: Amounts) -> std::result::Result<(), Refusal> {
        let mut account = self.0.lock();
        let has = account.finished.plus(account.shared_out);
        limits::admit(has, more, account.may_have)?;
        account.shared_out = account.shared_out.plus(lasting(more));
        Ok(())
    }

    fn give_back(&self, less: Amounts) {
        let mut account = self.0.lock();
        account.shared_out = account.shared_out.minus(less);
    }
}

/// The length of one file adds up with no other.
fn lasting(amounts: Amounts) -> Amounts {
    amounts.with(Limit::FileBytes, 0)
}

/// What somebody takes of what a class may have, until the catalog counts it. Dropped, it is
/// given back.
#[derive(Debug)]
pub(crate) struct Share {
    meter: Arc<Meter>,
    held: Amounts,
}

impl Share {
    /// Takes something.
    ///
    /// # Errors
    /// [`Refusal::OverLimit`]
    pub(crate) fn of(meter: &Arc<Meter>, amounts: Amounts) -> std::result::Result<Self, Refusal> {
        meter.take(amounts)?;
        Ok(Self { meter: Arc::clone(meter), held: lasting(amounts) })
    }

    /// Takes more.
    ///
    /// # Errors
    /// [`Refusal::OverLimit`]
    pub(crate) fn grow(&mut self, more: Amounts) -> std::result::Result<(), Refusal> {
        self.meter.take(more)?;
        self.held = self.held.plus(lasting(more));
        Ok(())
    }

    /// Gives something back.
    pub(crate) fn shrink(&mut self, less: Amounts) {
        self.meter.give_back(less);
        self.held = self.held.minus(less);
    }

    /// Gives all back but this much.
    pub(crate) fn shrink_to(&mut self, left: Amounts) {
        self.shrink(self.held.minus(left));
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.meter.give_back(self.held);
    }
}

/// What a file that is being written takes of its class and of the disk.
#[derive(Debug)]
pub(crate) struct Allowance {
    share: Share,
    room: Arc<Room>,
    /// How long the file was at its longest, or how far room was reserved for it.
    reserved: u64,
    is_recorded: bool,
    is_closed: bool,
}

impl Allowance {
    pub(crate) fn new(share: Share, room: Arc<Room>) -> Self {
        Self { share, room, reserved: 0, is_recorded: false, is_closed: false }
    }

    /// That of a log, of which the catalog counts all but what is added from here on.
    pub(crate) fn of_log(share: Share, room: Arc<Room>, bytes: u64) -> Self {
        Self { reserved: bytes, ..Self::new(share, room) }
    }

    /// Takes what is needed to put so many bytes into a file that then reaches to `end`, and
    /// says by how much it grows.
    ///
    /// # Errors
    /// [`Refusal::NoRoom`], [`Refusal::OverLimit`], or what the disk says.
    pub(crate) fn take(&mut self, bytes: u64, end: u64) -> Result<u64> {
        // What is free is asked first: a full disk must look full.
        self.room.take(bytes)?;
        let growth = end.saturating_sub(self.reserved);
        if growth > 0 {
            self.share.grow(Amounts::growth(growth).with(Limit::FileBytes, end))?;
            self.reserved = end;
        }
        Ok(growth)
    }

    /// Gives growth back that did not come about.
    pub(crate) fn give_back(&mut self, growth: u64) {
        self.share.shrink(Amounts::growth(growth));
        self.reserved -= growth;
    }

    /// The catalog counts so much more of a log, and not we.
    pub(crate) fn is_covered(&mut self, bytes: u64) {
        self.share.shrink(Amounts::growth(bytes));
    }

    /// Whether room may be reserved behind a file of that length.
    pub(crate) fn reaches_beyond(&self, bytes: u64) -> bool {
        self.reserved > bytes
    }

    /// From here on the catalog counts the file, and not we.
    pub(crate) fn is_recorded(&mut self) {
        self.is_recorded = true;
        self.settle();
    }

    /// Its writer has no descriptor any more. Who only reads it takes none of its class.
    pub(crate) fn is_closed(&mut self) {
        self.is_closed = true;
        self.settle();
    }

    /// What was recorded and is not closed still takes a descriptor.
    fn settle(&mut self) {
        if self.is_recorded {
            let open_files = u64::from(!self.is_closed);
            self.share.shrink_to(Amounts::NONE.with(Limit::OpenFiles, open_files));
        }
    }
}

/// After so many bytes, or a quarter of what was free, the disk is asked again how much is left.
const LOOK_AGAIN_BYTES: u64 = 64 << 20;
/// Inodes that no class can take, on a disk that counts them: for the ledger and its snapshots.
const RESERVE_INODES: u64 = 64;

/// The disk that the store is on.
#[derive(Debug)]
pub(crate) struct Room {
    /// Somewhere on it.
    at: OwnedFd,
    reserve: Option<Size>,
    /// How many bytes may be written before it is asked again.
    budget: AtomicU64,
}

/// What the disk said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    /// Its size.
    pub(crate) disk_bytes: u64,
    /// What can be written before the reserve begins.
    pub(crate) free_bytes: u64,
    has_inodes: bool,
}

impl Look {
    /// Whether something new has room.
    ///
    /// # Errors
    /// [`Refusal::NoRoom`]
    pub(crate) fn admit(&self) -> std::result::Result<(), Refusal> {
        let fits = self.has_inodes && self.free_bytes >= limits::ENTRY_BYTES;
        if fits { Ok(()) } else { Err(Refusal::NoRoom) }
    }
}

impl Room {
    pub(crate) fn new(at: OwnedFd, reserve: Option<Size>) -> Self {
        Self { at, reserve, budget: AtomicU64::new(0) }
    }

    /// Asks the disk.
    ///
    /// # Errors
    /// What it says.
    pub(crate) fn look(&self) -> Result<Look> {
        let disk = rustix::fs::fstatvfs(&self.at).map_err(Error::store("ask for free room"))?;
        let disk_bytes = disk.f_blocks.saturating_mul(disk.f_frsize);
        let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        let reserve = limits::reserve(self.reserve, disk_bytes);
        // Some file systems make inodes as they need them, and count none.
        let has_inodes = disk.f_files == 0 || disk.f_favail > RESERVE_INODES;
        Ok(Look { disk_bytes, free_bytes: free_bytes.saturating_sub(reserve), has_inodes })
    }

    /// Refuses bytes that would go into the reserve.
    ///
    /// # Errors
    /// [`Refusal::NoRoom`], or what the disk says.
    pub(crate) fn take(&self, bytes: u64) -> Result<()> {
        let pay = |budget: u64| budget.checked_sub(bytes);
        if self.budget.fetch_update(Ordering::AcqRel, Ordering::Acquire, pay).is_ok() {
            return Ok(());
        }
        let free_bytes = self.look()?.free_bytes;
        let left = free_bytes.checked_sub(bytes).ok_or(Refusal::NoRoom)?;
        self.budget.store((left / 4).min(LOOK_AGAIN_BYTES), Ordering::Release);
        Ok(())
    }
}
