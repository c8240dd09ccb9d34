//! PURE: is this dump whole? Nothing is sealed before [`prove`] says so.

use std::collections::BTreeMap;
use std::fmt;

use crate::manifest::TableRows;
use crate::stream::scan::Report;
use crate::table::Expected;
use crate::table::TableName;

/// Of many missing tables so many are named.
const NAMED: usize = 5;

/// How the dump program ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Ending {
    /// By itself, with this status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "pg_dump ended with status {status}"),
            Self::Signal(signal) => write!(f, "pg_dump was killed by signal {signal}"),
        }
    }
}

/// Why a dump is not taken for whole.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Flaw {
    /// The dump program failed.
    #[error("{0}")]
    Ended(String),
    /// It said all was well and wrote nothing.
    #[error("pg_dump wrote nothing")]
    Empty,
    /// Smaller than it can be.
    #[error("the dump has only {bytes} bytes, and --min-bytes asks for {floor}")]
    TooSmall {
        /// Its length.
        bytes: u64,
        /// The least that is accepted.
        floor: u64,
    },
    /// `pg_restore` could not read the archive.
    #[error("pg_restore cannot read the dump: {0}")]
    NotRestorable(String),
    /// The stream stops before the line that ends every dump.
    #[error("the dump stops before its end{0}")]
    CutShort(String),
    /// A statement that no `pg_dump` writes.
    #[error("the dump has a line that pg_dump does not write: {0}")]
    Unreadable(String),
    /// Tables of the snapshot are not in the stream.
    #[error("{count} of the database's tables are not in the dump: {names}")]
    Missing {
        /// How many.
        count: usize,
        /// Some of them.
        names: String,
    },
    /// Large objects of the snapshot are not in the stream, or not all of them have their content.
    #[error(
        "the database has {expected} large objects, the dump makes {made} and has the content of \
         {filled}"
    )]
    LargeObjects {
        /// In the snapshot.
        expected: u64,
        /// In the dump.
        made: u64,
        /// With their content.
        filled: u64,
    },
    /// A table came twice.
    #[error("the rows of {0} are in the dump more than once")]
    Twice(String),
}

/// What a whole dump holds.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Proven {
    /// Every table with its rows, in order of their names.
    pub(crate) tables: Vec<TableRows>,
    /// Tables in the dump that the catalogue did not promise. No loss, but strange.
    pub(crate) unexpected: Vec<String>,
}

/// All that was seen of a dump.
#[derive(Debug)]
pub(crate) struct Evidence<'a> {
    /// How the dump program ended.
    pub(crate) ending: Ending,
    /// Length of what it wrote.
    pub(crate) bytes: u64,
    /// The least that is accepted.
    pub(crate) floor: u64,
    /// How the program ended that read an archive, and its last words.
    pub(crate) reading: Option<(Ending, &'a str)>,
    /// How many large objects the snapshot has.
    pub(crate) large_objects: u64,
    /// What the scanner saw of the dump as SQL.
    pub(crate) report: &'a Report,
}

/// Decides from all that was seen whether the dump is whole.
pub(crate) fn prove(evidence: &Evidence<'_>, expected: &[Expected]) -> Result<Proven, Flaw> {
    let Evidence { ending, bytes, floor, reading, large_objects, report } = *evidence;
    if ending != Ending::Status(0) {
        return Err(Flaw::Ended(ending.to_string()));
    }
    if bytes == 0 {
        return Err(Flaw::Empty);
    }
    match reading {
        None | Some((Ending::Status(0), _)) => {}
        Some((Ending::Status(_), words)) => return Err(Flaw::NotRestorable(words.to_owned())),
        Some((Ending::Signal(signal), _)) => {
            return Err(Flaw::NotRestorable(format!("it was killed by signal {signal}")));
        }
    }
    if bytes < floor {
        return Err(Flaw::TooSmall { bytes, floor });
    }
    if let Some(statement) = &report.unreadable {
        return Err(Flaw::Unreadable(statement.clone()));
    }
    if !report.complete {
        let place = report.broken_off_in.as_ref();
        let place = place.map_or(String::new(), |name| format!(", in the rows of {name}"));
        return Err(Flaw::CutShort(place));
    }
    let proven = match_tables(report, expected)?;
    let (made, filled) = (report.large_objects, report.large_object_contents);
    if (made, filled) != (large_objects, large_objects) {
        return Err(Flaw::LargeObjects { expected: large_objects, made, filled });
    }
    Ok(proven)
}

/// Blocks and rows that the stream had under one name.
#[derive(Default)]
struct Seen {
    blocks: usize,
    rows: u64,
}

fn match_tables(report: &Report, expected: &[Expected]) -> Result<Proven, Flaw> {
    let mut seen: BTreeMap<&TableName, Seen> = BTreeMap::new();
    for block in &report.blocks {
        let entry = seen.entry(&block.name).or_default();
        entry.blocks += 1;
        entry.rows += block.rows;
    }

    let mut tables = Vec::with_capacity(expected.len());
    let mut missing = Vec::new();
    // Partitions without a block of their own, by the table under which their rows must be.
    let mut through_root: BTreeMap<&TableName, Vec<&Expected>> = BTreeMap::new();
    for wanted in expected {
        match (seen.remove(&wanted.table.name), &wanted.root) {
            (Some(Seen { blocks: 1, rows }), _) => tables.push(TableRows {
                schema: wanted.table.schema.clone(),
                table: wanted.table.table.clone(),
                rows,
                extension: wanted.extension,
            }),
            (Some(_), _) => return Err(Flaw::Twice(wanted.table.name.to_string())),
            (None, Some(root)) => through_root.entry(&root.name).or_default().push(wanted),
            (None, None) if wanted.optional => {}
            (None, None) => missing.push(&wanted.table.name),
        }
    }
    for (root, partitions) in through_root {
        let Seen { blocks, rows } = seen.remove(root).unwrap_or_default();
        let named = partitions.first().and_then(|partition| partition.root.as_ref());
        match named {
            Some(named) if blocks == partitions.len() => tables.push(TableRows {
                schema: named.schema.clone(),
                table: named.table.clone(),
                rows,
                extension: partitions.iter().any(|partition| partition.extension),
            }),
            _ if blocks > partitions.len() => return Err(Flaw::Twice(root.to_string())),
            _ => missing.extend(partitions.iter().map(|partition| &partition.table.name)),
        }
    }
    if !missing.is_empty() {
        let mut names: Vec<String> = missing.iter().take(NAMED).map(ToString::to_string).collect();
        if missing.len() > NAMED {
            names.push("...".to_owned());
        }
        return Err(Flaw::Missing { count: missing.len(), names: names.join(", ") });
    }

    let unexpected = seen.keys().map(ToString::to_string).collect();
    tables.extend(seen.iter().map(|(name, seen)| TableRows {
        schema: String::from_utf8_lossy(&name.schema).into_owned(),
        table: String::from_utf8_lossy(&name.table).into_owned(),
        rows: seen.rows,
        extension: false,
    }));
    tables.sort();
    Ok(Proven { tables, unexpected })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::scan::Block;
    use crate::table::Table;

    fn name(table: &str) -> TableName {
        TableName { schema: b"public".to_vec(), table: table.as_bytes().to_vec() }
    }

    fn table(table: &str) -> Table {
        Table { name: name(table), schema: "public".to_owned(), table: table.to_owned() }
    }

    fn expect(tables: &[(&str, Option<&str>)]) -> Vec<Expected> {
        let expected = tables.iter().map(|(t, root)| Expected {
            table: table(t),
            oid: 0,
            optional: false,
            root: root.map(table),
            extension: false,
            hidden: false,
        });
        expected.collect()
    }

    fn dump(blocks: &[(&str, u64)]) -> Report {
        Report {
            bytes: 1,
            blocks: blocks.iter().map(|(t, rows)| Block { name: name(t), rows: *rows }).collect(),
            complete: true,
            ..Report::default()
        }
    }

    fn seen(ending: Ending, report: &Report) -> Evidence<'_> {
        Evidence { ending, bytes: report.bytes, floor: 1, reading: None, large_objects: 0, report }
    }

    #[track_caller]
    fn check(report: &Report, expected: &[(&str, Option<&str>)], verdict: &str) {
        let got = match prove(&seen(Ending::Status(0), report), &expect(expected)) {
            Ok(proven) => proven
                .tables
                .iter()
                .map(|rows| format!("{}={}", rows.table, rows.rows))
                .chain(proven.unexpected.iter().map(|name| format!("?{name}")))
                .collect::<Vec<_>>()
                .join(" "),
            Err(flaw) => flaw.to_string(),
        };
        assert_eq!(got, verdict);
    }

    #[test]
    fn a_dump_with_all_tables_is_whole() {
        check(&dump(&[("b", 2), ("a", 1)]), &[("a", None), ("b", None)], "a=1 b=2");
        check(&dump(&[]), &[], "");
    }

    #[test]
    fn a_missing_table_is_named() {
        let verdict = "1 of the database's tables are not in the dump: public.b";
        check(&dump(&[("a", 1)]), &[("a", None), ("b", None)], verdict);
        let many: Vec<String> = (0..7).map(|n| format!("t{n}")).collect();
        let many: Vec<(&str, Option<&str>)> = many.iter().map(|n| (n.as_str(), None)).collect();
        let verdict = "7 of the database's tables are not in the dump: \
                       public.t0, public.t1, public.t2, public.t3, public.t4, ...";
        check(&dump(&[]), &many, verdict);
    }

    #[test]
    fn a_table_that_comes_twice_is_refused() {
        let verdict = "the rows of public.a are in the dump more than once";
        check(&dump(&[("a", 1), ("a", 1)]), &[("a", None)], verdict);
    }

    #[test]
    fn a_table_nobody_promised_is_kept_and_told() {
        check(&dump(&[("a", 1), ("x", 3)]), &[("a", None)], "a=1 x=3 ?public.x");
    }

    #[test]
    fn partitions_may_come_under_the_name_of_their_root() {
        let partitions = [("p0", Some("p")), ("p1", Some("p")), ("p2", Some("p"))];
        check(&dump(&[("p", 1), ("p", 0), ("p", 5)]), &partitions, "p=6");
        check(&dump(&[("p", 1), ("p1", 7), ("p", 5)]), &partitions, "p=6 p1=7");
        check(
            &dump(&[("p", 1), ("p1", 7)]),
            &partitions,
            "2 of the database's tables are not in the dump: public.p0, public.p2",
        );
        check(
            &dump(&[("p", 1), ("p", 1), ("p0", 1), ("p1", 1)]),
            &partitions,
            "the rows of public.p are in the dump more than once",
        );
    }

    #[test]
    fn a_dump_below_the_floor_or_that_cannot_be_read_is_not_whole() {
        let (whole, expected) = (dump(&[("a", 1)]), expect(&[("a", None)]));
        let verdict = |change: &dyn Fn(&mut Evidence<'_>)| {
            let mut evidence = seen(Ending::Status(0), &whole);
            change(&mut evidence);
            prove(&evidence, &expected).err().map(|flaw| flaw.to_string())
        };
        assert_eq!(verdict(&|evidence| evidence.reading = Some((Ending::Status(0), ""))), None);
        let unread = |ending| verdict(&|evidence| evidence.reading = Some((ending, "bad magic")));
        assert!(unread(Ending::Status(1)).unwrap().ends_with("read the dump: bad magic"));
        assert!(unread(Ending::Signal(9)).unwrap().ends_with("killed by signal 9"));
        let small = verdict(&|evidence| evidence.floor = 2).unwrap();
        assert_eq!(small, "the dump has only 1 bytes, and --min-bytes asks for 2");
    }

    #[test]
    fn every_large_object_is_made_and_has_its_content() {
        let verdict = |made, filled| {
            let found =
                Report { large_objects: made, large_object_contents: filled, ..dump(&[("a", 1)]) };
            let evidence = Evidence { large_objects: 2, ..seen(Ending::Status(0), &found) };
            prove(&evidence, &expect(&[("a", None)])).err().map(|flaw| flaw.to_string())
        };
        assert_eq!(verdict(2, 2), None);
        for (made, filled) in [(1, 2), (2, 1), (0, 0), (3, 3)] {
            let said = verdict(made, filled).unwrap();
            assert!(said.starts_with("the database has 2 large objects"), "{said}");
        }
    }

    #[test]
    fn a_dump_that_did_not_end_well_is_not_whole() {
        let whole = dump(&[("a", 1)]);
        let expected = expect(&[("a", None)]);
        for ending in [Ending::Status(1), Ending::Signal(9)] {
            assert!(matches!(prove(&seen(ending, &whole), &expected), Err(Flaw::Ended(_))));
        }
        let cut = Report { complete: false, broken_off_in: Some(name("a")), ..whole.clone() };
        check(&cut, &[("a", None)], "the dump stops before its end, in the rows of public.a");
        let odd = Report { unreadable: Some("COPY x".to_owned()), ..whole.clone() };
        check(&odd, &[], "the dump has a line that pg_dump does not write: COPY x");
        check(&Report { bytes: 0, ..whole }, &[("a", None)], "pg_dump wrote nothing");
    }
}
