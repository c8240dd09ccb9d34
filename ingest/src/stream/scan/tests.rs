//! What the scanner must see, what must not fool it, and that no cut matters.

use super::*;

const END: &str = "--\n-- PostgreSQL database dump complete\n--\n\n";

/// Scans `dump` whole and cut at every place, and gives the one report that all must agree on.
#[track_caller]
fn scan(dump: &str) -> Report {
    let whole = scan_pieces(&[dump.as_bytes()]);
    for cut in 0..dump.len() {
        let (head, tail) = dump.as_bytes().split_at(cut);
        assert_eq!(scan_pieces(&[head, tail]), whole, "cut at {cut}");
    }
    let bytes: Vec<&[u8]> = dump.as_bytes().chunks(1).collect();
    assert_eq!(scan_pieces(&bytes), whole, "byte by byte");
    whole
}

fn scan_pieces(pieces: &[&[u8]]) -> Report {
    let mut scanner = Scanner::new();
    for piece in pieces {
        scanner.take(piece);
    }
    scanner.finish()
}

#[track_caller]
fn check(dump: &str, complete: bool, blocks: &[(&str, u64)]) {
    let report = scan(dump);
    let seen: Vec<(String, u64)> =
        report.blocks.iter().map(|block| (block.name.to_string(), block.rows)).collect();
    let expected: Vec<(String, u64)> =
        blocks.iter().map(|(name, rows)| ((*name).to_owned(), *rows)).collect();
    assert_eq!(seen, expected, "{dump}");
    assert_eq!(report.complete, complete, "{dump}");
    assert_eq!(report.bytes, dump.len() as u64);
    assert_eq!(report.unreadable, None, "{dump}");
}

#[test]
fn tables_rows_and_the_end_are_seen() {
    let dump = format!(
        "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\nSET x = 'y';\n\n\
         CREATE TABLE public.t (a integer);\n\nCOPY public.t (a) FROM stdin;\n1\n\\N\n\\.\n\n\n\
         COPY public.nothing (a) FROM stdin;\n\\.\n\n\
         COPY public.nocols  FROM stdin;\n\n\n\\.\n\n{END}\\unrestrict abc\n\n"
    );
    check(&dump, true, &[("public.t", 2), ("public.nothing", 0), ("public.nocols", 2)]);
}

#[test]
fn an_older_dump_without_restrict_is_whole_too() {
    check(END, true, &[]);
}

#[test]
fn no_beginning_of_a_dump_is_a_whole_dump() {
    let dump = format!(
        "\\restrict abc\nCOPY public.t (a) FROM stdin;\n1\n\\.\nSELECT E'\\'';\n\
         CREATE FUNCTION f() AS $$ x $$;\n{END}\\unrestrict abc\n"
    );
    for end in 0..dump.len() {
        let report = scan_pieces(&[&dump.as_bytes()[..end]]);
        assert!(!report.complete, "the first {end} bytes");
    }
    assert!(scan(&dump).complete);
}

#[test]
fn a_break_inside_rows_names_the_table() {
    let report = scan("COPY public.t (a) FROM stdin;\n1\n2");
    assert_eq!(report.broken_off_in.unwrap().to_string(), "public.t");
}

#[test]
fn data_that_looks_like_sql_is_data() {
    check(
        &format!(
            "COPY public.t (a) FROM stdin;\nCOPY public.u (a) FROM stdin;\n\\\\.\n\
             -- PostgreSQL database dump complete\nit's \"$$ /*\n\\.\n{END}"
        ),
        true,
        &[("public.t", 4)],
    );
}

#[test]
fn text_that_looks_like_a_dump_is_text() {
    let bait = "\nCOPY public.fake (a) FROM stdin;\n1\n\\.\n-- PostgreSQL database dump complete\n";
    for (open, close) in [
        ("SELECT 'it''s ", "';\n"),
        ("SELECT 'back\\", "';\n"),
        ("SELECT E'back\\\\ quote\\' ", "\\\\';\n"),
        ("SELECT \"name\"\" ", "\";\n"),
        ("AS $$ it's ", " $ $a$ $$;\n"),
        ("AS $_$ $$ it's $_ ", "$__$_$;\n"),
        ("AS $a1$ $$ $a ", "$$a1$;\n"),
        ("/* /* ' */ ", " */\n"),
        ("SELECT $1, b$c$, 2 - 1 / 3, '$$", "';\n"),
    ] {
        let dump = format!("{open}{bait}{close}COPY public.t (a) FROM stdin;\n1\n\\.\n{END}");
        check(&dump, true, &[("public.t", 1)]);
        check(&format!("{open}{bait}"), false, &[]);
    }
}

#[test]
fn the_end_counts_only_at_the_end_and_alone_on_its_line() {
    check(&format!("{END}SELECT 1;\n"), false, &[]);
    check(&format!("{END}COPY public.t (a) FROM stdin;\n\\.\n"), false, &[("public.t", 0)]);
    check(&format!("SELECT 1\n{END}"), false, &[]);
    check("SELECT 1; -- PostgreSQL database dump complete\n", false, &[]);
    check("-- PostgreSQL database dump complete?\n", false, &[]);
    check("---- PostgreSQL database dump complete\n", false, &[]);
    check("-- PostgreSQL database dump complete", false, &[]);
    check(&format!("\\restrict abc\n{END}"), false, &[]);
}

#[test]
fn what_no_pg_dump_writes_is_reported() {
    for dump in [
        "COPY t (a) FROM stdin;\n1\n\\.\n",
        "COPY public.t (a) FROM '/x';\n",
        "COPY public.t (a) FROM stdin; 1\n\\.\n",
    ] {
        assert!(scan(dump).unreadable.is_some(), "{dump}");
    }
}

#[test]
fn a_command_that_psql_would_obey_is_reported_wherever_it_stands() {
    for command in [
        "\\! x\n",
        " \\! x\n",
        "SELECT 1 \\! x\n;\n",
        "SELECT 1; \\! x\n",
        "SELECT 1\n\\g |x\n",
        "SELECT 'a'\\! x\n;\n",
        "SELECT 1 -\\! x\n;\n",
        "SELECT $\\! x\n;\n",
        "/* */ \\! x\n",
        "SELECT 1 \\restrict abc\n;\n",
        "\\restrict \n",
        "\\unrestrict abc \\! x\n",
        "\\unrestrict abc\\! x\n",
    ] {
        let report = scan(&format!("{command}{END}"));
        assert!(report.unreadable.is_some(), "{command}");
    }
    let long = "a".repeat(200);
    let hidden = format!("\\restrict {long} \\! x\n{END}\\unrestrict {long}\n");
    assert!(scan(&hidden).unreadable.is_some());
    let key = "k".repeat(63);
    check(&format!("\\restrict {key}\n{END}\\unrestrict {key}\n"), true, &[]);
}

#[test]
fn large_objects_are_counted_where_they_are_made_and_not_where_they_are_told_of() {
    let made = "SELECT pg_catalog.lo_create('16400');\n\nSELECT pg_catalog.lo_create('16401');\n";
    let filled = "SELECT pg_catalog.lo_open('16400', 131072);\n\
                  SELECT pg_catalog.lowrite(0, '\\x53454c');\nSELECT pg_catalog.lo_close(0);\n";
    let told = "COMMENT ON TABLE t IS '\nSELECT pg_catalog.lo_create(''1'');';\n\
                -- SELECT pg_catalog.lo_create('2');\n\
                COPY public.t (a) FROM stdin;\nSELECT pg_catalog.lo_create('3');\n\\.\n";
    let report = scan(&format!("{told}{made}BEGIN;\n\n{filled}COMMIT;\n{END}"));
    assert_eq!((report.large_objects, report.large_object_contents), (2, 1));
    assert!(report.complete && report.unreadable.is_none());
}
