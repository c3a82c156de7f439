//! INSERT: rows of constants to operations at once, everything else by way of a query.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::sql::sqlparser::ast::{self, Expr};

use super::cells::Cells;
use super::conflict::bind_conflict;
use super::constant::{Constant, constant, literal_constant};
use super::name::{insert_target, written_column};
use super::returning::bind_returning;
use super::row::{Fill, RowBuilder};
use super::select::table_in_from;
use super::{BindContext, BoundInsert, InsertRows};
use crate::error::{Error, Result};
use crate::model::{TableMeta, WriteCommand, WriteOp};
use crate::sql::statement::{Insert, LiteralRows};

/// # Errors
/// Whatever is wrong with the statement: names, number of values, types, NULLs, parameters.
pub fn bind_insert(ctx: &BindContext<'_>, insert: &Insert) -> Result<BoundInsert> {
    let statement = &insert.statement;
    let target = insert_target(ctx, statement)?;
    let table = target.table;
    let conflict = bind_conflict(ctx, table, statement)?;
    let alias = statement.table_alias.as_ref().map(|alias| alias.alias.clone());
    let from = || vec![table_in_from(table, alias)];
    let returning = statement.returning.as_ref().map(|items| bind_returning(&target, items, from())).transpose()?;
    Ok(BoundInsert { rows: insert_rows(ctx, table, insert)?, conflict, returning })
}

fn insert_rows(ctx: &BindContext<'_>, table: &Arc<TableMeta>, insert: &Insert) -> Result<InsertRows> {
    let statement = &insert.statement;
    let Some(query) = &statement.source else {
        // INSERT … DEFAULT VALUES.
        let mut builder = RowBuilder::new(ctx, table, &[])?;
        builder.begin()?;
        return Ok(InsertRows::Rows(ctx.command(table, vec![builder.end_new()?])));
    };
    let columns = insert_columns(table, statement)?;
    if let Some(rows) = insert.parsed_rows() {
        let mut values =
            Values { table, columns: &columns, builder: RowBuilder::new(ctx, table, &columns)?, ops: Vec::new() };
        if values.take_parsed(ctx, rows)? {
            values.take_literals(ctx, &insert.more)?;
            return Ok(InsertRows::Rows(ctx.command(table, values.ops)));
        }
    }
    Ok(InsertRows::Query { table: Arc::clone(table), columns, query: query.clone() })
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
            ops.push(builder.end_new()?);
        }
    }
    Ok(ctx.command(table, ops))
}

/// Positions of the columns that the values are for: all of the table's where none are named.
fn insert_columns(table: &TableMeta, insert: &ast::Insert) -> Result<Vec<usize>> {
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

/// The rows of one VALUES, bound one after the other.
struct Values<'a> {
    table: &'a TableMeta,
    /// Positions in the table's columns, one per value of a row.
    columns: &'a [usize],
    builder: RowBuilder<'a>,
    ops: Vec<WriteOp>,
}

impl<'a> Values<'a> {
    /// Whether all values were constants; where one is not, nothing was taken that may be kept.
    fn take_parsed<'e>(
        &mut self,
        ctx: &BindContext<'_>,
        rows: impl Iterator<Item = &'e [Expr]> + Clone,
    ) -> Result<bool> {
        self.ops.reserve(rows.size_hint().0);
        for row in rows.clone() {
            self.begin(row.len())?;
            for (position, expr) in self.columns.iter().zip(row) {
                let Some(constant) = constant(expr, ctx.params)? else {
                    check_no_default(ctx, rows)?;
                    return Ok(false);
                };
                self.place(*position, constant)?;
            }
            self.end()?;
        }
        Ok(true)
    }

    fn take_literals(&mut self, ctx: &BindContext<'_>, rows: &LiteralRows) -> Result<()> {
        self.ops.reserve(rows.rows().len());
        for row in rows.rows() {
            self.begin(row.len())?;
            for (position, cell) in self.columns.iter().zip(row) {
                self.place(*position, literal_constant(rows.literal(*cell), ctx.params)?)?;
            }
            self.end()?;
        }
        Ok(())
    }

    fn begin(&mut self, values: usize) -> Result<()> {
        self.builder.begin()?;
        check_count(values, self.columns.len(), Some(self.builder.row()))
    }

    fn place(&mut self, position: usize, constant: Constant<'_>) -> Result<()> {
        match constant {
            Constant::Given(given) => self.builder.set(position, given),
            Constant::Default => self.builder.fill(position, &Fill::default_of(&self.table.columns[position])?),
            Constant::Generated(function) => self.builder.fill(position, &Fill::Generated(function)),
        }
    }

    fn end(&mut self) -> Result<()> {
        self.ops.push(self.builder.end_new()?);
        Ok(())
    }
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
