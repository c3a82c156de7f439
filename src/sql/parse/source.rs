//! Places in the text of a request: from sqlparser's lines and columns to byte offsets and to errors.
//!
//! Lines and columns count from 1, columns in characters.

use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan};

use crate::error::Error;

/// The text, and the last place that was looked up: places come in ascending order, so each lookup goes on from there.
pub(super) struct Source<'a> {
    text: &'a str,
    known: Location,
    offset: usize,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, known: Location::new(1, 1), offset: 0 }
    }

    /// Byte offset of a place; of the end of the text where the place is behind it, or is no place (end of the tokens).
    pub(super) fn offset(&mut self, place: Location) -> usize {
        if place.line == 0 {
            return self.text.len();
        }
        if (place.line, place.column) < (self.known.line, self.known.column) {
            (self.known, self.offset) = (Location::new(1, 1), 0);
        }
        let mut rest = &self.text[self.offset..];
        while self.known.line < place.line {
            let Some(end) = rest.find('\n') else { return self.text.len() };
            rest = &rest[end + 1..];
            self.known = Location::new(self.known.line + 1, 1);
        }
        let characters = usize::try_from(place.column.saturating_sub(self.known.column)).unwrap_or(usize::MAX);
        let skipped = match rest.as_bytes().get(..characters) {
            Some(bytes) if bytes.is_ascii() => characters,
            _ => rest.char_indices().nth(characters).map_or(rest.len(), |(at, _)| at),
        };
        self.known = place;
        self.offset = self.text.len() - rest.len() + skipped;
        self.offset
    }

    /// The text from `start` to `end`, without white space around it.
    pub(super) fn slice(&mut self, start: Location, end: Location) -> &'a str {
        let start = self.offset(start);
        let end = self.offset(end);
        self.text.get(start..end).unwrap_or_default().trim()
    }

    /// The place behind the last character.
    fn end(&self) -> Location {
        let text = self.text.trim_end();
        let line_start = text.rfind('\n').map_or(0, |at| at + 1);
        let line = 1 + text.bytes().filter(|b| *b == b'\n').count() as u64;
        Location::new(line, 1 + text[line_start..].chars().count() as u64)
    }

    /// `found` stands where `expected` should.
    pub(super) fn expected(&self, expected: &str, found: &TokenWithSpan) -> Error {
        let place = if found.span.start.line == 0 { self.end() } else { found.span.start };
        syntax(format!("Expected: {expected}, found: {}", found.token), place)
    }

    /// [`Source::expected`] where a secret may stand: a quoted text is not repeated.
    pub(super) fn expected_near_secret(&self, expected: &str, found: &TokenWithSpan) -> Error {
        match is_quoted(&found.token) {
            true => syntax(format!("Expected: {expected}, found: a quoted text"), found.span.start),
            false => self.expected(expected, found),
        }
    }

    /// sqlparser's error, with its place out of the text and into the error. `at`: the place where it has none.
    pub(super) fn fault(&self, error: ParserError, at: Location) -> Error {
        let message = match error {
            ParserError::ParserError(message) | ParserError::TokenizerError(message) => message,
            ParserError::RecursionLimitExceeded => {
                let place = if at.line == 0 { self.end() } else { at };
                return syntax("the statement is too deep: brackets or sub-queries nest too deep", place);
            }
        };
        if let Some((text, place)) = split_place(&message) {
            return syntax(text, place);
        }
        let place = if message.ends_with("found: EOF") || at.line == 0 { self.end() } else { at };
        syntax(message, place)
    }
}

/// In whatever quotes: they are `'`, `"`, a backtick or `$`, with a letter in front of some.
pub(super) fn is_quoted(token: &Token) -> bool {
    match token {
        Token::Word(word) => word.quote_style.is_some(),
        other => other.to_string().contains(['\'', '"', '`', '$']),
    }
}

/// Takes ` at Line: 1, Column: 8` off the end.
fn split_place(message: &str) -> Option<(&str, Location)> {
    let (text, place) = message.rsplit_once(" at Line: ")?;
    let (line, column) = place.split_once(", Column: ")?;
    Some((text, Location::new(line.parse().ok()?, column.trim_end().parse().ok()?)))
}

pub(super) fn syntax(message: impl Into<String>, at: Location) -> Error {
    Error::Syntax { message: message.into(), line: at.line.max(1), column: at.column.max(1) }
}
