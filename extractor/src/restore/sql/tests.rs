//! What must be taken out, what must stay, and what must be refused.

use super::*;

/// Reads `dump` in pieces of every length; the outcome must not depend on where they are cut.
#[track_caller]
fn read(dump: &str) -> (String, bool) {
    let mut outcomes = (1..=dump.len().max(1)).map(|len| {
        let mut filter = OneTransaction::default();
        let mut out = Vec::new();
        for piece in dump.as_bytes().chunks(len) {
            filter.feed(piece, &mut out);
        }
        let whole = filter.finish(&mut out);
        (String::from_utf8(out).unwrap(), whole)
    });
    let first = outcomes.next().unwrap();
    assert!(outcomes.all(|outcome| outcome == first), "{dump}");
    first
}

#[track_caller]
fn unchanged(dump: &str) {
    assert_eq!(read(dump), (dump.to_owned(), true));
}

#[test]
fn large_objects_lose_their_own_transaction() {
    let dump = "--\n-- Data for Name: BLOBS; Type: BLOBS; Schema: -; Owner: -\n--\n\nBEGIN;\n\n\
                SELECT pg_catalog.lo_open('1', 131072);\n\
                SELECT pg_catalog.lowrite(0, '\\x00');\n\nCOMMIT;\n\nSELECT 1;\n";
    let expected = dump.replace("BEGIN;\n", "").replace("COMMIT;\n", "");
    assert_eq!(read(dump), (expected, true));
}

#[test]
fn the_same_lines_in_rows_and_texts_stay() {
    unchanged("COPY public.t (a) FROM stdin;\nBEGIN;\nCOMMIT;\n\\.x\n\\.\nSELECT 1;\n");
    unchanged("CREATE PROCEDURE p() AS $$\nBEGIN;\nCOMMIT;\n$$;\n");
    unchanged("CREATE PROCEDURE p() AS $_a$\n$$\n$a$\nCOMMIT;\n$_b$_a$;\n");
    unchanged("SELECT '\nCOMMIT;\n', E'\\'\nCOMMIT;\n''\\\\', e'', 'it''s\nBEGIN;\n';\n");
    unchanged("SELECT \"\nBEGIN;\n\"\"\nCOMMIT;\n\";\n");
    unchanged("/* /* */\nCOMMIT;\n*/ SELECT 1;\n");
    unchanged("SELECT 1\nCOMMIT;\n");
    unchanged("-- it's\nBEGINNING;\nCOMMIT AND CHAIN;\n");
}

#[test]
fn rows_end_where_psql_thinks_so_and_commands_follow() {
    let rows = "COPY \"a;b\".\"FROM stdin;\n\" (\"x\") FROM stdin;\n1\t'\n\\.\n";
    assert_eq!(read(&format!("{rows}COMMIT;\n")), (rows.to_owned(), true));
    let empty = "COPY t (x) FROM stdin;\n\\.\n";
    assert_eq!(read(&format!("{empty}BEGIN;\n")), (empty.to_owned(), true));
    let text = "SELECT 'COPY t (x) FROM stdin;\n';\n";
    assert_eq!(read(&format!("{text}COMMIT;\n")), (text.to_owned(), true));
    let parameter = "PREPARE p AS SELECT $1, a$b$c, $2;\n";
    assert_eq!(read(&format!("{parameter}COMMIT;\n")), (parameter.to_owned(), true));
}

#[test]
fn comments_before_a_copy_do_not_hide_it() {
    let dump = "--\n-- Data\n--\n\n/* x */\nCOPY t (x) FROM stdin;\nCOMMIT;\n\\.\n";
    unchanged(dump);
    assert_eq!(read(&format!("{dump}COMMIT;\n")), (dump.to_owned(), true));
}

#[test]
fn an_end_in_the_middle_is_noticed() {
    for dump in [
        "SELECT 1",
        "SELECT 'a;\n",
        "COPY t (x) FROM stdin;\n1\n",
        "COPY t (x) FROM stdin;",
        "AS $$ x;\n",
        "/* x",
        "COMM",
    ] {
        assert!(!read(dump).1, "{dump}");
    }
    for dump in ["", "\n", "SELECT 1;", "SELECT 1;\n-- end", "\\unrestrict x\n\n"] {
        assert!(read(dump).1, "{dump}");
    }
}

/// Whether `dump` is refused, and nothing from its backslash on was handed out.
#[track_caller]
fn is_foreign(dump: &str) -> bool {
    let mut verdicts = (1..=dump.len()).map(|len| {
        let mut filter = OneTransaction::default();
        let mut out = Vec::new();
        dump.as_bytes().chunks(len).for_each(|piece| filter.feed(piece, &mut out));
        filter.is_foreign()
    });
    let first = verdicts.next().unwrap();
    assert!(verdicts.all(|verdict| verdict == first), "{dump}");
    first
}

#[test]
fn the_restrictions_of_a_dump_make_way_for_our_own() {
    let dump = "--\n\n\\restrict aZ09\n\nSELECT 1;\nBEGIN;\n\\unrestrict aZ09\n\n";
    assert_eq!(read(dump), ("--\n\n\nSELECT 1;\n\n".to_owned(), true));
    assert_eq!(read("\\restrict a\nCOMMIT;\n"), (String::new(), true));
}

#[test]
fn commands_to_psql_are_refused_wherever_they_hide() {
    for dump in [
        "\\! touch x\n",
        "SELECT 1 \\! touch x\n;\n",
        "SELECT 1; \\! touch x\n",
        "SELECT 1\n\\restrict a\n;\n",
        " \\restrict a\n",
        "\\restrict a b\n",
        "\\restrict `touch x`\n",
        "\\restricted a\n",
        "\\unrestrict a\\! touch x\n",
        "COPY t (x) FROM stdin;\n1\n\\.\n\\! touch x\n",
        "/* x */\\! touch x\n",
        "SELECT 'a'\\! touch x\n",
        "SELECT $$a$$ \\g |sh\n",
        "SELECT 1 AS \"a\"\\gexec\n",
    ] {
        assert!(is_foreign(dump), "{dump}");
    }
    let endless = format!("\\restrict {}", "a".repeat(RESTRICTION_MAX));
    assert!(is_foreign(&endless));
    for dump in
        ["SELECT '\\! x', $$\\! x$$, \"\\! x\", E'\\\\! x'; -- \\! x\n/* \\! x */", "SELECT 1;\n"]
    {
        assert!(!is_foreign(dump), "{dump}");
    }
}

#[test]
fn marks_do_not_overlap_and_names_hold_dollars() {
    unchanged("/*/\nCOMMIT;\n*/ SELECT 1;\n");
    for sql in ["SELECT a$$b;\n", "SELECT a$b$c$b$;\n", "SELECT a$E'\\';\n"] {
        assert_eq!(read(&format!("{sql}COMMIT;\n")), (sql.to_owned(), true), "{sql}");
    }
}
