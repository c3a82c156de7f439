//! Whatever bytes come in: no panic, no run without end. The same entry points have targets in `fuzz/` for longer runs.

use std::time::{Duration, Instant};

use inboxdb::fuzz;
use proptest::collection::vec;
use proptest::prelude::*;

/// Longer than any input here takes on a busy machine.
const LONG: Duration = Duration::from_secs(20);

/// Pieces of which statements are made, so that texts get far into the parser.
const WORDS: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "INSERT INTO",
    "VALUES",
    "UPDATE",
    "SET",
    "DELETE",
    "CREATE",
    "USER",
    "SHARED",
    "STREAM",
    "TABLE",
    "ALTER",
    "DROP",
    "NAMESPACE",
    "EXECUTE AS USER",
    "WITH",
    "RECURSIVE",
    "AS",
    "JOIN",
    "ON",
    "GROUP BY",
    "ORDER BY",
    "LIMIT",
    "UNION ALL",
    "CASE",
    "WHEN",
    "THEN",
    "END",
    "NOT",
    "AND",
    "OR",
    "IN",
    "BETWEEN",
    "LIKE",
    "IS NULL",
    "CAST",
    "PASSWORD",
    "ROLE",
    "CONSUME",
    "ACK",
    "TOPIC",
    "STORAGE",
    "FLUSH",
    "KILL",
    "EXPLAIN",
    "ANALYZE",
    "SUBSCRIBE TO",
    "OPTIONS",
    "BACKUP DATABASE TO",
    "PRIMARY KEY",
    "DEFAULT",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ";",
    ".",
    "*",
    "+",
    "-",
    "=",
    "<",
    ">",
    "!",
    "~",
    "::",
    "->",
    "->>",
    "$1",
    "'x'",
    "'",
    "\"a b\"",
    "\"",
    "`",
    "--",
    "/*",
    "*/",
    "1",
    "1e9",
    "0x1F",
    "a",
    "t.t",
    "ns.*",
    "E'\\x'",
    "$$",
    "\u{0}",
    "é",
    "\u{202e}",
    "𝕊",
    "\\",
    "@",
    "#",
    "?",
];

fn in_time(work: impl FnOnce()) {
    let started = Instant::now();
    work();
    assert!(started.elapsed() < LONG, "took {:?}", started.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn statements_of_words(words in vec(prop::sample::select(WORDS), 0..60), joint in prop::sample::select(&["", " ", "\n"][..])) {
        in_time(|| fuzz::statement(&words.join(joint)));
    }

    #[test]
    fn statements_of_one_piece(word in prop::sample::select(WORDS), times in 1_usize..20_000) {
        in_time(|| fuzz::statement(&word.repeat(times)));
        in_time(|| fuzz::statement(&format!("SELECT {}", format!("{word} ").repeat(times))));
    }

    #[test]
    fn statements_of_anything(text in any::<String>()) {
        in_time(|| fuzz::statement(&text));
    }

    #[test]
    fn bodies(bytes in vec(any::<u8>(), 0..300), text in any::<String>(), depth in 0_usize..5_000) {
        in_time(|| fuzz::body(&bytes));
        in_time(|| fuzz::body(format!("{{\"sql\":\"SELECT 1\",\"params\":[{text:?}]}}").as_bytes()));
        in_time(|| fuzz::body(format!("{{\"sql\":\"x\",\"params\":{}", "[{\"a\":".repeat(depth)).as_bytes()));
    }

    #[test]
    fn frames(bytes in vec(any::<u8>(), 0..300), depth in 0_usize..5_000) {
        in_time(|| fuzz::frame(&bytes));
        in_time(|| fuzz::frame(&[&[0x1f_u8, 0x8b, 8, 0][..], &bytes[..]].concat()));
        // Arrays and maps in each other, and lengths that promise more than there is.
        in_time(|| fuzz::frame(&[0x91_u8, 0x81].repeat(depth)));
        in_time(|| fuzz::frame(&[&[0xdd_u8, 0xff, 0xff, 0xff, 0xff][..], &bytes[..]].concat()));
        in_time(|| fuzz::frame("[{\"type\":".repeat(depth).as_bytes()));
    }

    #[test]
    fn tokens(parts in vec("[A-Za-z0-9_=-]{0,80}", 0..5), text in any::<String>()) {
        let tokens = fuzz::Tokens::new().unwrap();
        prop_assert!(!tokens.takes(&parts.join(".")));
        prop_assert!(!tokens.takes(&text));
    }

    #[test]
    fn stored_rows(bytes in vec(any::<u8>(), 0..300), flags in 0_u8..16) {
        in_time(|| fuzz::stored_row(&bytes).unwrap());
        in_time(|| fuzz::stored_row(&[&[flags][..], &bytes[..]].concat()).unwrap());
    }

    #[test]
    fn manifests(bytes in vec(any::<u8>(), 0..300), text in any::<String>()) {
        in_time(|| fuzz::manifest(&bytes));
        in_time(|| fuzz::manifest(format!("{{\"path\":{text:?},\"rows\":18446744073709551615}}").as_bytes()));
    }
}
