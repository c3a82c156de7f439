//! SQL: from text to commands, and from queries to rows.
//!
//! Owns the grammar, name resolution, type conversion, the query engine and the tables it sees.
//! Never writes: a bound `WriteCommand` goes out; rows are read through one `ReadView`.

pub mod bind;
pub(crate) mod caller_catalog;
pub mod check;
pub mod define;
pub mod direct;
pub mod engine;
pub(crate) mod functions;
pub(crate) mod json_functions;
pub mod live_query;
pub mod parse;
pub(crate) mod partition_table;
pub mod statement;
pub mod system_tables;
pub mod view;
