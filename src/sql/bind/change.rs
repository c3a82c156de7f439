//! UPDATE and DELETE: by primary key at once, everything else by a query that finds the rows.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::sql::sqlparser::ast::{Assignment as AstAssignment, AssignmentTarget, Delete, Expr, FromTable, Update};

use super::cells::Cells;
use super::constant::constant;
use super::given::Given;
use super::key::keys_named;
use super::name::{target, written_column};
use super::row::{Fill, RowBuilder};
use super::select::{column, row_select};
use super::{BindContext, BoundChange, ComputedChange};
use crate::error::{Error, Result};
use crate::model::{Assignment, PkBytes, Seq, TableMeta, Value, WriteCommand, WriteOp};
use crate::storage::keys;

/// # Errors
/// Whatever is wrong with the statement: names, types, NULLs, parameters, no WHERE.
pub fn bind_update(ctx: &BindContext<'_>, update: &Update) -> Result<BoundChange> {
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
    let changes = assigned_values(ctx, target.table, &update.assignments)?;
    // A constraint is asked of the whole row, which has to be read for that.
    if changes.computed.is_empty()
        && target.table.checks.is_empty()
        && let Some(keys) = keys_named(&target, filter, ctx.params)?
    {
        return Ok(BoundChange::ByKey(patch(ctx, target.table, &changes.constants, keys)?));
    }
    let columns = target.table.columns.iter().enumerate().map(|(position, meta)| {
        match changes.computed.iter().find(|(computed, _)| *computed == position) {
            Some((_, expr)) => (*expr).clone(),
            None => column(meta.name.as_str()),
        }
    });
    let assigned =
        changes.constants.iter().map(|(position, _)| *position).chain(changes.computed.iter().map(|(p, _)| *p));
    Ok(BoundChange::ByQuery(ComputedChange {
        table: Arc::clone(target.table),
        select: Box::new(row_select(target.table, columns, &update.table, filter)),
        assigned: assigned.collect(),
        deletes: false,
        constants: changes.constants,
    }))
}

/// # Errors
/// Like [`bind_update`].
pub fn bind_delete(ctx: &BindContext<'_>, delete: &Delete) -> Result<BoundChange> {
    let (FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from)) = &delete.from;
    let [from] = from.as_slice() else {
        return Err(Error::InvalidSql("DELETE names one table".to_owned()));
    };
    let target = target(ctx, &from.relation, "delete")?;
    let Some(filter) = &delete.selection else {
        return Err(Error::InvalidSql("DELETE requires a WHERE clause".to_owned()));
    };
    if let Some(keys) = keys_named(&target, filter, ctx.params)? {
        let ops = keys.into_iter().map(|pk| WriteOp::Delete { pk, expected: None }).collect();
        return Ok(BoundChange::ByKey(ctx.command(target.table, ops)));
    }
    let key = target.table.unique_key().iter().map(|position| target.table.columns[*position].name.as_str());
    Ok(BoundChange::ByQuery(ComputedChange {
        table: Arc::clone(target.table),
        select: Box::new(row_select(target.table, key.map(column), from, filter)),
        assigned: Vec::new(),
        deletes: true,
        constants: Vec::new(),
    }))
}

/// The rows that `change.select` gave, as the changes to make.
///
/// # Errors
/// A computed value that its column does not take.
pub fn bind_computed(ctx: &BindContext<'_>, change: &ComputedChange, batches: &[RecordBatch]) -> Result<WriteCommand> {
    let table = &change.table;
    let mut builder = RowBuilder::updating(ctx, table);
    let mut ops = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    for batch in batches {
        let cells = batch.columns().iter().map(Cells::new).collect::<Result<Vec<_>>>()?;
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
    Ok(ctx.command(table, ops))
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

fn assigned_values<'e>(
    ctx: &BindContext<'_>,
    table: &TableMeta,
    assignments: &'e [AstAssignment],
) -> Result<AssignedValues<'e>> {
    let mut values = AssignedValues { constants: Vec::new(), computed: Vec::new() };
    for AstAssignment { target, value } in assignments {
        let AssignmentTarget::ColumnName(name) = target else {
            return Err(Error::Unsupported(
                "SET (a, b) = … is not supported; assign the columns one by one".to_owned(),
            ));
        };
        let position = written_column(table, name)?;
        let column = &table.columns[position];
        if table.is_key(position) {
            return Err(Error::InvalidSql(format!("UPDATE cannot modify primary key column '{}'", column.name)));
        }
        let mut so_far = values.constants.iter().map(|(p, _)| p).chain(values.computed.iter().map(|(p, _)| p));
        if so_far.any(|other| *other == position) {
            return Err(Error::InvalidSql(format!("Column '{}' is assigned twice in UPDATE", column.name)));
        }
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
    let assignments = |row: usize| -> Result<Arc<[Assignment]>> {
        let values = constants.iter().map(|(column, fill)| {
            Ok(Assignment { column: *column, value: fill.value(ctx, &table.columns[*column], row)? })
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
