//! The tuples of literals of a long INSERT, read past the parser.
//!
//! A batch INSERT is nearly all literals, and a token and an expression for each cost five times what storing them does.
//! Owns which tuples are nothing but literals, and cuts them out: the parser reads the statement with its first tuple
//! only, so everything else about it is the parser's and is checked there.
//! Never judges: where anything but a literal stands, or the rest does not parse as an INSERT of one row, the whole text
//! goes the parser's way, whose errors and places these are.

use std::ops::Range;

use super::parse_whole;
use crate::sql::statement::{Insert, LiteralCell, LiteralRows, ParsedStatement, Statement};

/// The statement of a request that is one INSERT of several rows of literals; `None` where it is anything else.
pub(super) fn parse_literal_insert(sql: &str) -> Option<Vec<ParsedStatement>> {
    let (cut, rows) = cut_tuples(sql)?;
    let without = format!("{}{}", &sql[..cut.start], &sql[cut.end..]);
    let mut statements = parse_whole(&without).ok()?;
    let [statement] = statements.as_mut_slice() else { return None };
    let insert = insert_within(&mut statement.statement)?;
    let first = insert.parsed_rows()?.next()?;
    if first.len() != rows.columns() {
        return None;
    }
    insert.more = rows;
    Some(statements)
}

fn insert_within(statement: &mut Statement) -> Option<&mut Insert> {
    match statement {
        Statement::Insert(insert) => Some(insert),
        Statement::ExecuteAs { inner, .. } => insert_within(&mut inner.statement),
        _ => None,
    }
}

/// The tuples behind the first: where they stand (from the comma before them), and what they hold.
fn cut_tuples(sql: &str) -> Option<(Range<usize>, LiteralRows)> {
    let mut at = Cursor { text: sql.as_bytes(), at: 0, base: 0 };
    at.skip_head()?;
    let mut cells = Vec::new();
    at.tuple(&mut cells)?;
    let columns = cells.len();
    let cut = at.at;
    let mut end = cut;
    at.base = cut;
    cells.clear();
    let mut rows = 0;
    while at.accept(b',') {
        at.tuple(&mut cells)?;
        rows += 1;
        if cells.len() != columns * rows {
            return None;
        }
        end = at.at;
    }
    if rows == 0 {
        return None;
    }
    Some((cut..end, LiteralRows::new(sql[cut..end].into(), columns, cells)))
}

struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
    /// Where the text begins that the literals' places are in.
    base: usize,
}

impl Cursor<'_> {
    /// To the bracket behind VALUES of an INSERT, or of one inside EXECUTE AS USER, that holds words, lists and quoted
    /// names only.
    fn skip_head(&mut self) -> Option<()> {
        let mut words = 0;
        loop {
            match self.next_visible()? {
                quote @ (b'\'' | b'"') => self.skip_quoted(quote)?,
                b'(' | b')' | b',' | b'.' => self.at += 1,
                byte if is_word(byte) => {
                    let word = self.word();
                    words += 1;
                    if words == 1 && !is_any(word, &["INSERT", "EXECUTE"]) {
                        return None;
                    }
                    if is_any(word, &["VALUES"]) && self.next_visible()? == b'(' {
                        return Some(());
                    }
                }
                _ => return None,
            }
        }
    }

    fn tuple(&mut self, cells: &mut Vec<LiteralCell>) -> Option<()> {
        if !self.accept(b'(') {
            return None;
        }
        loop {
            cells.push(self.literal()?);
            match self.next_visible()? {
                b',' => self.at += 1,
                b')' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    /// Exactly what the parser takes for one literal, in the forms that batches are made of.
    fn literal(&mut self) -> Option<LiteralCell> {
        match self.next_visible()? {
            b'\'' => {
                let start = self.at;
                self.skip_quoted(b'\'')?;
                LiteralCell::text(start + 1 - self.base..self.at - 1 - self.base)
            }
            b'-' | b'0'..=b'9' => {
                let number = self.number()?;
                LiteralCell::number(number.start - self.base..number.end - self.base)
            }
            b'$' => {
                let start = self.at;
                self.at += 1;
                self.digits()?;
                self.ends_literal()?;
                LiteralCell::param(start - self.base..self.at - self.base)
            }
            byte if is_word(byte) => match self.word() {
                word if is_any(word, &["NULL"]) => Some(LiteralCell::Null),
                word if is_any(word, &["TRUE"]) => Some(LiteralCell::Bool(true)),
                word if is_any(word, &["FALSE"]) => Some(LiteralCell::Bool(false)),
                word if is_any(word, &["DEFAULT"]) => Some(LiteralCell::Default),
                _ => None,
            },
            _ => None,
        }
    }

    fn number(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        if self.text.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        self.digits()?;
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.text.get(self.at), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.text.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        self.ends_literal()?;
        Some(start..self.at)
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn ends_literal(&self) -> Option<()> {
        matches!(self.text.get(self.at)?, b',' | b')' | b' ' | b'\t' | b'\r' | b'\n').then_some(())
    }

    /// Behind the closing quote. A doubled quote stands for one.
    fn skip_quoted(&mut self, quote: u8) -> Option<()> {
        self.at += 1;
        loop {
            self.at += memchr::memchr(quote, &self.text[self.at..])? + 1;
            if self.text.get(self.at) != Some(&quote) {
                return Some(());
            }
            self.at += 1;
        }
    }

    fn word(&mut self) -> &[u8] {
        let start = self.at;
        while self.text.get(self.at).is_some_and(|byte| is_word(*byte)) {
            self.at += 1;
        }
        &self.text[start..self.at]
    }

    fn accept(&mut self, byte: u8) -> bool {
        let found = self.next_visible() == Some(byte);
        if found {
            self.at += 1;
        }
        found
    }

    /// The next byte that is no white space, without taking it.
    fn next_visible(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.get(self.at)?;
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(byte);
            }
            self.at += 1;
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn is_any(word: &[u8], words: &[&str]) -> bool {
    words.iter().any(|w| word.eq_ignore_ascii_case(w.as_bytes()))
}
