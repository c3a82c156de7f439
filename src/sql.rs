//! SQL: from text to commands, and from queries to rows.
//!
//! Owns the grammar, name resolution, type conversion, the query engine and the tables it sees.
//! Never writes: a bound `WriteCommand` goes out; rows are read through one `ReadView`.

pub mod bind;
pub mod define;
pub mod direct;
pub mod parse;
pub mod statement;
