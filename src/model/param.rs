//! A statement's parameter, as the wire knows it: without a type until it meets a column.

/// `$n` of a statement.
#[derive(Debug, Clone, PartialEq)]
pub enum Param {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}
