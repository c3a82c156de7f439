//! (being written)

pub mod query;
