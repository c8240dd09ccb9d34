//! PURE: what was read again when, and what is to be read next.

use serde::Deserialize;
use serde::Serialize;

use super::Catalog;

/// The newest pass over all sealed files, as far as the ledger tells. Files are read in the order
/// of their numbers.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Pass {
    /// When it began, on the retention clock.
    pub began_ms: i64,
    /// Every file up to this number was read that was sealed before it began.
    pub through: u64,
    /// When the pass before it began.
    pub before_ms: Option<i64>,
    /// Files that were not what was sealed when they were read last, in order.
    pub damaged: Vec<u64>,
}

impl Pass {
    /// None yet: a new store counts as read when it is made.
    #[must_use]
    pub fn none(created_ms: i64) -> Self {
        Self { began_ms: created_ms, through: 0, before_ms: None, damaged: Vec::new() }
    }

    /// The next pass, of which nothing was read yet.
    #[must_use]
    pub fn next(&self, now_ms: i64) -> Self {
        let before_ms = Some(self.began_ms);
        Self { began_ms: now_ms, through: 0, before_ms, damaged: self.damaged.clone() }
    }

    /// Follows what a line tells of a pass.
    pub(super) fn follow(&mut self, began_ms: i64, through: u64, damaged: &[u64]) {
        if began_ms != self.began_ms {
            *self = self.next(began_ms);
        }
        self.through = through;
        self.damaged = damaged.to_vec();
    }

    /// When a file was read last; writing it counts.
    fn read_ms(&self, id: u64, sealed_ms: i64) -> i64 {
        let read_ms = if id <= self.through { Some(self.began_ms) } else { self.before_ms };
        read_ms.map_or(sealed_ms, |read_ms| read_ms.max(sealed_ms))
    }
}

impl Catalog {
    /// The numbers of the files that a pass still has to read, in order. A log is as old as its last
    /// record, and is read all the same: what is before that may be old.
    #[must_use]
    pub fn to_read(&self, pass: &Pass) -> Vec<u64> {
        let left = self.files().filter(|(id, file)| {
            let old = file.sealed_ms < pass.began_ms || self.is_log(*id);
            *id > pass.through && file.sha256.is_some() && old
        });
        let mut left: Vec<u64> = left.map(|(id, _)| id).collect();
        left.sort_unstable();
        left
    }

    /// The sealed file that was not read for the longest time, and when it was, on the retention
    /// clock.
    #[must_use]
    pub fn oldest_read(&self) -> Option<(u64, i64)> {
        let sealed = self.files().filter(|(_, file)| file.sha256.is_some());
        sealed
            .map(|(id, file)| (id, self.pass.read_ms(id, file.sealed_ms)))
            .min_by_key(|(id, read_ms)| (*read_ms, *id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_was_read_when_its_pass_or_the_one_before_began_or_when_it_was_sealed() {
        let mut pass = Pass::none(100);
        assert_eq!(pass.read_ms(7, 150), 150);
        pass.follow(1000, 5, &[]);
        assert_eq!(pass.read_ms(5, 150), 1000);
        assert_eq!(pass.read_ms(6, 150), 150, "the store was new then");
        assert_eq!(pass.read_ms(6, 50), 100);
        assert_eq!(pass.read_ms(5, 1001), 1001, "sealed since");
        pass.follow(1000, 9, &[6]);
        assert_eq!((pass.read_ms(9, 0), pass.damaged.as_slice()), (1000, &[6][..]));
        pass.follow(2000, 3, &[]);
        assert_eq!((pass.read_ms(3, 0), pass.read_ms(4, 0)), (2000, 1000));
        assert_eq!(pass.before_ms, Some(1000));
    }

    #[test]
    fn the_next_pass_knows_what_was_damaged() {
        let mut pass = Pass::none(100);
        pass.follow(1000, 5, &[2]);
        assert_eq!((pass.next(2000).damaged, pass.next(2000).through), (vec![2], 0));
    }
}
