//! PURE: what is wrong with the lines of a damaged ledger, and which of them can be followed.
//!
//! The signed head vouches for one line, each line for the one before it. Where that breaks, the
//! lines before it still vouch for each other, and an earlier head can vouch for them again.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::Kind;
use super::Problem;
use super::known::Fact;
use crate::record::Digest;

/// One line as it stands on the disk, or what stands in its place.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Where: `ledger/000001.jsonl line 7`.
    pub(super) place: String,
    /// SHA-256 of its bytes.
    pub(super) digest: Digest,
    /// Its number, and the digest of the line before it as it says.
    pub(super) says: Option<(u64, Digest)>,
    /// Why it cannot be read.
    pub(super) unreadable: Option<String>,
    /// What it says of `data/`.
    pub(super) fact: Fact,
}

/// A line whose digest is known from a signature.
#[derive(Clone, Debug)]
pub(super) struct Anchor {
    /// Its SHA-256.
    pub(super) digest: Digest,
    /// The file of the head that names it.
    pub(super) by: String,
}

/// What the lines amount to.
#[derive(Debug, Default)]
pub(super) struct Judged {
    /// What is wrong with them.
    pub(super) problems: Vec<Problem>,
    /// The lines to follow, by number, as indices.
    pub(super) chosen: BTreeMap<u64, usize>,
    /// Numbers of lines that nothing signed vouches for any more, first and last.
    pub(super) not_vouched: Option<(u64, u64)>,
}

/// Judges all lines, given in the order in which they stand. `signed` is how far the newest head
/// reaches, where there is a good one.
pub(super) fn judge(
    entries: &[Entry],
    anchors: &BTreeMap<u64, Anchor>,
    signed: Option<u64>,
) -> Judged {
    let numbers = numbers(entries);
    let mut judged = Judged::default();
    let mut by_number: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (index, number) in numbers.iter().enumerate() {
        match number {
            Some(number) => by_number.entry(*number).or_default().push(index),
            None => judged.add(Kind::LineInserted, &entries[index], "it belongs nowhere"),
        }
    }
    judged.choose(entries, &by_number, anchors);
    judged.gaps(signed);
    judged.order(entries);
    judged
}

/// The number of each line. What cannot be read stands for the number that is missing there.
fn numbers(entries: &[Entry]) -> Vec<Option<u64>> {
    let said: BTreeSet<u64> = entries.iter().filter_map(|e| Some(e.says?.0)).collect();
    let mut last = 0;
    let number = |entry: &Entry| {
        let number = match entry.says {
            Some((number, _)) => Some(number),
            None => Some(last + 1).filter(|next| !said.contains(next)),
        };
        last = number.unwrap_or(last);
        number
    };
    entries.iter().map(number).collect()
}

/// What is known about the digest of a line before it is looked at.
enum Expected<'a> {
    Signed(&'a Anchor),
    /// By the line after it, and whether that one is as it was.
    ByNext(Digest, bool),
    Nothing,
}

impl Expected<'_> {
    fn digest(&self) -> Option<Digest> {
        match self {
            Self::Signed(anchor) => Some(anchor.digest),
            Self::ByNext(digest, _) => Some(*digest),
            Self::Nothing => None,
        }
    }
}

impl Judged {
    fn add(&mut self, kind: Kind, entry: &Entry, what: impl AsRef<str>) {
        let what = what.as_ref();
        let about = entry.fact.path().map(|path| format!(" (it is about {path})"));
        let what = format!("{what}{}", about.unwrap_or_default());
        self.problems.push(Problem { path: entry.place.clone(), kind, what });
    }

    /// From the newest line back: which of those that claim a number has it, and whether it is
    /// as it was.
    fn choose(
        &mut self,
        entries: &[Entry],
        by_number: &BTreeMap<u64, Vec<usize>>,
        anchors: &BTreeMap<u64, Anchor>,
    ) {
        // What the line after says: of which number, the digest, whether that line is good.
        let mut said: Option<(u64, Digest, bool)> = None;
        let mut vouched = false;
        for (number, candidates) in by_number.iter().rev() {
            let expected = match (anchors.get(number), said) {
                (Some(anchor), _) => Expected::Signed(anchor),
                (None, Some((of, digest, good))) if of == *number => Expected::ByNext(digest, good),
                (None, _) => Expected::Nothing,
            };
            let wanted = expected.digest();
            let right = candidates.iter().find(|index| Some(entries[**index].digest) == wanted);
            let Some(chosen) = right.or(candidates.first()).copied() else { continue };
            let entry = &entries[chosen];
            let good = entry.unreadable.is_none() && (right.is_some() || wanted.is_none());
            vouched = right.is_some() && (vouched || matches!(expected, Expected::Signed(_)));
            if !vouched && anchors.range(*number..).next().is_some() {
                let last = self.not_vouched.map_or(*number, |(_, last)| last);
                self.not_vouched = Some((*number, last));
            }
            if !good {
                self.changed(entry, *number, &expected);
            }
            for other in candidates.iter().filter(|other| **other != chosen) {
                let what = if entries[*other].digest == entry.digest {
                    format!("it was inserted: it is a copy of line {number}")
                } else {
                    format!("it was inserted: it is a second line {number}, which nothing names")
                };
                self.add(Kind::LineInserted, &entries[*other], what);
            }
            said = entry.says.and_then(|(_, prev)| Some((number.checked_sub(1)?, prev, good)));
            self.chosen.insert(*number, chosen);
        }
        self.problems.reverse();
    }

    fn changed(&mut self, entry: &Entry, number: u64, expected: &Expected) {
        if let Some(why) = &entry.unreadable {
            let signed = matches!(expected, Expected::Signed(_));
            let which = if signed { ", which was signed" } else { "" };
            return self.add(Kind::LineChanged, entry, format!("line {number}{which}: {why}"));
        }
        let next = number + 1;
        match expected {
            Expected::Signed(Anchor { by, .. }) => {
                let what = format!(
                    "line {number} is not the one that was signed ({by}): it was changed, or it \
                     and lines before it were written anew"
                );
                self.add(Kind::LineChanged, entry, what);
            }
            Expected::ByNext(_, true) => {
                let what = format!("line {number} was changed: line {next} names another");
                self.add(Kind::LineChanged, entry, what);
            }
            Expected::ByNext(_, false) => {
                let what = format!(
                    "line {number} was changed, or what the changed line {next} says of it"
                );
                self.add(Kind::LineChanged, entry, what);
            }
            Expected::Nothing => {}
        }
    }

    /// Numbers that no line has, up to the signed one.
    fn gaps(&mut self, signed: Option<u64>) {
        let newest = self.chosen.keys().next_back().copied().unwrap_or(0);
        let until = signed.unwrap_or(newest);
        let mut next = 1;
        let mut missing = Vec::new();
        for number in self.chosen.keys().filter(|number| **number <= until) {
            if *number > next {
                missing.push((next, number - 1));
            }
            next = number + 1;
        }
        for (first, last) in missing {
            let what = if first == last {
                format!("line {first} is missing")
            } else {
                format!("lines {first} to {last} are missing")
            };
            self.problems.push(Problem { path: "ledger".into(), kind: Kind::LineMissing, what });
        }
        if let Some(signed) = signed.filter(|signed| next <= *signed) {
            let what = format!(
                "it was truncated: it ends at line {}, but line {signed} was signed",
                next - 1
            );
            self.problems.push(Problem { path: "ledger".into(), kind: Kind::Truncated, what });
        }
    }

    /// Lines that do not stand where their number says: as few as explain the order.
    fn order(&mut self, entries: &[Entry]) {
        let mut standing: Vec<(usize, u64)> =
            self.chosen.iter().map(|(number, index)| (*index, *number)).collect();
        standing.sort_unstable();
        let numbers: Vec<u64> = standing.iter().map(|(_, number)| *number).collect();
        let kept = longest_rising(&numbers);
        for (at, (index, number)) in standing.iter().enumerate() {
            if !kept.contains(&at) {
                let before = at.checked_sub(1).and_then(|at| numbers.get(at));
                let where_ = before
                    .map_or("at the beginning".to_owned(), |before| format!("after line {before}"));
                let what = format!("line {number} was moved: it stands {where_}");
                self.add(Kind::LineMoved, &entries[*index], what);
            }
        }
    }
}

/// The places of a longest rising run of numbers, not all side by side (patience sorting).
fn longest_rising(numbers: &[u64]) -> BTreeSet<usize> {
    // The place where the best run of each length ends, and for each place the one before it.
    let (mut ends, mut before): (Vec<usize>, Vec<Option<usize>>) = (Vec::new(), Vec::new());
    for (at, number) in numbers.iter().enumerate() {
        let length = ends.partition_point(|end| numbers[*end] < *number);
        before.push(length.checked_sub(1).map(|shorter| ends[shorter]));
        match ends.get_mut(length) {
            Some(end) => *end = at,
            None => ends.push(at),
        }
    }
    let mut run = BTreeSet::new();
    let mut at = ends.last().copied();
    while let Some(place) = at {
        run.insert(place);
        at = before[place];
    }
    run
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    /// Lines 1 to 9 in a right chain; line N has the digest of `N`.
    fn lines() -> Vec<Entry> {
        let entry = |number: u64| Entry {
            place: format!("at {number}"),
            digest: digest(&number.to_string()),
            says: Some((number, digest(&(number - 1).to_string()))),
            unreadable: None,
            fact: Fact::Other,
        };
        (1..10).map(entry).collect()
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Vec<Entry>), expected: &[(&str, Kind, &str)]) -> Judged {
        let mut entries = lines();
        change(&mut entries);
        let head = Anchor { digest: digest("9"), by: "head".into() };
        let judged = judge(&entries, &BTreeMap::from([(9, head)]), Some(9));
        let found: Vec<_> = judged.problems.iter().map(|p| (p.path.as_str(), p.kind)).collect();
        let wanted: Vec<_> = expected.iter().map(|(path, kind, _)| (*path, *kind)).collect();
        assert_eq!(found, wanted, "{judged:?}");
        for (problem, (.., word)) in judged.problems.iter().zip(expected) {
            assert!(problem.what.contains(word), "{problem:?}");
        }
        judged
    }

    fn edit(entry: &mut Entry) {
        entry.digest = digest("edited");
    }

    #[test]
    fn a_whole_ledger_has_no_problem() {
        let judged = check(|_| {}, &[]);
        assert_eq!((judged.chosen.len(), judged.not_vouched), (9, None));
    }

    #[test]
    fn every_change_is_named_in_one_run() {
        let judged = check(
            |lines| {
                edit(&mut lines[7]);
                lines.remove(4);
                edit(&mut lines[1]);
            },
            &[
                ("at 2", Kind::LineChanged, "line 3 names another"),
                ("at 8", Kind::LineChanged, "line 9 names another"),
                ("ledger", Kind::LineMissing, "line 5 is missing"),
            ],
        );
        assert_eq!(judged.not_vouched, Some((1, 8)));
    }

    #[test]
    fn the_last_line_is_vouched_for_by_the_head() {
        check(|lines| edit(&mut lines[8]), &[("at 9", Kind::LineChanged, "signed")]);
    }

    #[test]
    fn lines_that_cannot_be_read_are_the_ones_that_lack() {
        let garbage = |entry: &mut Entry| {
            (entry.says, entry.unreadable) = (None, Some("garbage".into()));
        };
        check(
            |lines| {
                garbage(&mut lines[3]);
                garbage(&mut lines[4]);
            },
            &[("at 4", Kind::LineChanged, "garbage"), ("at 5", Kind::LineChanged, "line 5")],
        );
        check(
            |lines| {
                let mut more = lines[3].clone();
                garbage(&mut more);
                lines.insert(4, more);
            },
            &[("at 4", Kind::LineInserted, "nowhere")],
        );
    }

    #[test]
    fn truncated_and_dropped_lines_are_missing() {
        check(|lines| lines.truncate(6), &[("ledger", Kind::Truncated, "ends at line 6")]);
        check(
            |lines| drop(lines.drain(1..4)),
            &[("ledger", Kind::LineMissing, "lines 2 to 4 are missing")],
        );
    }

    #[test]
    fn what_was_inserted_is_told_from_what_was_there() {
        let at_4 = ("at 4", Kind::LineInserted, "copy of line 4");
        check(|lines| lines.insert(4, lines[3].clone()), &[at_4]);
        check(
            |lines| {
                let mut forged = lines[3].clone();
                (forged.place, forged.digest) = ("forged".into(), digest("forged"));
                lines.insert(3, forged);
            },
            &[("forged", Kind::LineInserted, "second line 4")],
        );
    }

    #[test]
    fn as_few_lines_as_possible_were_moved() {
        check(|lines| lines.swap(3, 4), &[("at 5", Kind::LineMoved, "after line 3")]);
        let to_end = |lines: &mut Vec<Entry>| {
            let line = lines.remove(1);
            lines.push(line);
        };
        check(to_end, &[("at 2", Kind::LineMoved, "after line 9")]);
        let to_begin = |lines: &mut Vec<Entry>| {
            let line = lines.remove(7);
            lines.insert(0, line);
        };
        check(to_begin, &[("at 8", Kind::LineMoved, "at the beginning")]);
    }

    #[test]
    fn an_earlier_head_vouches_again() {
        let mut entries = lines();
        edit(&mut entries[6]);
        let anchor = |number: u64| Anchor { digest: digest(&number.to_string()), by: "w".into() };
        let anchors = BTreeMap::from([(9, anchor(9)), (4, anchor(4))]);
        assert_eq!(judge(&entries, &anchors, Some(9)).not_vouched, Some((5, 7)));
        let without = BTreeMap::from([(9, anchor(9))]);
        assert_eq!(judge(&entries, &without, Some(9)).not_vouched, Some((1, 7)));
    }
}
