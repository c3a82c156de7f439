//! A live query, seen from the delivery side: which rows of a change belong to it, and what a subscriber sees of them.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};

use crate::error::Result;
use crate::model::{ResultSchema, TableMeta};

/// One `SELECT … FROM ns.table [WHERE …]` that is kept live. `sql::live_query` compiles it.
pub trait LiveQuery: Send + Sync + std::fmt::Debug {
    fn table(&self) -> &Arc<TableMeta>;

    /// Does it listen to all owners' rows (`EXECUTE AS USER '*'`)?
    fn all_owners(&self) -> bool;

    /// For the acknowledgement: `*` lists `_seq` and `_deleted`; a projection only its columns.
    fn schema(&self) -> &ResultSchema;

    /// Which rows the query selects. `rows` has the table's full schema, or its all-owners schema; NULL counts as
    /// false, no WHERE as true.
    ///
    /// # Errors
    /// What a SELECT with the same predicate answers: `Execution` where a row makes it fail.
    fn matches(&self, rows: &RecordBatch) -> Result<BooleanArray>;

    /// The selected columns, then `_seq`; with `*` also `_deleted`, and for all owners `_user_id` and `_storage_id`.
    ///
    /// # Errors
    /// `Execution` where a row makes an expression fail.
    fn project(&self, rows: &RecordBatch) -> Result<RecordBatch>;

    /// Queries on one table and scope with equal identity are evaluated once for all their subscribers.
    fn identity(&self) -> &str;
}
