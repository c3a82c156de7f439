//! From which table's column each column of a result comes, so that it keeps that column's type and flags.

use std::sync::Arc;

use datafusion::common::JoinType;
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan};

use crate::model::{ColumnFlags, ResultColumn, ResultSchema, TableMeta};
use crate::sql::partition_table::PartitionTable;

/// The schema that a client is shown for `plan`, as planned from SQL and not yet optimised.
pub(crate) fn result_schema(plan: &LogicalPlan) -> ResultSchema {
    let computed = ResultSchema::of_arrow(plan.schema().as_arrow());
    let columns = computed.columns().iter().enumerate().map(|(index, computed)| {
        let Some(origin) = origin(plan, index) else { return computed.clone() };
        let Some(column) = ResultColumn::of_table(&origin.table, origin.position) else { return computed.clone() };
        let flags = if origin.each_once { column.flags } else { ColumnFlags::NONE };
        ResultColumn { name: computed.name.clone(), data_type: column.data_type, flags }
    });
    ResultSchema::new(columns.collect())
}

struct Origin {
    table: Arc<TableMeta>,
    /// In the table's all-owners schema.
    position: usize,
    /// Is each row of the table at most once, and never padded with NULLs, in the result? Else no flag holds.
    each_once: bool,
}

/// Where output `index` of `plan` comes from; `None`: it is computed.
fn origin(plan: &LogicalPlan, index: usize) -> Option<Origin> {
    match plan {
        LogicalPlan::Projection(projection) => {
            let mut expr = projection.expr.get(index)?;
            while let Expr::Alias(alias) = expr {
                expr = &alias.expr;
            }
            let Expr::Column(column) = expr else { return None };
            origin(&projection.input, projection.input.schema().index_of_column(column).ok()?)
        }
        LogicalPlan::Filter(filter) => origin(&filter.input, index),
        LogicalPlan::Sort(sort) => origin(&sort.input, index),
        LogicalPlan::Limit(limit) => origin(&limit.input, index),
        LogicalPlan::Distinct(Distinct::All(input)) => origin(input, index),
        LogicalPlan::SubqueryAlias(alias) => origin(&alias.input, index),
        // What the window computes stands behind what it reads.
        LogicalPlan::Window(window) if index < window.input.schema().fields().len() => origin(&window.input, index),
        LogicalPlan::Join(join) => {
            let left = join.left.schema().fields().len();
            let semi = matches!(join.join_type, JoinType::LeftSemi | JoinType::LeftAnti);
            let found = if index < left { origin(&join.left, index) } else { origin(&join.right, index - left) };
            found.map(|found| Origin { each_once: found.each_once && semi, ..found })
        }
        LogicalPlan::TableScan(scan) => {
            let provider = source_as_provider(&scan.source).ok()?;
            let table = provider.downcast_ref::<PartitionTable>()?.meta().clone();
            let position = scan.projection.as_ref().map_or(Some(index), |positions| positions.get(index).copied())?;
            Some(Origin { position: table.stored_position(position), table, each_once: true })
        }
        _ => None,
    }
}
