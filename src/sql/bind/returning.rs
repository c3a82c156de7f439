//! `RETURNING`: what a statement answers of the rows that it wrote.
//!
//! Owns which of it needs no query engine: columns of the table. All else is selected from the table, and from what an
//! UPDATE … FROM or DELETE … USING joins it with, as [`ReturningSpec::select`], and compiled before the write goes on its way.
//! Never reads a row: a statement's own come back with its answer.

use std::sync::Arc;

use arrow::array::UInt64Array;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::take;
use datafusion::sql::sqlparser::ast::{Query, SelectItem, TableWithJoins};

use super::name::Target;
use super::select::plain_query;
use crate::error::{Error, Result};
use crate::model::{Owner, ResultSchema, Returning, TableMeta, WrittenRow};
use crate::sql::direct;
use crate::sql::engine::RowExprs;
use crate::storage::BatchBuilder;

#[derive(Debug)]
pub enum BoundReturning {
    Columns(ReturnedRows),
    /// To be compiled: [`ReturningSpec::select`] as the caller, then [`ReturnedRows::computed`].
    Computed(ReturningSpec),
}

#[derive(Debug)]
pub struct ReturningSpec {
    pub table: Arc<TableMeta>,
    /// What is returned, from the table and what it is joined with.
    pub select: Box<Query>,
}

/// `items` of a statement that writes `target`; `from` begins with the same table.
///
/// # Errors
/// `INVALID_SQL` for an empty list.
pub(super) fn bind_returning(
    target: &Target<'_>,
    items: &[SelectItem],
    from: Vec<TableWithJoins>,
) -> Result<BoundReturning> {
    if items.is_empty() {
        return Err(Error::InvalidSql("RETURNING names no column; RETURNING * is all of them".to_owned()));
    }
    if from.len() == 1
        && let Some((positions, names)) = direct::projection(items, target)
    {
        let schema = ResultSchema::of_table_projection(target.table, &positions, &names);
        let table = Arc::clone(target.table);
        return Ok(BoundReturning::Columns(ReturnedRows { table, schema, rows: Rows::Columns(positions) }));
    }
    let select = Box::new(plain_query(items.to_vec(), from, None));
    Ok(BoundReturning::Computed(ReturningSpec { table: Arc::clone(target.table), select }))
}

/// What to answer of rows, known before they are written.
#[derive(Debug, Clone)]
pub struct ReturnedRows {
    table: Arc<TableMeta>,
    schema: ResultSchema,
    rows: Rows,
}

#[derive(Debug, Clone)]
enum Rows {
    /// Positions in the table's full schema.
    Columns(Vec<usize>),
    Computed {
        exprs: RowExprs,
        /// What the expressions need of other tables: a row for each of the statement's operations.
        beside: Vec<ArrayRef>,
    },
}

impl ReturnedRows {
    /// `exprs`: what [`ReturningSpec::select`] was compiled to.
    pub fn computed(table: Arc<TableMeta>, exprs: RowExprs) -> Self {
        Self { table, schema: exprs.schema().clone(), rows: Rows::Computed { exprs, beside: Vec::new() } }
    }

    pub fn table(&self) -> &Arc<TableMeta> {
        &self.table
    }

    pub fn schema(&self) -> &ResultSchema {
        &self.schema
    }

    /// The expressions, where it takes any.
    pub fn exprs(&self) -> Option<&RowExprs> {
        match &self.rows {
            Rows::Columns(_) => None,
            Rows::Computed { exprs, .. } => Some(exprs),
        }
    }

    /// With what stands beside the row of each operation.
    pub fn beside(&self, columns: Vec<ArrayRef>) -> Self {
        match &self.rows {
            Rows::Columns(_) => self.clone(),
            Rows::Computed { exprs, .. } => {
                Self { rows: Rows::Computed { exprs: exprs.clone(), beside: columns }, ..self.clone() }
            }
        }
    }

    /// # Errors
    /// What an expression answers for one of the rows.
    pub fn answer(&self, written: &[WrittenRow]) -> Result<RecordBatch> {
        let shown: Vec<usize>;
        let positions = match &self.rows {
            Rows::Columns(positions) => positions,
            Rows::Computed { exprs, .. } => {
                shown = exprs.own().iter().map(|position| self.table.stored_position(*position)).collect();
                &shown
            }
        };
        let mut own = BatchBuilder::new(self.table.clone(), Some(positions));
        for WrittenRow { row, .. } in written {
            own.push(&Owner::Shared, row)?;
        }
        let own = own.finish()?;
        let Rows::Computed { exprs, beside } = &self.rows else { return Ok(own) };
        let ops: UInt64Array = written.iter().map(|row| row.op as u64).collect();
        let beside = beside.iter().map(|column| take(column, &ops, None).map_err(Error::internal));
        let columns = own.columns().iter().cloned().map(Ok).chain(beside).collect::<Result<Vec<_>>>()?;
        exprs.evaluate(columns, written.len())
    }
}

impl Returning for ReturnedRows {
    fn computes(&self) -> bool {
        matches!(self.rows, Rows::Computed { .. })
    }

    fn check(&self, rows: &[WrittenRow]) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        self.answer(rows).map(drop)
    }
}
