//! Where a subscriber stands: one position, or over several tables one a table.
//!
//! Owns how a position is written in frames and options. `_seq` is a table's own order, so of a subscription to `ns.*` a
//! position is a map; a plain number is then that number in each table.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::model::Seq;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Position {
    Seq(Seq),
    /// By the table's name, as `_table` has it.
    Tables(BTreeMap<String, Seq>),
}

impl Position {
    /// The position in one table. A table that a map does not name was never heard of: everything in it is new.
    pub fn of(&self, table: &str) -> Seq {
        match self {
            Position::Seq(seq) => *seq,
            Position::Tables(tables) => tables.get(table).copied().unwrap_or(Seq::ZERO),
        }
    }

    /// The position of a subscription to one table; of a map, none.
    pub fn seq(&self) -> Option<Seq> {
        match self {
            Position::Seq(seq) => Some(*seq),
            Position::Tables(_) => None,
        }
    }
}

impl From<Seq> for Position {
    fn from(seq: Seq) -> Self {
        Position::Seq(seq)
    }
}

/// What a sequence id may be written as.
#[derive(Deserialize)]
#[serde(untagged)]
enum Given {
    Number(i64),
    Text(String),
    Tables(BTreeMap<String, GivenSeq>),
    None(()),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum GivenSeq {
    Number(i64),
    Text(String),
}

impl GivenSeq {
    fn seq(self) -> Option<Seq> {
        match self {
            GivenSeq::Number(raw) => Seq::new(raw),
            GivenSeq::Text(text) => Seq::new(text.trim().parse().ok()?),
        }
    }
}

const INVALID: &str = "a sequence id is a whole number from 0, or such a number as text";

/// A position as a number or a text, or none.
pub(super) fn lenient_seq<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Seq>, D::Error> {
    match lenient_position(deserializer)? {
        Some(Position::Tables(_)) => Err(serde::de::Error::custom(INVALID)),
        Some(Position::Seq(seq)) => Ok(Some(seq)),
        None => Ok(None),
    }
}

/// The same, or an object with one for each table.
pub(super) fn lenient_position<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Position>, D::Error> {
    let invalid = || serde::de::Error::custom(INVALID);
    let seq = |given: GivenSeq| given.seq().ok_or_else(invalid);
    Ok(Some(match Given::deserialize(deserializer).map_err(|_| invalid())? {
        Given::Number(raw) => Position::Seq(seq(GivenSeq::Number(raw))?),
        Given::Text(text) => Position::Seq(seq(GivenSeq::Text(text))?),
        Given::Tables(tables) => {
            let tables = tables.into_iter().map(|(table, given)| Ok((table.to_ascii_lowercase(), seq(given)?)));
            Position::Tables(tables.collect::<Result<_, D::Error>>()?)
        }
        Given::None(()) => return Ok(None),
    }))
}

/// One that has to be there.
pub(super) fn position<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Position, D::Error> {
    lenient_position(deserializer)?.ok_or_else(|| serde::de::Error::custom(INVALID))
}
