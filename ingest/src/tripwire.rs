//! PURE: whether a backup looks as if something had happened to the database: compared with the
//! good backups of the same database that are sealed.
//!
//! Growth is never suspicious, loss is, and data that suddenly does not compress any more: so does
//! what ransomware has encrypted. Totals are compared with the median of the newest runs, tables
//! with the least that they had in any run: a queue that runs empty every night is no alarm. Tables
//! whose names differ in digits only are one, so that partitions may come and go.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::manifest::Accepted;
use crate::manifest::Codec;
use crate::manifest::Kind;
use crate::manifest::Manifest;
use crate::manifest::Suspicion;
use crate::summary::bytes;

/// So many of the newest runs say what is usual. Odd, so that there is a middle.
const RECENT: usize = 7;
/// So many runs are looked at for the least that a table had.
const RUNS_MAX: usize = 64;
/// What varies, and tables that come and go while a database is set up, is judged only after so
/// many runs.
const RUNS_MIN: usize = 3;
/// So many tables are named; of the others the number is told.
const NAMED: usize = 5;

/// From where on a change is suspicious. Each share has an absolute size beside it below which
/// nothing is: small databases change by large factors.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Limits {
    /// Fewer rows in all than this share of what is usual, in percent.
    pub(crate) rows_percent: u64,
    /// And at least so many rows fewer.
    pub(crate) rows_min: u64,
    /// Fewer rows in a table than this share of the least it had, in percent.
    pub(crate) table_percent: u64,
    /// Whether a database without any rows is suspicious that had some.
    pub(crate) all_gone: bool,
    /// A table that is gone altogether had at least so many rows.
    pub(crate) vanished_min: u64,
    /// Fewer bytes of SQL than this share of what is usual, in percent.
    pub(crate) size_percent: u64,
    /// And at least so many bytes fewer.
    pub(crate) size_min: u64,
    /// Compresses by less than this share of what is usual, in percent.
    pub(crate) ratio_percent: u64,
    /// In dumps of at least so many bytes.
    pub(crate) ratio_min: u64,
    /// Takes so many times as long as is usual for so many bytes.
    pub(crate) duration_factor: u64,
    /// And at least so many milliseconds more.
    pub(crate) duration_min: u64,
}

impl Limits {
    /// Chosen so that an ordinary week raises no alarm.
    pub(crate) const DEFAULT: Self = Self {
        rows_percent: 50,
        rows_min: 1000,
        table_percent: 10,
        all_gone: true,
        vanished_min: 100,
        size_percent: 50,
        size_min: 1_000_000,
        ratio_percent: 60,
        ratio_min: 1_000_000,
        duration_factor: 5,
        duration_min: 15 * 60 * 1000,
    };

    /// The defaults, changed by settings such as `rows.dropped=30` or `duration.exploded=off`.
    /// `None`: one of them makes no sense.
    pub(crate) fn with(settings: &[String]) -> Option<Self> {
        let mut limits = Self::DEFAULT;
        for setting in settings {
            let (code, value) = setting.split_once('=')?;
            let value = match value {
                "off" => None,
                number => Some(number.parse().ok().filter(|number| *number > 0)?),
            };
            limits.set(code, value)?;
        }
        Some(limits)
    }

    fn set(&mut self, code: &str, value: Option<u64>) -> Option<()> {
        // Nothing is below none percent, and nothing takes so often as long.
        let percent = || Some(value.unwrap_or(0)).filter(|percent| *percent <= 100);
        match code {
            code::ALL_GONE if value.is_none() => self.all_gone = false,
            code::ROWS => self.rows_percent = percent()?,
            code::VANISHED => self.vanished_min = value.unwrap_or(u64::MAX),
            code::TABLE => self.table_percent = percent()?,
            code::SIZE => self.size_percent = percent()?,
            code::RATIO => self.ratio_percent = percent()?,
            code::DURATION => self.duration_factor = value.unwrap_or(u64::MAX),
            _unknown => return None,
        }
        Some(())
    }
}

/// What the suspicion is about. The codes are an interface: alerts read them.
mod code {
    pub(super) const ALL_GONE: &str = "rows.all_gone";
    pub(super) const ROWS: &str = "rows.dropped";
    pub(super) const VANISHED: &str = "rows.table_vanished";
    pub(super) const TABLE: &str = "rows.table_shrunk";
    pub(super) const SIZE: &str = "size.shrunk";
    pub(super) const RATIO: &str = "ratio.collapsed";
    pub(super) const DURATION: &str = "duration.exploded";
}

/// The least rows that a table had.
#[derive(Debug)]
struct Least {
    rows: u64,
    /// In so many runs without a gap, the newest among them.
    runs: usize,
}

/// What is usual for a database: a fold over its backups, the newest first.
#[derive(Debug, Default)]
pub(crate) struct Baseline {
    runs: usize,
    seen: Vec<jiff::Timestamp>,
    totals: Vec<u64>,
    sizes: Vec<u64>,
    /// Raw bytes for 1000 stored ones.
    ratios: Vec<u64>,
    /// Milliseconds, and the bytes that they were for.
    durations: Vec<(u64, u64)>,
    tables: BTreeMap<String, Least>,
    complete: bool,
}

impl Baseline {
    /// Whether an older backup could still change anything.
    pub(crate) fn wants_more(&self) -> bool {
        !self.complete && self.runs < RUNS_MAX
    }

    /// Adds the next older backup of the database, as far as it can be compared with `run`. What is
    /// suspect is no measure, or what happened to the database would become usual; but a run that
    /// was merely slow tells how slow runs are, or a slower disk would be an alarm for ever.
    pub(crate) fn add(&mut self, run: &Manifest, older: &Manifest) {
        // A part of the database says nothing about another part of it.
        if older.started_at == run.started_at || older.filters != run.filters {
            return;
        }
        if !self.wants_more() || self.seen.contains(&older.started_at) {
            return;
        }
        // One dump may be sealed in several classes.
        self.seen.push(older.started_at);
        let alike = is_alike(run, older);
        let slow = older.suspect.iter().all(|suspicion| suspicion.code == code::DURATION);
        if slow && alike && self.durations.len() < RECENT {
            self.durations.push((duration(older), older.raw.bytes));
        }
        if !older.suspect.is_empty() {
            return;
        }
        let tables = tables(older);
        for (name, rows) in &tables {
            match self.tables.get_mut(name) {
                Some(least) if least.runs == self.runs => {
                    *least = Least { rows: least.rows.min(*rows), runs: self.runs + 1 };
                }
                None if self.runs == 0 => {
                    let _none = self.tables.insert(name.clone(), Least { rows: *rows, runs: 1 });
                }
                Some(_) | None => {}
            }
        }
        if self.runs < RECENT {
            self.totals.push(tables.values().sum());
            if alike {
                self.sizes.push(older.raw.bytes);
            }
            if alike && packs_alike(run, older) {
                self.ratios.push(ratio(older));
            }
        }
        self.runs += 1;
        // From here on the accepted state is what is usual.
        self.complete = older.accepted.is_some();
    }

    /// Why `run` looks wrong. Empty: it does not.
    pub(crate) fn judge(&self, run: &Manifest, limits: &Limits) -> Vec<Suspicion> {
        let tables = tables(run);
        let checks = [
            self.judge_rows(tables.values().sum(), limits),
            self.judge_vanished(&tables, limits),
            self.judge_tables(&tables, limits),
            self.judge_size(run.raw.bytes, limits),
            self.judge_ratio(run, limits),
            self.judge_duration(run, limits),
        ];
        let found = checks.into_iter().flatten();
        found.map(|(code, message)| Suspicion { code: code.to_owned(), message }).collect()
    }

    fn judge_rows(&self, rows: u64, limits: &Limits) -> Option<(&'static str, String)> {
        let usual = median(&self.totals)?;
        if rows == 0 && usual > 0 && limits.all_gone {
            return Some((code::ALL_GONE, format!("there are no rows at all, {usual} are usual")));
        }
        let fell = below(rows, limits.rows_percent, usual) && usual - rows >= limits.rows_min;
        fell.then(|| (code::ROWS, format!("{rows} rows in all, {usual} are usual")))
    }

    fn judge_vanished(
        &self,
        now: &BTreeMap<String, u64>,
        limits: &Limits,
    ) -> Option<(&'static str, String)> {
        let gone = self.established().filter(|(name, least)| {
            least.rows >= limits.vanished_min && !now.contains_key(name.as_str())
        });
        let gone: Vec<String> =
            gone.map(|(name, least)| format!("{name} (had {} rows)", least.rows)).collect();
        listed(&gone).map(|list| (code::VANISHED, format!("no longer there: {list}")))
    }

    fn judge_tables(
        &self,
        now: &BTreeMap<String, u64>,
        limits: &Limits,
    ) -> Option<(&'static str, String)> {
        let shrunk: Vec<String> = self
            .established()
            .filter_map(|(name, least)| {
                let rows = *now.get(name)?;
                let fell = below(rows, limits.table_percent, least.rows)
                    && least.rows - rows >= limits.rows_min;
                fell.then(|| format!("{name} ({rows} rows, had at least {})", least.rows))
            })
            .collect();
        listed(&shrunk).map(|list| (code::TABLE, format!("nearly empty: {list}")))
    }

    /// The tables that were there long enough to be missed.
    fn established(&self) -> impl Iterator<Item = (&String, &Least)> {
        self.tables.iter().filter(|(_, least)| least.runs >= RUNS_MIN)
    }

    fn judge_size(&self, size: u64, limits: &Limits) -> Option<(&'static str, String)> {
        let usual = median(&self.sizes)?;
        let fell = below(size, limits.size_percent, usual) && usual - size >= limits.size_min;
        fell.then(|| (code::SIZE, format!("{} of SQL, {} are usual", bytes(size), bytes(usual))))
    }

    fn judge_ratio(&self, run: &Manifest, limits: &Limits) -> Option<(&'static str, String)> {
        let (size, usual_size) = (run.raw.bytes, median(&self.sizes)?);
        // Another data set compresses otherwise. What is encrypted at most doubles in size.
        let another = size / 4 > usual_size;
        if self.ratios.len() < RUNS_MIN || size.min(usual_size) < limits.ratio_min || another {
            return None;
        }
        let (now, usual) = (ratio(run), median(&self.ratios)?);
        below(now, limits.ratio_percent, usual).then(|| {
            let shown = |ratio: u64| format!("{}.{}", ratio / 1000, ratio % 1000 / 100);
            let (now, usual) = (shown(now), shown(usual));
            let message = format!(
                "compresses {now} to 1, {usual} to 1 is usual: encrypted data looks like this"
            );
            (code::RATIO, message)
        })
    }

    fn judge_duration(&self, run: &Manifest, limits: &Limits) -> Option<(&'static str, String)> {
        if self.durations.len() < RUNS_MIN {
            return None;
        }
        let size = u128::from(run.raw.bytes.max(1));
        let expected = |(took, bytes): &(u64, u64)| {
            let scaled = u128::from(*took) * size / u128::from((*bytes).max(1));
            u64::try_from(scaled).unwrap_or(u64::MAX).max(*took)
        };
        let expected: Vec<u64> = self.durations.iter().map(expected).collect();
        let (now, usual) = (duration(run), median(&expected)?);
        let late =
            now / limits.duration_factor.max(1) > usual && now - usual >= limits.duration_min;
        late.then(|| {
            (code::DURATION, format!("took {} s, {} s are usual", now / 1000, usual / 1000))
        })
    }
}

/// Marks `run`: as suspect, or, when somebody has said why it is all right, as accepted.
pub(crate) fn mark(run: &mut Manifest, found: Vec<Suspicion>, accept: Option<&str>) {
    match accept {
        Some(reason) => {
            run.accepted = Some(Accepted { reason: reason.to_owned(), suspicions: found });
        }
        None => run.suspect = found,
    }
}

/// All suspicions in one line.
pub(crate) fn told(suspicions: &[Suspicion]) -> String {
    let each = suspicions.iter().map(|one| format!("{}: {}", one.code, one.message));
    each.collect::<Vec<_>>().join("; ")
}

/// The rows of each table; those whose names differ in digits only are taken together.
fn tables(run: &Manifest) -> BTreeMap<String, u64> {
    let mut tables = BTreeMap::new();
    for table in run.tables.iter().filter(|table| !table.extension) {
        let name = without_digits(&format!("{}.{}", table.schema, table.table));
        *tables.entry(name).or_insert(0) += table.rows;
    }
    tables
}

fn without_digits(name: &str) -> String {
    let mut short = String::with_capacity(name.len());
    for character in name.chars() {
        match character {
            '0'..='9' if short.ends_with('#') => {}
            '0'..='9' => short.push('#'),
            other => short.push(other),
        }
    }
    short
}

/// Whether the dumps have one form, so that their sizes and times mean the same. An archive is packed
/// inside.
fn is_alike(one: &Manifest, other: &Manifest) -> bool {
    one.kind == other.kind && (one.kind == Kind::Plain || one.compression == other.compression)
}

/// Whether both were packed on their way, in the same manner.
fn packs_alike(one: &Manifest, other: &Manifest) -> bool {
    one.compression == other.compression && one.codec() != Codec::None
}

fn ratio(run: &Manifest) -> u64 {
    let ratio = u128::from(run.raw.bytes) * 1000 / u128::from(run.stored.bytes.max(1));
    u64::try_from(ratio).unwrap_or(u64::MAX)
}

/// In milliseconds; none when a clock was set back meanwhile.
fn duration(run: &Manifest) -> u64 {
    let took = run.finished_at.duration_since(run.started_at).as_millis();
    u64::try_from(took).unwrap_or_default()
}

/// The one in the middle; of two the lower.
fn median(values: &[u64]) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

/// Whether `value` is less than so many percent of `usual`.
fn below(value: u64, percent: u64, usual: u64) -> bool {
    u128::from(value) * 100 < u128::from(usual) * u128::from(percent)
}

fn listed(names: &[String]) -> Option<String> {
    let (named, others) = names.split_at(names.len().min(NAMED));
    let mut list = named.join(", ");
    if !others.is_empty() && write!(list, ", and {} more", others.len()).is_err() {
        // Writing into memory does not fail.
    }
    (!list.is_empty()).then_some(list)
}

#[cfg(test)]
pub(crate) mod tests;
