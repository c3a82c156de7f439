//! INSERT: rows of constants to operations at once, everything else by way of a query.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::sql::sqlparser::ast::{Expr, Insert, Query, SetExpr, TableObject};

use super::cells::Cells;
use super::constant::{Constant, constant};
use super::name::{written_column, written_table};
use super::row::{Fill, RowBuilder};
use super::{BindContext, BoundInsert};
use crate::error::{Error, Result};
use crate::model::{TableMeta, WriteCommand, WriteOp};

/// # Errors
/// Whatever is wrong with the statement: names, number of values, types, NULLs, parameters.
pub fn bind_insert(ctx: &BindContext<'_>, insert: &Insert) -> Result<BoundInsert> {
    let TableObject::TableName(name) = &insert.table else {
        return Err(Error::InvalidSql(format!("Cannot insert into '{}'; name a table", insert.table)));
    };
    let table = written_table(ctx, name, "insert")?;
    let Some(query) = &insert.source else {
        // INSERT … DEFAULT VALUES.
        let mut builder = RowBuilder::new(ctx, table, &[])?;
        builder.begin()?;
        let (pk, row) = builder.end()?;
        return Ok(BoundInsert::Rows(ctx.command(table, vec![WriteOp::Insert { pk, row }])));
    };
    let columns = insert_columns(table, insert)?;
    if let Some(rows) = plain_values(query)
        && let Some(ops) = bind_values(ctx, table, &columns, rows)?
    {
        return Ok(BoundInsert::Rows(ctx.command(table, ops)));
    }
    Ok(BoundInsert::FromQuery { table: Arc::clone(table), columns, query: query.clone() })
}

/// Rows that a query computed for `columns` of an INSERT.
///
/// # Errors
/// Like [`bind_insert`].
pub fn bind_rows(
    ctx: &BindContext<'_>,
    table: &Arc<TableMeta>,
    columns: &[usize],
    batches: &[RecordBatch],
) -> Result<WriteCommand> {
    let mut builder = RowBuilder::new(ctx, table, columns)?;
    let mut ops = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    for batch in batches {
        check_count(batch.num_columns(), columns.len(), None)?;
        let cells = batch.columns().iter().map(Cells::new).collect::<Result<Vec<_>>>()?;
        for n in 0..batch.num_rows() {
            builder.begin()?;
            for (position, cells) in columns.iter().zip(&cells) {
                builder.set(*position, cells.get(n))?;
            }
            let (pk, row) = builder.end()?;
            ops.push(WriteOp::Insert { pk, row });
        }
    }
    Ok(ctx.command(table, ops))
}

/// Positions of the columns that the values are for: all of the table's where none are named.
fn insert_columns(table: &TableMeta, insert: &Insert) -> Result<Vec<usize>> {
    if insert.columns.is_empty() {
        return Ok((0..table.columns.len()).collect());
    }
    let mut columns = Vec::with_capacity(insert.columns.len());
    for name in &insert.columns {
        let position = written_column(table, name)?;
        if columns.contains(&position) {
            return Err(Error::InvalidSql(format!("Column '{name}' is named twice in INSERT")));
        }
        columns.push(position);
    }
    Ok(columns)
}

/// The rows of VALUES with nothing around it.
fn plain_values(query: &Query) -> Option<impl Iterator<Item = &[Expr]> + Clone> {
    let Query { with: None, body, order_by: None, limit_clause: None, fetch: None, pipe_operators, .. } = query else {
        return None;
    };
    match body.as_ref() {
        SetExpr::Values(values) if pipe_operators.is_empty() => {
            Some(values.rows.iter().map(|row| row.content.as_slice()))
        }
        _ => None,
    }
}

/// `None` where a value is no constant.
fn bind_values<'e>(
    ctx: &BindContext<'_>,
    table: &Arc<TableMeta>,
    columns: &[usize],
    rows: impl Iterator<Item = &'e [Expr]> + Clone,
) -> Result<Option<Vec<WriteOp>>> {
    let mut builder = RowBuilder::new(ctx, table, columns)?;
    let mut ops = Vec::with_capacity(rows.size_hint().0);
    for row in rows.clone() {
        builder.begin()?;
        check_count(row.len(), columns.len(), Some(builder.row()))?;
        for (position, expr) in columns.iter().zip(row) {
            match constant(expr, ctx.params)? {
                Some(Constant::Given(given)) => builder.set(*position, given)?,
                Some(Constant::Default) => builder.fill(*position, &Fill::default_of(&table.columns[*position])?)?,
                Some(Constant::Generated(function)) => builder.fill(*position, &Fill::Generated(function))?,
                None => {
                    check_no_default(ctx, rows)?;
                    return Ok(None);
                }
            }
        }
        let (pk, row) = builder.end()?;
        ops.push(WriteOp::Insert { pk, row });
    }
    Ok(Some(ops))
}

/// A query knows no DEFAULT.
fn check_no_default<'e>(ctx: &BindContext<'_>, rows: impl Iterator<Item = &'e [Expr]>) -> Result<()> {
    for expr in rows.flatten() {
        if constant(expr, ctx.params)? == Some(Constant::Default) {
            let message = "DEFAULT beside a computed value is not supported; leave the column out, or name its value";
            return Err(Error::Unsupported(message.to_owned()));
        }
    }
    Ok(())
}

fn check_count(values: usize, columns: usize, row: Option<usize>) -> Result<()> {
    if values == columns {
        return Ok(());
    }
    let place = row.map_or_else(String::new, |row| format!(" (row {row})"));
    Err(Error::InvalidSql(format!("INSERT has {values} value(s) for {columns} column(s){place}")))
}
