//! The tables of `docs/semantics.md` are those of the rules, and the rules know every opcode that
//! the kernel knows.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rustix::io::Errno;
use worm_fs::error::Error;
use worm_fs::policy::FileState;
use worm_fs::policy::REQUESTS;
use worm_fs::policy::Request;
use worm_fs::policy::Retention;
use worm_fs::policy::TARGETS;
use worm_fs::policy::Target;
use worm_fs::policy::opcode::Answered;
use worm_fs::policy::opcode::OPCODES;
use worm_fs::policy::verdict;

/// The kernel's list, of the Debian package linux-libc-dev.
const HEADER: &str = "/usr/include/linux/fuse.h";

fn semantics() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/semantics.md");
    std::fs::read_to_string(path).unwrap()
}

/// The opcodes of the kernel's header, by number.
fn kernel_opcodes() -> BTreeMap<u32, String> {
    let header = std::fs::read_to_string(HEADER)
        .unwrap_or_else(|error| panic!("{HEADER}: {error}: install linux-libc-dev"));
    let list = header.split_once("enum fuse_opcode {").unwrap().1.split_once("};").unwrap().0;
    let lines = list.lines().filter_map(|line| {
        let (name, number) = line.split_once('=')?;
        let number = number.split([',', '/']).next()?.trim().parse().unwrap();
        Some((number, name.trim().trim_start_matches("FUSE_").to_owned()))
    });
    lines.collect()
}

#[test]
fn every_opcode_of_the_kernel_has_a_row() {
    let kernel = kernel_opcodes();
    assert!(kernel.len() >= 50, "{kernel:?}");
    for (number, name) in &kernel {
        let ours = OPCODES.into_iter().find(|opcode| opcode.number == *number);
        assert_eq!(ours.map(|opcode| opcode.name), Some(name.as_str()), "opcode {number}");
    }
}

/// What the table says of an opcode: its names and who answers.
fn documented() -> BTreeMap<u32, (String, String)> {
    let text = semantics();
    let table = text.split_once("## Every FUSE opcode").unwrap().1.split_once("\n## ").unwrap().0;
    let mut rows = BTreeMap::new();
    for row in table.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let numbers = cells[1].split(", ").filter_map(|number| number.parse().ok());
        for (at, number) in numbers.enumerate() {
            let name = cells[2].split(", ").nth(at).unwrap_or_default();
            let name = name.split(" (").next().unwrap_or_default();
            rows.insert(number, (name.to_owned(), cells[3].to_owned()));
        }
    }
    rows
}

#[test]
fn every_opcode_is_documented_with_who_answers_it() {
    let documented = documented();
    assert_eq!(documented.len(), OPCODES.len());
    for opcode in OPCODES {
        let who = match opcode.answered {
            Answered::ByRules(_) | Answered::ByLooking => "we",
            Answered::ByLibrary => "fuser",
            Answered::ByKernel => "kernel",
        };
        let expected = (opcode.name.to_owned(), who.to_owned());
        assert_eq!(documented.get(&opcode.number), Some(&expected), "{opcode:?}");
    }
}

const COLUMNS: [Target; 11] = [
    Target::Root,
    Target::IncompleteDirectory,
    Target::Class,
    Target::Directory { empty: false },
    Target::Directory { empty: true },
    Target::File(FileState::Writing { by_writer: true }),
    Target::File(FileState::Writing { by_writer: false }),
    Target::File(FileState::Sealed(Retention::Running)),
    Target::File(FileState::Sealed(Retention::Over)),
    Target::File(FileState::Appending(Retention::Running)),
    Target::File(FileState::Appending(Retention::Over)),
];

fn name(errno: Errno) -> &'static str {
    match errno {
        Errno::PERM => "EPERM",
        Errno::EXIST => "EEXIST",
        Errno::BUSY => "EBUSY",
        Errno::ISDIR => "EISDIR",
        Errno::NOTDIR => "ENOTDIR",
        Errno::NOTEMPTY => "ENOTEMPTY",
        Errno::NOTTY => "ENOTTY",
        Errno::OPNOTSUPP => "EOPNOTSUPP",
        other => panic!("{other:?} is not in the table yet"),
    }
}

fn cell(request: Request, target: Target) -> String {
    match verdict(request, target) {
        Ok(()) if request == Request::SetRetention => "later: ok ¹".to_owned(),
        Ok(()) => "ok".to_owned(),
        Err(refusal) => name(Error::from(refusal).errno()).to_owned(),
    }
}

#[test]
fn the_table_of_answers_is_that_of_the_rules() {
    let mut table = String::new();
    for request in REQUESTS {
        write!(table, "| {request:?} |").unwrap();
        for target in COLUMNS {
            write!(table, " {} |", cell(request, target)).unwrap();
        }
        table.push('\n');
    }
    assert!(semantics().contains(&table), "docs/semantics.md should have:\n{table}");
}

/// What the table leaves out is what it says to be the same.
#[test]
fn a_closing_held_or_incomplete_file_is_as_a_sealed_one() {
    for request in REQUESTS {
        let sealed = |retention| cell(request, Target::File(FileState::Sealed(retention)));
        let running = sealed(Retention::Running);
        for retention in [Retention::Running, Retention::Held, Retention::Frozen, Retention::Over] {
            let incomplete = cell(request, Target::File(FileState::Incomplete(retention)));
            assert_eq!(incomplete, sealed(retention), "{request:?} {retention:?}");
        }
        assert_eq!(sealed(Retention::Held), running, "{request:?}");
        assert_eq!(sealed(Retention::Frozen), running, "{request:?}");
        let log = |retention| cell(request, Target::File(FileState::Appending(retention)));
        assert_eq!(log(Retention::Held), log(Retention::Running), "{request:?}");
        assert_eq!(log(Retention::Frozen), running, "{request:?}");
        assert_eq!(cell(request, Target::File(FileState::Closing)), running, "{request:?}");
    }
    assert!(COLUMNS.iter().all(|column| TARGETS.contains(column)));
}
