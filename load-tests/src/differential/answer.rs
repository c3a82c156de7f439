//! What a side answered, in one form for both, and whether two answers are the same.
//!
//! Owns the meaning of equal: numbers are numbers whatever their type, floating point may differ in its last digits, times
//! are microseconds, rows have an order only where one was asked for, and two refusals are of one SQLSTATE class.

use std::cmp::Ordering;
use std::fmt;

use super::query::OrderItem;

/// Of the larger value: both sides add in an order of their own.
const RELATIVE_ERROR: f64 = 1e-9;
const ABSOLUTE_ERROR: f64 = 1e-9;
const SHOWN_ROWS: usize = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Number,
    Text,
    Bool,
    Date,
    Timestamp,
    /// Not compared further than by its text.
    Other,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Null,
    Bool(bool),
    /// As it was written.
    Number(String),
    /// Days or microseconds since 1970.
    Time(i64),
    Text(String),
}

#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) kinds: Vec<Kind>,
    pub(super) rows: Vec<Vec<Cell>>,
}

#[derive(Debug, Clone)]
pub(super) enum Outcome {
    Rows(Answer),
    Refused { sqlstate: String, message: String },
}

/// What sort of difference there is; a smaller query has to show the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Difference {
    OnlyPostgresAnswers,
    OnlyInboxDbAnswers,
    Types,
    Rows,
    Order,
    RefusedOtherwise,
}

impl Outcome {
    pub(super) fn difference(postgres: &Outcome, inboxdb: &Outcome, order: &[OrderItem]) -> Option<Difference> {
        match (postgres, inboxdb) {
            (Outcome::Rows(a), Outcome::Rows(b)) => Answer::difference(a, b, order),
            (Outcome::Rows(_), Outcome::Refused { .. }) => Some(Difference::OnlyPostgresAnswers),
            (Outcome::Refused { .. }, Outcome::Rows(_)) => Some(Difference::OnlyInboxDbAnswers),
            (Outcome::Refused { sqlstate: a, .. }, Outcome::Refused { sqlstate: b, .. }) => {
                (a.get(..2) != b.get(..2)).then_some(Difference::RefusedOtherwise)
            }
        }
    }

    /// Whether both answer the same rows, but for this much in numbers.
    pub(super) fn within(a: &Outcome, b: &Outcome, error: f64) -> bool {
        matches!((a, b), (Outcome::Rows(a), Outcome::Rows(b)) if Answer::same_rows(a, b, error))
    }

    pub(super) fn sqlstate(&self) -> Option<&str> {
        match self {
            Outcome::Rows(_) => None,
            Outcome::Refused { sqlstate, .. } => Some(sqlstate),
        }
    }

    pub(super) fn message(&self) -> &str {
        match self {
            Outcome::Rows(_) => "",
            Outcome::Refused { message, .. } => message,
        }
    }
}

impl Answer {
    /// In any order.
    fn same_rows(a: &Answer, b: &Answer, error: f64) -> bool {
        let sorted = |answer: &Answer| {
            let mut rows = answer.rows.clone();
            rows.sort_by(|a, b| compare_rows(a, b));
            rows
        };
        let same_row = |(a, b): (&Vec<Cell>, &Vec<Cell>)| a.iter().zip(b).all(|(a, b)| same_within(a, b, error));
        a.rows.len() == b.rows.len() && sorted(a).iter().zip(&sorted(b)).all(same_row)
    }

    fn difference(a: &Answer, b: &Answer, order: &[OrderItem]) -> Option<Difference> {
        if a.kinds.len() != b.kinds.len() {
            return Some(Difference::Types);
        }
        // A column that is all NULL has a type in name only.
        let holds = |answer: &Answer, column: usize| answer.rows.iter().any(|row| row[column] != Cell::Null);
        let other = |column: &usize| a.kinds[*column] != b.kinds[*column] && holds(a, *column) && holds(b, *column);
        if (0..a.kinds.len()).any(|column| other(&column)) {
            return Some(Difference::Types);
        }
        if a.rows.len() != b.rows.len() {
            return Some(Difference::Rows);
        }
        if !Answer::same_rows(a, b, ABSOLUTE_ERROR) {
            return Some(Difference::Rows);
        }
        let in_order =
            a.rows.iter().zip(&b.rows).all(|(a, b)| order.iter().all(|item| same(&a[item.column], &b[item.column])));
        (!in_order).then_some(Difference::Order)
    }
}

/// Numbers last: rows that differ in nothing but the last digits of one are then neighbours on both sides.
fn compare_rows(a: &[Cell], b: &[Cell]) -> Ordering {
    let pairs = || a.iter().zip(b);
    let exact = pairs().filter(|(a, b)| !(is_number(a) && is_number(b))).map(|(a, b)| compare(a, b));
    let numbers = pairs().filter(|(a, b)| is_number(a) && is_number(b)).map(|(a, b)| compare(a, b));
    exact.chain(numbers).find(|ordering| ordering.is_ne()).unwrap_or(Ordering::Equal)
}

fn is_number(cell: &Cell) -> bool {
    matches!(cell, Cell::Number(_))
}

fn compare(a: &Cell, b: &Cell) -> Ordering {
    match (a, b) {
        // Whole numbers beyond 53 bits are told apart by their text.
        (Cell::Number(x), Cell::Number(y)) => {
            let whole = |text: &str| text.parse::<i128>().unwrap_or_default();
            (float(x) + 0.0).total_cmp(&(float(y) + 0.0)).then_with(|| whole(x).cmp(&whole(y)))
        }
        (Cell::Bool(x), Cell::Bool(y)) => x.cmp(y),
        (Cell::Time(x), Cell::Time(y)) => x.cmp(y),
        (Cell::Text(x), Cell::Text(y)) => x.cmp(y),
        _ => rank(a).cmp(&rank(b)),
    }
}

fn rank(cell: &Cell) -> u8 {
    match cell {
        Cell::Null => 0,
        Cell::Bool(_) => 1,
        Cell::Number(_) => 2,
        Cell::Time(_) => 3,
        Cell::Text(_) => 4,
    }
}

fn float(text: &str) -> f64 {
    text.parse().unwrap_or(f64::NAN)
}

fn same(a: &Cell, b: &Cell) -> bool {
    same_within(a, b, ABSOLUTE_ERROR)
}

fn same_within(a: &Cell, b: &Cell, error: f64) -> bool {
    let (Cell::Number(x), Cell::Number(y)) = (a, b) else { return a == b };
    if x == y {
        return true;
    }
    if let (Ok(x), Ok(y)) = (x.parse::<i128>(), y.parse::<i128>()) {
        return x == y;
    }
    let (x, y) = (float(x), float(y));
    let most = x.abs().max(y.abs());
    (x - y).abs() <= error.max(most * RELATIVE_ERROR)
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cell::Null => f.write_str("NULL"),
            Cell::Bool(value) => write!(f, "{value}"),
            Cell::Number(text) => f.write_str(text),
            Cell::Time(value) => write!(f, "@{value}"),
            Cell::Text(text) => write!(f, "{text:?}"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Refused { sqlstate, message } => write!(f, "refused {sqlstate}: {message:.300}"),
            Outcome::Rows(Answer { kinds, rows }) => {
                write!(f, "{} rows of {kinds:?}", rows.len())?;
                for row in rows.iter().take(SHOWN_ROWS) {
                    let cells: Vec<String> = row.iter().map(ToString::to_string).collect();
                    write!(f, "\n    {}", cells.join(" | "))?;
                }
                if rows.len() > SHOWN_ROWS { f.write_str("\n    …") } else { Ok(()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Cell {
        Cell::Number(text.to_owned())
    }

    fn rows(kind: Kind, cells: &[Cell]) -> Outcome {
        Outcome::Rows(Answer { kinds: vec![kind], rows: cells.iter().map(|cell| vec![cell.clone()]).collect() })
    }

    #[test]
    fn numbers_are_compared_by_value() {
        for (a, b) in [("1", "1.0"), ("0.1", "0.10000000000000001"), ("-0", "0"), ("1e3", "1000.00")] {
            assert!(same(&number(a), &number(b)), "{a} {b}");
        }
        for (a, b) in [("9223372036854775807", "9223372036854775806"), ("1", "1.0001"), ("1", "-1")] {
            assert!(!same(&number(a), &number(b)), "{a} {b}");
        }
        assert!(!same(&number("0"), &Cell::Null));
    }

    #[test]
    fn the_order_counts_where_it_was_asked_for() {
        let (up, down) = ([number("1"), number("2")], [number("2"), number("1")]);
        let (a, b) = (rows(Kind::Number, &up), rows(Kind::Number, &down));
        assert_eq!(Outcome::difference(&a, &b, &[]), None);
        let order = [OrderItem { column: 0, direction: "" }];
        assert_eq!(Outcome::difference(&a, &b, &order), Some(Difference::Order));
    }

    #[test]
    fn refusals_are_compared_by_class_and_types_where_there_are_values() {
        let refused = |state: &str| Outcome::Refused { sqlstate: state.to_owned(), message: String::new() };
        assert_eq!(Outcome::difference(&refused("22012"), &refused("22000"), &[]), None);
        let otherwise = Outcome::difference(&refused("22012"), &refused("XX000"), &[]);
        assert_eq!(otherwise, Some(Difference::RefusedOtherwise));
        let (nothing, text) = (rows(Kind::Number, &[Cell::Null]), rows(Kind::Text, &[Cell::Null]));
        assert_eq!(Outcome::difference(&nothing, &text, &[]), None);
        let (one, a) = (rows(Kind::Number, &[number("1")]), rows(Kind::Text, &[Cell::Text("1".to_owned())]));
        assert_eq!(Outcome::difference(&one, &a, &[]), Some(Difference::Types));
        assert_eq!(Outcome::difference(&one, &refused("22012"), &[]), Some(Difference::OnlyPostgresAnswers));
    }
}
