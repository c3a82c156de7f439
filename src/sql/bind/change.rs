//! UPDATE and DELETE: by primary key at once, everything else by a query that finds the rows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::compute::interleave;
use datafusion::sql::sqlparser::ast::{
    Assignment, Delete, Expr, FromTable, Query, TableWithJoins, Update, UpdateTableFromKind,
};

use super::assign::{assignments, check_no_key};
use super::cells::Cells;
use super::constant::constant;
use super::given::Given;
use super::key::keys_named;
use super::name::target;
use super::returning::bind_returning;
use super::row::{Fill, RowBuilder};
use super::select::{joined, row_select};
use super::{BindContext, BoundChange, BoundStatement, ComputedChange};
use crate::error::{Error, Result};
use crate::model::{self, DataType, PkBytes, Seq, TableMeta, Value, WriteCommand, WriteOp};
use crate::storage::keys;

/// `_seq` and `_deleted` come first in what a [`ComputedChange`] selects.
const SYSTEM_COLUMNS: usize = 2;

/// # Errors
/// Whatever is wrong with the statement: names, types, NULLs, parameters, no WHERE.
pub fn bind_update(ctx: &BindContext<'_>, update: &Update) -> Result<BoundStatement> {
    let target = target(ctx, &update.table.relation, "update")?;
    if target.table.is_stream() {
        return Err(Error::InvalidSql(format!(
            "UPDATE is not possible in {}: STREAM tables are append-only. INSERT a new row; readers take the newest",
            target.table.name
        )));
    }
    let Some(filter) = &update.selection else {
        return Err(Error::InvalidSql("UPDATE requires a WHERE clause".to_owned()));
    };
    let others = match &update.from {
        Some(UpdateTableFromKind::AfterSet(others) | UpdateTableFromKind::BeforeSet(others)) => others.as_slice(),
        None => &[],
    };
    let from = from_of(&update.table, others);
    let returning = update.returning.as_ref().map(|items| bind_returning(&target, items, from.clone())).transpose()?;
    let changes = assigned_values(ctx, target.table, &update.assignments)?;
    // A constraint is asked of the whole row, which has to be read for that.
    if others.is_empty()
        && changes.computed.is_empty()
        && target.table.checks.is_empty()
        && let Some(keys) = keys_named(&target, filter, ctx.params)?
    {
        let change = BoundChange::ByKey(patch(ctx, target.table, &changes.constants, keys)?);
        return Ok(BoundStatement { change, returning });
    }
    let columns = target.table.columns.iter().enumerate().map(|(position, meta)| {
        match changes.computed.iter().find(|(computed, _)| *computed == position) {
            Some((_, expr)) => (*expr).clone(),
            None => target.path(meta.name.as_str()),
        }
    });
    let computed: Vec<usize> = changes.computed.iter().map(|(position, _)| *position).collect();
    let assigned = changes.constants.iter().map(|(position, _)| *position).chain(computed.iter().copied());
    let change = BoundChange::ByQuery(ComputedChange {
        table: Arc::clone(target.table),
        select: Box::new(row_select(&target, columns, from, filter)),
        assigned: assigned.collect(),
        deletes: false,
        joins: !others.is_empty(),
        computed,
        constants: changes.constants,
    });
    Ok(BoundStatement { change, returning })
}

/// # Errors
/// Like [`bind_update`].
pub fn bind_delete(ctx: &BindContext<'_>, delete: &Delete) -> Result<BoundStatement> {
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
    let [from] = from.as_slice() else {
        return Err(Error::InvalidSql(
            "DELETE names one table; those that it is joined with stand in USING".to_owned(),
        ));
    };
    let target = target(ctx, &from.relation, "delete")?;
    let Some(filter) = &delete.selection else {
        return Err(Error::InvalidSql("DELETE requires a WHERE clause".to_owned()));
    };
    let others = delete.using.as_deref().unwrap_or_default();
    let from = from_of(from, others);
    let returning = delete.returning.as_ref().map(|items| bind_returning(&target, items, from.clone())).transpose()?;
    if others.is_empty()
        && let Some(keys) = keys_named(&target, filter, ctx.params)?
    {
        let ops = keys.into_iter().map(|pk| WriteOp::Delete { pk, expected: None }).collect();
        return Ok(BoundStatement { change: BoundChange::ByKey(ctx.command(target.table, ops)), returning });
    }
    let key = target.table.unique_key().iter().map(|position| target.table.columns[*position].name.as_str());
    let change = BoundChange::ByQuery(ComputedChange {
        table: Arc::clone(target.table),
        select: Box::new(row_select(&target, key.map(|name| target.path(name)), from, filter)),
        assigned: Vec::new(),
        deletes: true,
        joins: !others.is_empty(),
        computed: Vec::new(),
        constants: Vec::new(),
    });
    Ok(BoundStatement { change, returning })
}

fn from_of(table: &TableWithJoins, others: &[TableWithJoins]) -> Vec<TableWithJoins> {
    std::iter::once(table).chain(others).cloned().collect()
}

impl ComputedChange {
    /// The query to run, which gives `beside` as well, behind its own columns. Where a row is joined with several, the first
    /// in the order of what is computed of them is taken: the same whenever the rows are.
    pub fn select(&self, beside: impl Iterator<Item = Expr>) -> Query {
        let mut select = (*self.select).clone();
        if self.joins {
            // Vectors have no order.
            let ordered =
                |position: &&usize| !matches!(self.table.columns[**position].data_type, DataType::Embedding(_));
            joined(&mut select, self.computed.iter().filter(ordered).map(|position| position + SYSTEM_COLUMNS), beside);
        }
        select
    }

    /// Columns of [`ComputedChange::select`] before what stands beside.
    fn own_columns(&self) -> usize {
        let shown = if self.deletes { self.table.unique_key().len() } else { self.table.columns.len() };
        SYSTEM_COLUMNS + shown
    }
}

/// What a computed change comes to.
#[derive(Debug)]
pub struct ComputedWrite {
    pub command: WriteCommand,
    /// What stands beside the rows: one row for each of the command's operations.
    pub beside: Vec<ArrayRef>,
}

/// The rows that `change.select` gave, as the changes to make.
///
/// # Errors
/// A computed value that its column does not take.
pub fn bind_computed(ctx: &BindContext<'_>, change: &ComputedChange, batches: &[RecordBatch]) -> Result<ComputedWrite> {
    let table = &change.table;
    let mut builder = RowBuilder::updating(ctx, table);
    let mut ops = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    let mut taken = Vec::new();
    let mut last = None;
    for (b, batch) in batches.iter().enumerate() {
        let own = batch.columns().iter().take(change.own_columns());
        let cells = own.map(Cells::new).collect::<Result<Vec<_>>>()?;
        let [seqs, deleted, cells @ ..] = cells.as_slice() else { continue };
        for n in 0..batch.num_rows() {
            // A WHERE that mentions `_deleted` finds tombstones, too: nothing is left of them to change.
            if deleted.get(n) == Given::Bool(true) {
                continue;
            }
            let expected = match seqs.get(n) {
                Given::Int(seq) => Seq::new(seq),
                _ => None,
            };
            let Some(expected) = expected else { return Err(Error::internal("a row without _seq")) };
            if change.joins {
                if last == Some(expected) {
                    continue;
                }
                last = Some(expected);
                taken.push((b, n));
            }
            if change.deletes {
                let pk = if table.is_stream() { PkBytes::of_seq(expected) } else { key_of(table, cells, n)? };
                ops.push(WriteOp::Delete { pk, expected: Some(expected) });
                continue;
            }
            builder.begin()?;
            for (position, cells) in cells.iter().enumerate() {
                if change.assigned.contains(&position) {
                    continue;
                }
                builder.keep(position, cells.get(n))?;
            }
            for position in &change.assigned {
                match change.constants.iter().find(|(constant, _)| constant == position) {
                    Some((_, fill)) => builder.fill(*position, fill)?,
                    None => builder.set(*position, cells[*position].get(n))?,
                }
            }
            let (pk, row) = builder.end()?;
            ops.push(WriteOp::Replace { pk, expected, row });
        }
    }
    Ok(ComputedWrite { command: ctx.command(table, ops), beside: beside(change.own_columns(), batches, &taken)? })
}

/// The columns behind the first `own` of the rows that were taken.
fn beside(own: usize, batches: &[RecordBatch], taken: &[(usize, usize)]) -> Result<Vec<ArrayRef>> {
    let columns = batches.first().map_or(own, RecordBatch::num_columns);
    let column = |position: usize| {
        let parts: Vec<&dyn Array> = batches.iter().map(|batch| batch.column(position).as_ref()).collect();
        interleave(&parts, taken).map_err(Error::internal)
    };
    (own..columns).map(column).collect()
}

fn key_of(table: &TableMeta, cells: &[Cells], row: usize) -> Result<PkBytes> {
    let mut values = Vec::with_capacity(table.primary_key.len());
    for (position, cells) in table.primary_key.iter().zip(cells) {
        let value = cells.get(row).into_value(table.columns[*position].data_type);
        values.push(value.map_err(|fault| Error::internal(format!("a stored key does not fit: {fault:?}")))?);
    }
    keys::encode_key_values(table, values.iter(), row + 1)
}

/// What SET puts into which column.
struct AssignedValues<'e> {
    constants: Vec<(usize, Fill)>,
    computed: Vec<(usize, &'e Expr)>,
}

fn assigned_values<'e>(ctx: &BindContext<'_>, table: &TableMeta, set: &'e [Assignment]) -> Result<AssignedValues<'e>> {
    let mut values = AssignedValues { constants: Vec::new(), computed: Vec::new() };
    for (position, value) in assignments(table, set)? {
        check_no_key(table, position)?;
        let column = &table.columns[position];
        match constant(value, ctx.params)? {
            None => values.computed.push((position, value)),
            Some(constant) => {
                let fill = Fill::of_constant(constant, column)?;
                if fill == Fill::Fixed(Value::Null) && !column.nullable {
                    return Err(Error::NotNull { column: column.name.to_string(), row: 1 });
                }
                values.constants.push((position, fill));
            }
        }
    }
    Ok(values)
}

fn patch(
    ctx: &BindContext<'_>,
    table: &Arc<TableMeta>,
    constants: &[(usize, Fill)],
    keys: Vec<PkBytes>,
) -> Result<WriteCommand> {
    let assignments = |row: usize| -> Result<Arc<[model::Assignment]>> {
        let values = constants.iter().map(|(column, fill)| {
            Ok(model::Assignment { column: *column, value: fill.value(ctx, &table.columns[*column], row)? })
        });
        values.collect()
    };
    // SNOWFLAKE_ID() and its kin give each row its own value; otherwise all rows share one list.
    let all_fixed = constants.iter().all(|(_, fill)| matches!(fill, Fill::Fixed(_)));
    let shared = assignments(1)?;
    let mut ops = Vec::with_capacity(keys.len());
    for (n, pk) in keys.into_iter().enumerate() {
        let assignments = if all_fixed || n == 0 { Arc::clone(&shared) } else { assignments(n + 1)? };
        ops.push(WriteOp::Patch { pk, assignments });
    }
    Ok(ctx.command(table, ops))
}
