//! `.worm` in the view: the signed head, `store.json` and the ledger, to be carried away by
//! whoever can read backups. It shows only what the head covers, and grows as that does.
//!
//! The newest head that was read here is kept beside the store's own, so that a restart does not
//! forget how much nobody has carried away. It is evidence of reading, not of where that went.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use super::Attributes;
use super::Content;
use super::HandleId;
use super::Kind;
use super::Life;
use super::Place;
use super::WormFs;
use super::handles::Handle;
use super::read::Entry;
use super::state::State;
use crate::catalog::ROOT;
use crate::error::Error;
use crate::error::Result;
use crate::record::Keys;
use crate::store::Store;
use crate::store::layout;
use crate::store::ledger::End;
use crate::store::note::Head;

/// The name of the directory in the view's root.
pub(crate) const NAME: &[u8] = b".worm";
/// Numbers from here on are none of files and directories that were made.
const FIRST_ID: u64 = 1 << 62;
/// Where the numbers of segments begin.
const FIRST_SEGMENT_ID: u64 = FIRST_ID + (1 << 32);

/// Something in `.worm`, or that itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Item {
    /// `.worm`
    Root,
    /// `.worm/head`
    Head,
    /// `.worm/store.json`
    StoreJson,
    /// `.worm/ledger`
    Ledger,
    /// `.worm/ledger/000001.jsonl`, by its number from 1.
    Segment(u64),
}

/// A small file as it was when it was opened.
#[derive(Debug)]
pub(crate) struct Text {
    bytes: Arc<[u8]>,
    /// How far the head that this is reaches.
    carries: Option<u64>,
}

/// The newest head that was read through a view to its end.
#[derive(Debug, Default)]
pub(crate) struct Carried {
    /// The line that it names; 0 when none was read.
    seq: u64,
    head: Arc<[u8]>,
    /// The line of the one that is on the disk.
    kept: u64,
}

impl Carried {
    /// As a store keeps it. What is no head of this store is worth nothing.
    pub(crate) fn of(store: &Store, keys: &Keys) -> Self {
        let forgotten = |error| {
            tracing::warn!(%error, "which head was carried away is not known any more");
            Self::default()
        };
        let (note, claimed) = match store.carried() {
            Ok(None) => return Self::default(),
            Ok(Some(kept)) => kept,
            Err(error) => return forgotten(error),
        };
        match keys.verify(&claimed) {
            Ok(Head { seq, .. }) => Self { seq, head: note.into_bytes().into(), kept: seq },
            Err(error) => forgotten(error),
        }
    }

    /// What is wrong when the signed head reaches no further than line `signed`: every head that
    /// was shown was on the disk.
    pub(crate) fn contradicts(&self, signed: u64) -> Option<String> {
        let Self { seq, .. } = self;
        (*seq > signed).then(|| {
            format!(
                "a head that was read through the view names line {seq}, and the ledger has \
                 {signed}: the store was rolled back to an older copy"
            )
        })
    }

    /// Notes that a head was read.
    fn read(&mut self, seq: u64, head: &Arc<[u8]>) {
        if seq > self.seq {
            (self.seq, self.head) = (seq, Arc::clone(head));
        }
    }
}

/// What can be carried away.
#[derive(Debug, Default)]
pub(crate) struct Carry {
    store_json: Arc<[u8]>,
    head: Arc<[u8]>,
    /// How far the head reaches.
    seq: u64,
    /// How many bytes of each segment the head covers.
    segments: Vec<u64>,
    /// When that changed last, on the system clock.
    changed_ms: i64,
}

impl Carry {
    /// What a store holds under its head, which reaches line `seq`.
    pub(crate) fn new(store: &Store, end: &End, seq: u64) -> io::Result<Self> {
        let changed_ms = store.head_changed_ms()?;
        let mut segments = Vec::new();
        for number in 1..end.segment {
            segments.push(store.open_segment(number)?.metadata()?.len());
        }
        segments.push(end.bytes.saturating_sub(end.unsigned));
        let (head, store_json) = (store.signed_head()?, store.read_json()?);
        let (head, store_json) = (head.into_bytes().into(), store_json.into());
        Ok(Self { store_json, head, seq, segments, changed_ms })
    }

    /// Notes a new head, which covers the newest segment up to `bytes`.
    pub(crate) fn signed(&mut self, note: &str, seq: u64, end: (u64, u64), system_ms: i64) {
        let (segment, bytes) = end;
        let length = usize::try_from(segment).unwrap_or(usize::MAX).max(1);
        self.segments.resize(length, 0);
        if let Some(last) = self.segments.last_mut() {
            *last = bytes;
        }
        (self.head, self.seq, self.changed_ms) = (note.as_bytes().into(), seq, system_ms);
    }

    fn bytes_of(&self, segment: u64) -> Option<u64> {
        let index = usize::try_from(segment.checked_sub(1)?).ok()?;
        self.segments.get(index).copied()
    }
}

impl Item {
    /// What a number stands for, if that is in `.worm`.
    pub(crate) fn of(id: u64) -> Option<Self> {
        match id.checked_sub(FIRST_ID)? {
            0 => Some(Self::Root),
            1 => Some(Self::Head),
            2 => Some(Self::StoreJson),
            3 => Some(Self::Ledger),
            _ => id.checked_sub(FIRST_SEGMENT_ID).map(Self::Segment),
        }
    }

    fn id(self) -> u64 {
        match self {
            Self::Root => FIRST_ID,
            Self::Head => FIRST_ID + 1,
            Self::StoreJson => FIRST_ID + 2,
            Self::Ledger => FIRST_ID + 3,
            Self::Segment(number) => FIRST_SEGMENT_ID + number,
        }
    }

    fn name(self) -> Vec<u8> {
        match self {
            Self::Root => NAME.to_vec(),
            Self::Head => layout::HEAD.into(),
            Self::StoreJson => layout::STORE_JSON.into(),
            Self::Ledger => layout::LEDGER.into(),
            Self::Segment(number) => layout::segment(number).into(),
        }
    }

    fn parent(self) -> u64 {
        match self {
            Self::Root => ROOT,
            Self::Head | Self::StoreJson | Self::Ledger => Self::Root.id(),
            Self::Segment(_) => Self::Ledger.id(),
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Root | Self::Ledger => Kind::Directory,
            Self::Head | Self::StoreJson | Self::Segment(_) => Kind::File,
        }
    }

    fn children(self, carry: &Carry) -> Option<Vec<Self>> {
        match self {
            Self::Root => Some(vec![Self::Head, Self::Ledger, Self::StoreJson]),
            Self::Ledger => Some((1..=carry.segments.len() as u64).map(Self::Segment).collect()),
            Self::Head | Self::StoreJson | Self::Segment(_) => None,
        }
    }

    /// What `stat` shows through a view; owner and mode are the view's. Elsewhere it is not.
    pub(crate) fn attributes(self, state: &State, place: Place) -> Result<Attributes> {
        if !matches!(place, Place::View { .. }) {
            return Err(Error::NotFound);
        }
        let carry = &state.carry;
        let size = match self {
            Self::Root | Self::Ledger => Some(0),
            Self::Head => Some(carry.head.len() as u64),
            Self::StoreJson => Some(carry.store_json.len() as u64),
            Self::Segment(number) => carry.bytes_of(number),
        };
        let changed_ns = carry.changed_ms.saturating_mul(1_000_000);
        Ok(Attributes {
            id: self.id(),
            kind: self.kind(),
            life: Life::Changing,
            size: size.ok_or(Error::NotFound)?,
            mode: 0,
            uid: 0,
            gid: 0,
            links: 1,
            mtime_ns: changed_ns,
            ctime_ns: changed_ns,
        })
    }

    /// The number of a name in this directory.
    pub(crate) fn find(self, state: &State, name: &[u8]) -> Result<u64> {
        match name {
            b"." => return Ok(self.id()),
            b".." => return Ok(self.parent()),
            _ => {}
        }
        let children = self.children(&state.carry).ok_or(Error::NotADirectory)?;
        let child = children.into_iter().find(|child| child.name() == name);
        child.map(Self::id).ok_or(Error::NotFound)
    }

    /// As an entry of the directory that it is in.
    pub(crate) fn entry(self) -> Entry {
        Entry { id: self.id(), kind: self.kind(), name: self.name() }
    }

    /// The entries of this directory.
    pub(crate) fn entries(self, state: &State) -> Result<Vec<Entry>> {
        let children = self.children(&state.carry).ok_or(Error::NotADirectory)?;
        let dot = |id, name: &[u8]| Entry { id, kind: Kind::Directory, name: name.to_vec() };
        let dots = [dot(self.id(), b"."), dot(self.parent(), b"..")];
        Ok(dots.into_iter().chain(children.into_iter().map(Self::entry)).collect())
    }
}

impl WormFs {
    /// Opens something in `.worm` for reading: what grows is never remembered by the kernel.
    pub(crate) fn open_carried(&self, place: Place, item: Item) -> Result<(HandleId, Content)> {
        let text = {
            let state = self.state.read();
            item.attributes(&state, place)?;
            let carry = &state.carry;
            match item {
                Item::Root | Item::Ledger => return Err(Error::IsADirectory),
                Item::Head => {
                    Some(Text { bytes: Arc::clone(&carry.head), carries: Some(carry.seq) })
                }
                Item::StoreJson => {
                    Some(Text { bytes: Arc::clone(&carry.store_json), carries: None })
                }
                Item::Segment(_) => None,
            }
        };
        let handle = match (text, item) {
            (Some(text), _) => Handle::Text(Arc::new(text)),
            (None, Item::Segment(number)) => {
                let file = self.store.open_segment(number);
                let file = file.map_err(Error::store("open a segment of the ledger"))?;
                Handle::Segment(Arc::new(file), number)
            }
            (None, Item::Root | Item::Head | Item::StoreJson | Item::Ledger) => {
                return Err(Error::IsADirectory);
            }
        };
        Ok((self.handles.add_reader(handle)?, Content::Changing))
    }

    /// Reads from a small file. Whoever has read a head to its end has carried it away.
    pub(crate) fn read_text(&self, text: &Text, offset: u64, buffer: &mut [u8]) -> usize {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(text.bytes.len());
        let length = buffer.len().min(text.bytes.len() - from);
        buffer[..length].copy_from_slice(&text.bytes[from..from + length]);
        if let Some(seq) = text.carries
            && length > 0
            && from + length == text.bytes.len()
        {
            self.carried.lock().read(seq, &text.bytes);
        }
        length
    }

    /// Reads from a segment, up to where the head covers it now.
    pub(crate) fn read_segment(
        &self,
        file: &File,
        number: u64,
        offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        let covered = self.state.read().carry.bytes_of(number).unwrap_or(0);
        let left = usize::try_from(covered.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        file.read_exact_at(&mut buffer[..length], offset)?;
        Ok(length)
    }

    /// The newest line whose head was read through a view.
    #[must_use]
    pub fn carried(&self) -> Option<u64> {
        Some(self.carried.lock().seq).filter(|seq| *seq > 0)
    }

    /// Keeps the newest head that was read, where that is a newer one.
    pub(crate) fn keep_carried(&self) {
        let (seq, head) = {
            let carried = self.carried.lock();
            if carried.seq <= carried.kept {
                return;
            }
            (carried.seq, Arc::clone(&carried.head))
        };
        match self.store.keep_carried(&head) {
            Ok(()) => self.carried.lock().kept = seq,
            Err(error) => tracing::warn!(%error, "which head was carried away cannot be kept"),
        }
    }
}
