//! Which tables of a query show their tombstones: those whose `_deleted` a filter of the query mentions (S4).
//!
//! Owns the decision, made on the plan as it was written: what an optimiser drops (`_deleted OR NOT _deleted`) or keeps
//! above the scan was mentioned all the same. It is made for each table reference of the text; the table of a CTE that is
//! used twice is one reference.
//! A filter is WHERE, HAVING, QUALIFY, or ON. It mentions the columns in it, and what those are made of below: renamed,
//! computed, grouped by, from a sub-query, a CTE or a UNION. USING and NATURAL write no filter, and `FILTER (WHERE …)` of
//! an aggregate leaves the rows of the query as they are. What a sub-query selects is not mentioned by its outer query's
//! filter; what it takes from the outer query is. The recursive part of a CTE is not followed into its own result.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, JoinConstraint, Result};
use datafusion::datasource::{provider_as_source, source_as_provider};
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{Distinct, Expr, LogicalPlan, Subquery, TableScan, TableSource};

use crate::model::schema::DELETED_COLUMN;
use crate::sql::partition_table::PartitionTable;

/// `plan`, as planned from SQL, with tombstones in the tables whose `_deleted` is mentioned.
pub(super) fn show_where_mentioned(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut mentions = Mentions { tables: Vec::new() };
    mentions.origins(&plan)?;
    if mentions.tables.is_empty() {
        return Ok(plan);
    }
    plan.transform_down_with_subqueries(|node| match node {
        LogicalPlan::TableScan(scan) if mentions.of(&scan.source) => with_tombstones(scan).map(Transformed::yes),
        other => Ok(Transformed::no(other)),
    })
    .data()
}

fn with_tombstones(scan: TableScan) -> Result<LogicalPlan> {
    let provider = source_as_provider(&scan.source)?;
    let source = match provider.downcast_ref::<PartitionTable>() {
        Some(table) => provider_as_source(Arc::new(table.with_tombstones())),
        None => scan.source,
    };
    Ok(LogicalPlan::TableScan(TableScan { source, ..scan }))
}

/// The table references whose `_deleted` a column is made of.
type Origin = Vec<Arc<dyn TableSource>>;

struct Mentions {
    tables: Origin,
}

impl Mentions {
    fn of(&self, table: &Arc<dyn TableSource>) -> bool {
        self.tables.iter().any(|mentioned| Arc::ptr_eq(mentioned, table))
    }

    /// The origin of each column of `plan`, once the filters in it have been seen.
    fn origins(&mut self, plan: &LogicalPlan) -> Result<Vec<Origin>> {
        let inputs = plan.inputs().into_iter().map(|input| self.origins(input)).collect::<Result<Vec<_>>>()?;
        let below = Below { plan, inputs: &inputs };
        match plan {
            LogicalPlan::Filter(filter) => self.tables.extend(below.origin(&filter.predicate)?),
            LogicalPlan::Join(join) => {
                if join.join_constraint == JoinConstraint::On {
                    for expr in join.on.iter().flat_map(|(left, right)| [left, right]) {
                        self.tables.extend(below.origin(expr)?);
                    }
                }
                if let Some(filter) = &join.filter {
                    self.tables.extend(below.origin(filter)?);
                }
                // A lateral sub-query: what it takes from the left is nearly always for a filter.
                let mut right = &*join.right;
                while let LogicalPlan::SubqueryAlias(alias) = right {
                    right = &alias.input;
                }
                if let LogicalPlan::Subquery(lateral) = right {
                    self.tables.extend(below.taken_by(lateral)?);
                }
            }
            _ => {}
        }
        plan.apply_subqueries(|subquery| {
            if let LogicalPlan::Subquery(subquery) = subquery {
                self.origins(&subquery.subquery)?;
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        below.of_columns()
    }
}

/// A node, and the origins of its inputs' columns.
struct Below<'a> {
    plan: &'a LogicalPlan,
    inputs: &'a [Vec<Origin>],
}

impl Below<'_> {
    fn of_columns(&self) -> Result<Vec<Origin>> {
        let all = |exprs: &[Expr]| exprs.iter().map(|expr| self.origin(expr)).collect::<Result<Vec<_>>>();
        let side_by_side = || self.inputs.iter().flatten().cloned();
        Ok(match self.plan {
            LogicalPlan::TableScan(scan) => of_table(scan)?,
            LogicalPlan::Projection(projection) => all(&projection.expr)?,
            LogicalPlan::Aggregate(aggregate) => {
                let groups = grouping_set_to_exprlist(&aggregate.group_expr)?;
                let mut columns = groups.into_iter().map(|expr| self.origin(expr)).collect::<Result<Vec<_>>>()?;
                // Between both stands the number of the grouping set, if there are several.
                columns.resize(aggregate.schema.fields().len() - aggregate.aggr_expr.len(), Origin::new());
                columns.extend(all(&aggregate.aggr_expr)?);
                columns
            }
            LogicalPlan::Window(window) => side_by_side().chain(all(&window.window_expr)?).collect(),
            LogicalPlan::Union(_) | LogicalPlan::RecursiveQuery(_) => {
                let column = |at: usize| self.inputs.iter().filter_map(move |input| input.get(at)).flatten().cloned();
                (0..self.plan.schema().fields().len()).map(|at| column(at).collect()).collect()
            }
            LogicalPlan::Unnest(unnest) => {
                let input = self.inputs.first();
                let column = |at: &usize| input.and_then(|input| input.get(*at)).cloned().unwrap_or_default();
                unnest.dependency_indices.iter().map(column).collect()
            }
            LogicalPlan::Distinct(Distinct::On(on)) => all(&on.select_expr)?,
            // Semi joins give one side: their columns come first here or are looked up by name above.
            _ => side_by_side().collect(),
        })
    }

    /// What `expr`, which stands in this node, is made of.
    fn origin(&self, expr: &Expr) -> Result<Origin> {
        let mut origin = Origin::new();
        expr.apply(|node| {
            match node {
                Expr::Column(column) => origin.extend(self.column(column)),
                Expr::ScalarSubquery(subquery) => origin.extend(self.taken_by(subquery)?),
                Expr::Exists(exists) => origin.extend(self.taken_by(&exists.subquery)?),
                Expr::InSubquery(within) => origin.extend(self.taken_by(&within.subquery)?),
                Expr::SetComparison(compared) => origin.extend(self.taken_by(&compared.subquery)?),
                _ => {}
            }
            Ok(TreeNodeRecursion::Continue)
        })?;
        Ok(origin)
    }

    /// What a sub-query takes from this node's inputs.
    fn taken_by(&self, subquery: &Subquery) -> Result<Origin> {
        let mut origin = Origin::new();
        for expr in &subquery.outer_ref_columns {
            expr.apply(|node| {
                if let Expr::OuterReferenceColumn(_, column) = node {
                    origin.extend(self.column(column));
                }
                Ok(TreeNodeRecursion::Continue)
            })?;
        }
        Ok(origin)
    }

    fn column(&self, column: &Column) -> Origin {
        let found = self.plan.inputs().into_iter().zip(self.inputs).find_map(|(input, origins)| {
            input.schema().maybe_index_of_column(column).and_then(|at| origins.get(at)).cloned()
        });
        found.unwrap_or_default()
    }
}

fn of_table(scan: &TableScan) -> Result<Vec<Origin>> {
    let ours = source_as_provider(&scan.source)?.downcast_ref::<PartitionTable>().is_some();
    let origin = |name: &str| if ours && name == DELETED_COLUMN { vec![scan.source.clone()] } else { Origin::new() };
    Ok(scan.projected_schema.fields().iter().map(|field| origin(field.name())).collect())
}
