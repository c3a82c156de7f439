//! `ON CONFLICT` of an INSERT: what it is about, and what DO UPDATE puts into the row that is there.
//!
//! Owns which of it needs no query engine: constants and `EXCLUDED.c`. All else is selected from the live row and the
//! proposed one side by side, as [`MergeSpec::select`], and compiled before the write goes on its way.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use datafusion::sql::sqlparser::ast::{
    ConflictTarget, DoUpdate, Expr, Ident, Insert, OnConflict as Clause, OnConflictAction, OnInsert, Query, SelectItem,
};

use super::assign::{assignments, check_no_key};
use super::cells::Cells;
use super::constant::{Constant, constant};
use super::given::Given;
use super::name::Target;
use super::row::{Fill, checked, to_value};
use super::select::{call_of, plain_query, table_in_from};
use super::{BindContext, column_named};
use crate::error::{Error, Result};
use crate::model::schema::{DELETED_COLUMN, SEQ_COLUMN};
use crate::model::{
    ColumnDefault, KeyConflict, OnConflict, Owner, RowBytes, RowMerge, RowPlace, Seq, StoredRow, TableMeta, Value,
};
use crate::sql::engine::RowExprs;
use crate::storage::{BatchBuilder, row_codec};

/// The row that an INSERT proposes, in DO UPDATE.
const EXCLUDED: &str = "excluded";

#[derive(Debug)]
pub enum BoundConflict {
    Done(OnConflict),
    /// To be compiled: [`MergeSpec::select`] as the caller, then [`MergeSpec::merge`].
    Computed(MergeSpec),
}

/// A DO UPDATE with expressions or a WHERE.
#[derive(Debug)]
pub struct MergeSpec {
    pub table: Arc<TableMeta>,
    /// The expressions, and the condition last if there is one, from the table and `excluded`.
    pub select: Box<Query>,
    cells: Vec<(usize, Source)>,
    filtered: bool,
}

impl MergeSpec {
    /// `exprs`: what [`MergeSpec::select`] was compiled to.
    ///
    /// # Errors
    /// `COLUMN_NOT_FOUND`: a row that is not stored has no position.
    pub fn merge(self, exprs: RowExprs) -> Result<OnConflict> {
        let system = |name: &&str| [SEQ_COLUMN, DELETED_COLUMN].contains(name);
        if let Some(name) = exprs.others().iter().map(|column| column.name.as_str()).find(system) {
            let (column, table) = (name.to_owned(), EXCLUDED.to_owned());
            return Err(Error::ColumnNotFound { column, table, suggestion: None });
        }
        let MergeSpec { table, cells, filtered, .. } = self;
        Ok(OnConflict::Update(Arc::new(Merge { table, cells, exprs: Some(exprs), filtered })))
    }
}

/// # Errors
/// `CONFLICT_TARGET`, and whatever is wrong with SET: names, types, NULLs, parameters.
pub fn bind_conflict(ctx: &BindContext<'_>, table: &Arc<TableMeta>, insert: &Insert) -> Result<BoundConflict> {
    let Some(OnInsert::OnConflict(Clause { conflict_target, action })) = &insert.on else {
        return Ok(BoundConflict::Done(OnConflict::Fail));
    };
    if let Some(target) = conflict_target {
        check_target(table, target)?;
    }
    let update = match action {
        OnConflictAction::DoNothing => return Ok(BoundConflict::Done(OnConflict::Nothing)),
        OnConflictAction::DoUpdate(update) => update,
    };
    bind_update(ctx, table, insert.table_alias.as_ref().map(|alias| &alias.alias), update)
}

/// The one unique key that a table has is its primary key.
fn check_target(table: &TableMeta, target: &ConflictTarget) -> Result<()> {
    let given = match target {
        ConflictTarget::OnConstraint(name) => {
            let expected = format!("{}_pkey", table.name.table());
            if !table.unique_key().is_empty() && name.to_string().eq_ignore_ascii_case(&expected) {
                return Ok(());
            }
            name.to_string()
        }
        ConflictTarget::Columns(columns) => {
            let mut positions =
                columns.iter().map(|column| column_named(table, &column.value)).collect::<Result<Vec<_>>>()?;
            let mut key = table.unique_key().to_vec();
            positions.sort_unstable();
            positions.dedup();
            key.sort_unstable();
            if positions == key {
                return Ok(());
            }
            columns.iter().map(|column| column.value.as_str()).collect::<Vec<_>>().join(", ")
        }
    };
    let key: Vec<&str> = table.unique_key().iter().map(|position| table.columns[*position].name.as_str()).collect();
    let key = if key.is_empty() { "it has none".to_owned() } else { key.join(", ") };
    Err(Error::ConflictTarget { table: table.name.to_string(), given, key })
}

fn bind_update(
    ctx: &BindContext<'_>,
    table: &Arc<TableMeta>,
    alias: Option<&Ident>,
    update: &DoUpdate,
) -> Result<BoundConflict> {
    if table.unique_key().is_empty() {
        return Err(Error::Unsupported(format!(
            "ON CONFLICT DO UPDATE needs a primary key, which the STREAM table {} does not have",
            table.name
        )));
    }
    let mut cells = Vec::with_capacity(update.assignments.len());
    let mut computed = Vec::new();
    for (position, value) in assignments(table, &update.assignments)? {
        let column = &table.columns[position];
        let proposed = proposed_column(table, value);
        // What ORMs write for every column: the key is the same in both rows.
        if table.is_key(position) && proposed == Some(position) {
            continue;
        }
        check_no_key(table, position)?;
        let mut compute = |expr: Expr| {
            computed.push(expr);
            Source::Computed(computed.len() - 1)
        };
        let source = match (proposed, constant(value, ctx.params)?) {
            (Some(from), _) if table.columns[from].data_type == column.data_type => Source::Proposed(from),
            (_, None) => compute(value.clone()),
            (_, Some(constant)) => match Fill::of_constant(constant, column)? {
                Fill::Fixed(value) => Source::Fixed(value),
                Fill::Generated(function @ (ColumnDefault::Now | ColumnDefault::CurrentUser)) => {
                    Source::Fixed(to_value(ctx.generate(&function), column, 1)?)
                }
                // Each row gets one of its own.
                Fill::Generated(function) => compute(call_of(&function)),
            },
        };
        if source == Source::Fixed(Value::Null) && !column.nullable {
            return Err(Error::NotNull { column: column.name.to_string(), row: 1 });
        }
        cells.push((position, source));
    }
    let filtered = update.selection.is_some();
    if let Some(filter) = &update.selection {
        if constant(filter, ctx.params)? == Some(Constant::Default) {
            return Err(Error::InvalidSql("DEFAULT is no condition".to_owned()));
        }
        computed.push(filter.clone());
    }
    if computed.is_empty() {
        let merge = Merge { table: Arc::clone(table), cells, exprs: None, filtered };
        return Ok(BoundConflict::Done(OnConflict::Update(Arc::new(merge))));
    }
    let projection = computed
        .into_iter()
        .enumerate()
        .map(|(n, expr)| SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', format!("__{n}")) });
    let from = vec![table_in_from(table, alias.cloned()), table_in_from(table, Some(Ident::new(EXCLUDED)))];
    let select = Box::new(plain_query(projection.collect(), from, None));
    Ok(BoundConflict::Computed(MergeSpec { table: Arc::clone(table), select, cells, filtered }))
}

/// The column of `EXCLUDED.column`.
fn proposed_column(table: &TableMeta, expr: &Expr) -> Option<usize> {
    let Expr::CompoundIdentifier(path) = expr else { return None };
    let [qualifier, name] = path.as_slice() else { return None };
    if !qualifier.value.eq_ignore_ascii_case(EXCLUDED) || Target::is_called(table, &qualifier.value) {
        return None;
    }
    table.column_index(&name.value)
}

/// What DO UPDATE puts into a column.
#[derive(Debug, PartialEq)]
enum Source {
    Fixed(Value),
    /// The proposed row's cell of this column.
    Proposed(usize),
    /// One of the compiled expressions.
    Computed(usize),
}

#[derive(Debug)]
struct Merge {
    table: Arc<TableMeta>,
    cells: Vec<(usize, Source)>,
    exprs: Option<RowExprs>,
    filtered: bool,
}

impl RowMerge for Merge {
    fn computes(&self) -> bool {
        self.exprs.is_some()
    }

    fn merge(&self, conflicts: &[KeyConflict<'_>]) -> Result<Vec<Option<RowBytes>>> {
        let computed = match &self.exprs {
            None => Vec::new(),
            Some(exprs) => {
                let values = exprs.evaluate(self.columns(exprs, conflicts)?, conflicts.len())?;
                values.columns().iter().map(Cells::new).collect::<Result<Vec<_>>>()?
            }
        };
        let filter = computed.last().filter(|_| self.filtered);
        let merged = conflicts.iter().enumerate().map(|(n, conflict)| {
            if filter.is_some_and(|filter| filter.get(n) != Given::Bool(true)) {
                return Ok(None);
            }
            let mut values = row_codec::decode(&self.table, &conflict.live.row)?;
            let proposed = row_codec::decode(&self.table, conflict.proposed)?;
            for (position, source) in &self.cells {
                values[*position] = match source {
                    Source::Fixed(value) => value.clone(),
                    Source::Proposed(from) => proposed[*from].clone(),
                    Source::Computed(expr) => to_value(computed[*expr].get(n), &self.table.columns[*position], n + 1)?,
                };
            }
            checked(&self.table, &values, n + 1).map(Some)
        });
        merged.collect()
    }
}

impl Merge {
    /// What the expressions need of the live rows, then of the proposed ones.
    fn columns(&self, exprs: &RowExprs, conflicts: &[KeyConflict<'_>]) -> Result<Vec<ArrayRef>> {
        let others: Vec<usize> = exprs.others().iter().map(|column| column.position).collect();
        let mut live = BatchBuilder::new(self.table.clone(), Some(exprs.own()));
        let mut proposed = BatchBuilder::new(self.table.clone(), Some(&others));
        for conflict in conflicts {
            live.push(&Owner::Shared, conflict.live)?;
            proposed.push(&Owner::Shared, &not_stored(conflict.proposed))?;
        }
        let columns = |batch: RecordBatch| batch.columns().to_vec();
        Ok([columns(live.finish()?), columns(proposed.finish()?)].concat())
    }
}

fn not_stored(row: &RowBytes) -> StoredRow {
    StoredRow { seq: Seq::ZERO, created: Seq::ZERO, deleted: false, row: row.clone(), place: RowPlace::Own }
}
