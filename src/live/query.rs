//! What a live query can do: the seam between subscriptions and the evaluator that SELECT uses.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};

use super::equality::Equality;
use crate::error::Result;
use crate::model::TableMeta;
use crate::model::result::ResultSchema;

/// One compiled `SELECT columns FROM table [WHERE …]`, evaluated row by row: the same expressions as SELECT's (LQ-4).
pub trait LiveQuery: Send + Sync + std::fmt::Debug {
    fn table(&self) -> &Arc<TableMeta>;

    /// Does it address the rows of all users in one go?
    fn all_owners(&self) -> bool;

    /// Are deleted rows among its rows? So they are where its filter mentions `_deleted`, as with SELECT.
    fn sees_tombstones(&self) -> bool;

    /// The columns that [`LiveQuery::project`] gives, in order.
    fn schema(&self) -> &ResultSchema;

    /// Where each column of the table's primary key is in [`LiveQuery::project`]; `None`: it is not selected.
    fn key_positions(&self) -> &[Option<usize>];

    /// For each row of `rows` (full schema of the table, or of all owners): does it match? NULL is no.
    ///
    /// # Errors
    /// `EXECUTION` where the filter can not be computed on one of the rows.
    fn matches(&self, rows: &RecordBatch) -> Result<BooleanArray>;

    /// The selected columns of `rows`, all of which match.
    ///
    /// # Errors
    /// `EXECUTION` where an expression can not be computed on one of the rows.
    fn project(&self, rows: &RecordBatch) -> Result<RecordBatch>;

    /// A column that must have one value for a row to match, if the filter says so: it is asked of no other rows then.
    fn equality(&self) -> Option<&Equality> {
        None
    }

    /// Equal for queries that give equal results on the same rows: such queries are evaluated once for all subscribers.
    fn identity(&self) -> &str;
}
