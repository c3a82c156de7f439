//! Statements to commands: names resolved, values converted, defaults filled in, one partition addressed.
//!
//! Owns what an INSERT, UPDATE or DELETE means. What a constant can not say is left to a query, whose rows come back
//! through [`bind_rows`] and [`bind_computed`] and meet the same conversions and checks.
//! Never reads rows, never checks a right: `auth::Policy` and the partition do.
//! Start at [`bind_insert`].

use std::sync::Arc;

use datafusion::sql::sqlparser::ast;

use crate::error::Result;
use crate::model::{
    Catalog, ColumnDefault, ColumnMeta, Durability, OnConflict, Param, TableMeta, UserId, Value, WriteCommand, WriteOp,
};

pub use change::{ComputedWrite, bind_computed, bind_delete, bind_update};
pub use conflict::{BoundConflict, MergeSpec};
pub(crate) use constant::no_parameter;
pub use ids::IdSource;
pub use insert::{bind_insert, bind_rows};
pub(crate) use name::column_named;
pub use returning::{BoundReturning, ReturnedRows, ReturningSpec};
pub(crate) use select::plain_query;

mod assign;
mod cells;
mod change;
mod conflict;
pub(crate) mod constant;
pub(crate) mod given;
mod ids;
mod insert;
pub(crate) mod key;
pub(crate) mod name;
mod returning;
mod row;
mod select;

use given::Given;

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

impl<'a> BindContext<'a> {
    fn command(&self, table: &Arc<TableMeta>, ops: Vec<WriteOp>) -> WriteCommand {
        WriteCommand {
            table: Arc::clone(table),
            owner: table.owner_for(self.user),
            ops,
            notes: Vec::new(),
            durability: self.request_durability.unwrap_or_else(|| table.durability_or(self.durability)),
            on_conflict: OnConflict::Fail,
            returning: None,
        }
    }

    /// What the column's DEFAULT is at this moment.
    ///
    /// # Errors
    /// None for a default that was checked when it was defined.
    pub(crate) fn default_of(&self, column: &ColumnMeta) -> Result<Value> {
        row::Fill::default_of(column)?.value(self, column, 1)
    }

    /// A value of a function of DEFAULT; a new one on each call.
    fn generate(&self, function: &ColumnDefault) -> Given<'a> {
        match function {
            // Its literal is converted beforehand, once a statement.
            ColumnDefault::Literal(_) => Given::Null,
            ColumnDefault::Now => Given::Timestamp(self.now_us),
            ColumnDefault::SnowflakeId => Given::Int(self.ids.snowflake(self.now_us)),
            ColumnDefault::UuidV7 => Given::Uuid(*self.ids.uuid_v7(self.now_us).as_bytes()),
            ColumnDefault::Ulid => Given::Text(self.ids.ulid(self.now_us).into()),
            ColumnDefault::CurrentUser => Given::Text(self.user.as_str().into()),
        }
    }
}

#[derive(Debug)]
pub struct BoundInsert {
    pub rows: InsertRows,
    pub conflict: BoundConflict,
    pub returning: Option<BoundReturning>,
}

#[derive(Debug)]
pub enum InsertRows {
    Rows(WriteCommand),
    /// To be run as the caller; its rows go to [`bind_rows`] with the same table and columns.
    Query {
        table: Arc<TableMeta>,
        /// Positions in the table's columns, one per column of the query.
        columns: Vec<usize>,
        query: Box<ast::Query>,
    },
}

/// An UPDATE or DELETE.
#[derive(Debug)]
pub struct BoundStatement {
    pub change: BoundChange,
    pub returning: Option<BoundReturning>,
}

#[derive(Debug)]
pub enum BoundChange {
    ByKey(WriteCommand),
    ByQuery(ComputedChange),
}

/// An UPDATE or DELETE whose rows and values a query has to find.
#[derive(Debug)]
pub struct ComputedChange {
    pub table: Arc<TableMeta>,
    /// Columns: 0 `_seq`, 1 `_deleted`, then all columns of the table in order with computed ones replaced (UPDATE), or the
    /// key's columns in key order (DELETE). [`ComputedChange::select`] is what to run of it, as the caller and with the
    /// statement's parameters; its rows go to [`bind_computed`].
    select: Box<ast::Query>,
    /// Positions in the table's columns that the UPDATE assigns.
    pub assigned: Vec<usize>,
    pub deletes: bool,
    /// UPDATE … FROM, DELETE … USING: a row may be found several times.
    joins: bool,
    /// Of `assigned`, those that the query computes.
    computed: Vec<usize>,
    /// Of `assigned`, those that need no query: their columns in `select` hold the old values.
    constants: Vec<(usize, row::Fill)>,
}

#[cfg(test)]
pub(crate) mod tests;
