//! Rows of literals in the text they were written in: what a batch INSERT is made of.
//!
//! Owns their form: 12 bytes a cell beside the text itself. Never converts: a column does that.

use std::borrow::Cow;
use std::ops::Range;

/// Rows of one length. The default holds none.
#[derive(Debug, Clone, Default)]
pub struct LiteralRows {
    text: Box<str>,
    columns: usize,
    cells: Vec<LiteralCell>,
}

/// One literal, as a place in the text where it needs one.
#[derive(Debug, Clone, Copy)]
pub enum LiteralCell {
    Null,
    Bool(bool),
    Default,
    Number(Place),
    /// Between its quotes.
    Text(Place),
    /// With its `$`.
    Param(Place),
}

/// A range of a text.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    start: u32,
    len: u32,
}

/// One literal of a row, read.
#[derive(Debug, PartialEq)]
pub enum Literal<'a> {
    Null,
    Bool(bool),
    Default,
    /// As it was written, with its sign.
    Number(&'a str),
    Text(Cow<'a, str>),
    /// `$1`.
    Param(&'a str),
}

impl LiteralRows {
    /// `cells`: row after row, places in `text`.
    pub(crate) fn new(text: Box<str>, columns: usize, cells: Vec<LiteralCell>) -> Self {
        Self { text, columns, cells }
    }

    /// Literals in each row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[LiteralCell]> {
        self.cells.chunks_exact(self.columns.max(1))
    }

    pub fn literal(&self, cell: LiteralCell) -> Literal<'_> {
        match cell {
            LiteralCell::Null => Literal::Null,
            LiteralCell::Bool(v) => Literal::Bool(v),
            LiteralCell::Default => Literal::Default,
            LiteralCell::Number(place) => Literal::Number(self.at(place)),
            LiteralCell::Param(place) => Literal::Param(self.at(place)),
            LiteralCell::Text(place) => {
                let text = self.at(place);
                let quoted = text.contains('\'');
                Literal::Text(if quoted { Cow::Owned(text.replace("''", "'")) } else { Cow::Borrowed(text) })
            }
        }
    }

    fn at(&self, place: Place) -> &str {
        let start = place.start as usize;
        self.text.get(start..start + place.len as usize).unwrap_or_default()
    }
}

impl LiteralCell {
    pub(crate) fn number(at: Range<usize>) -> Option<Self> {
        Place::of(at).map(Self::Number)
    }

    pub(crate) fn text(at: Range<usize>) -> Option<Self> {
        Place::of(at).map(Self::Text)
    }

    pub(crate) fn param(at: Range<usize>) -> Option<Self> {
        Place::of(at).map(Self::Param)
    }
}

impl Place {
    /// `None` in a text of over 4 GiB.
    fn of(at: Range<usize>) -> Option<Self> {
        Some(Self { start: u32::try_from(at.start).ok()?, len: u32::try_from(at.len()).ok()? })
    }
}
