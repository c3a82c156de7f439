//! The tables that generated queries read: columns of every type, and rows with what is easily got wrong.
//!
//! Owns the values: NULL, zeros, negative numbers, extremes, halves, leap days, text in many scripts, quotes, empty
//! strings. What a text looks like is the same for both sides: plain SQL literals.

use super::query::Ty;
use crate::zipf::Random;

/// Combining marks, right-to-left text, letters beyond the first plane, a family of several code points, SQL's own marks.
/// None that is longer in upper case: that is a documented difference of every word that holds one.
const WORDS: &[&str] = &[
    "",
    " ",
    "a",
    "A",
    "abc",
    "Abc",
    "ABC",
    "banana",
    " padded ",
    "two words",
    "it''s",
    "say \"hi\"",
    "100%",
    "under_score",
    "back\\slash",
    "a,b,c",
    "-12",
    "007",
    "Zürich",
    "zurich",
    "naïve café",
    "Ωμέγα",
    "привет",
    "Привет, мир",
    "日本語",
    "東京",
    "한국어",
    "สวัสดี",
    "नमस्ते",
    "שלום",
    "مرحبا",
    "😀",
    "👍🏽 ok",
    "👨‍👩‍👧",
    "e\u{301}",
    "\u{e9}",
    "𝔘nicode",
];
const DATES: &[&str] =
    &["1970-01-01", "1969-12-31", "2000-02-29", "2024-02-29", "2023-12-31", "2024-12-30", "1900-01-01", "2100-03-01"];
const MOMENTS: &[&str] = &[
    "1970-01-01 00:00:00",
    "1969-12-31 23:59:59.999999",
    "2024-02-29 12:34:56.789",
    "2024-02-29 12:34:56",
    "2023-12-31 23:59:59.5",
    "2000-01-01 00:00:00.000001",
    "2038-01-19 03:14:08",
];
const BIG: &[i64] = &[i64::MIN, i64::MAX, i64::MAX - 1, -1, 0, 1, 2, 4_294_967_296, -4_294_967_297, 1_000_000_007];
const DOUBLES: &[&str] =
    &["0", "-0.5", "0.5", "1.5", "2.5", "-1.5", "3.25", "0.1", "-0.1", "1000000.125", "-123456.75", "0.000001", "7"];
const DECIMALS: &[&str] =
    &["0.00", "0.01", "-0.01", "0.50", "1.50", "2.50", "-2.50", "9999999.99", "-1234567.89", "19.99", "100.00", "3.00"];

#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) ty: Ty,
}

#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) name: String,
    /// Beside `id`, which is the primary key.
    pub(super) columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(name: String, random: &mut Random) -> Self {
        let mut columns = Vec::new();
        for ty in Ty::ALL {
            // Each type once or twice: columns are compared with their like.
            for number in 0..1 + random.below(2) {
                let letter = match ty {
                    Ty::Int => "n",
                    Ty::Big => "k",
                    Ty::Double => "d",
                    Ty::Decimal => "m",
                    Ty::Text => "t",
                    Ty::Bool => "b",
                    Ty::Date => "day",
                    Ty::Timestamp => "at",
                };
                columns.push(Column { name: format!("{letter}{number}"), ty });
            }
        }
        // In any order, so that no place means a type.
        for place in (1..columns.len()).rev() {
            columns.swap(place, random.below(place + 1));
        }
        let count = [0, 1, 3, 7, 12, 25, 40][random.below(7)];
        let rows = (0..count).map(|_| columns.iter().map(|column| stored(column.ty, random)).collect()).collect();
        Self { name, columns, rows }
    }

    pub(super) fn create(&self, head: &str) -> String {
        let columns: Vec<String> =
            self.columns.iter().map(|column| format!("{} {}", column.name, column.ty.sql())).collect();
        format!("{head} {} (id INT PRIMARY KEY, {})", self.name, columns.join(", "))
    }

    pub(super) fn insert(&self) -> Option<String> {
        let rows: Vec<String> =
            self.rows.iter().enumerate().map(|(id, row)| format!("({id}, {})", row.join(", "))).collect();
        (!rows.is_empty()).then(|| format!("INSERT INTO {} VALUES {}", self.name, rows.join(", ")))
    }
}

/// As it stands in VALUES, where the column says what it is.
fn stored(ty: Ty, random: &mut Random) -> String {
    if random.below(6) == 0 {
        return "NULL".to_owned();
    }
    let value = value(ty, random);
    match ty {
        Ty::Text | Ty::Date | Ty::Timestamp => format!("'{value}'"),
        _ => value,
    }
}

fn pick(list: &[&'static str], random: &mut Random) -> &'static str {
    list[random.below(list.len())]
}

fn value(ty: Ty, random: &mut Random) -> String {
    match ty {
        Ty::Int => (random.below(11) as i64 - 5).to_string(),
        Ty::Big => BIG[random.below(BIG.len())].to_string(),
        Ty::Double => pick(DOUBLES, random).to_owned(),
        Ty::Decimal => pick(DECIMALS, random).to_owned(),
        Ty::Text => pick(WORDS, random).to_owned(),
        Ty::Bool => pick(&["TRUE", "FALSE"], random).to_owned(),
        Ty::Date => pick(DATES, random).to_owned(),
        Ty::Timestamp => pick(MOMENTS, random).to_owned(),
    }
}

/// A literal that is of its type wherever it stands.
pub(super) fn constant(ty: Ty, random: &mut Random) -> String {
    let value = value(ty, random);
    match ty {
        Ty::Int if value.starts_with('-') => format!("({value})"),
        Ty::Int | Ty::Bool => value,
        Ty::Text => format!("'{value}'"),
        Ty::Date | Ty::Timestamp => format!("{} '{value}'", ty.sql()),
        Ty::Big | Ty::Double | Ty::Decimal => format!("CAST('{value}' AS {})", ty.sql()),
    }
}

/// For LIKE, between its quotes.
pub(super) fn pattern(random: &mut Random) -> &'static str {
    const PATTERNS: &[&str] = &[
        "%", "a%", "%a", "%a%", "_", "__", "%n_n%", "", "A%", "%é%", "%語", "п%", "%😀%", "it''s", "%\\%", "_\\_%",
        "%,%",
    ];
    pick(PATTERNS, random)
}
