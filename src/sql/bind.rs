//! Statements to commands: names resolved, values converted, defaults filled in.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::sql::sqlparser::ast;

use crate::error::Result;
use crate::model::{Catalog, Durability, Param, TableMeta, UserId, WriteCommand};

pub use ids::IdSource;

mod ids;

/// Everything that a statement's meaning depends on beside its text.
pub struct BindContext<'a> {
    pub catalog: &'a Catalog,
    /// Of unqualified table names.
    pub namespace: &'a str,
    /// Whose rows: inside `EXECUTE AS USER` its target.
    pub user: &'a UserId,
    pub params: &'a [Param],
    pub now_us: i64,
    pub ids: &'a IdSource,
    /// The server's default.
    pub durability: Durability,
    pub request_durability: Option<Durability>,
}

pub enum BoundInsert {
    Rows(WriteCommand),
    /// To be run as the caller; its rows go to [`bind_rows`] with the same table and columns.
    FromQuery {
        table: Arc<TableMeta>,
        columns: Vec<usize>,
        query: Box<ast::Query>,
    },
}

pub enum BoundChange {
    ByKey(WriteCommand),
    ByQuery(ComputedChange),
}

/// An UPDATE or DELETE whose rows and values a query has to find.
pub struct ComputedChange {
    pub table: Arc<TableMeta>,
    /// To be run as the caller, with the statement's parameters; its rows go to [`bind_computed`]. Columns: 0 `_seq`,
    /// 1 `_deleted`, then all columns of the table in order with assigned ones replaced (UPDATE), or the key's columns
    /// in key order (DELETE).
    pub select: Box<ast::Query>,
    /// Positions in the table's columns that the UPDATE assigns.
    pub assigned: Vec<usize>,
    pub deletes: bool,
}

pub fn bind_insert(ctx: &BindContext<'_>, insert: &ast::Insert) -> Result<BoundInsert> {
    let _ = (ctx, insert);
    todo!()
}

/// Rows that a query computed for `columns` of an INSERT.
pub fn bind_rows(
    ctx: &BindContext<'_>,
    table: &Arc<TableMeta>,
    columns: &[usize],
    batches: &[RecordBatch],
) -> Result<WriteCommand> {
    let _ = (ctx, table, columns, batches);
    todo!()
}

pub fn bind_update(ctx: &BindContext<'_>, update: &ast::Update) -> Result<BoundChange> {
    let _ = (ctx, update);
    todo!()
}

pub fn bind_delete(ctx: &BindContext<'_>, delete: &ast::Delete) -> Result<BoundChange> {
    let _ = (ctx, delete);
    todo!()
}

/// The rows that `change.select` gave, as the changes to make.
pub fn bind_computed(ctx: &BindContext<'_>, change: &ComputedChange, batches: &[RecordBatch]) -> Result<WriteCommand> {
    let _ = (ctx, change, batches);
    todo!()
}
