//! Expressions of a write over its own rows: `RETURNING …`, and `SET …` and WHERE of ON CONFLICT DO UPDATE.
//!
//! Owns their compilation. They are planned as a SELECT from the tables that they may name, with that SELECT's rights and
//! types, and evaluated by DataFusion's own expressions over rows that the statement brings: nothing is read again.
//! Never evaluates what needs a query of its own: sub-queries, aggregates and window functions are refused by name.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, DFSchemaRef};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::sql::sqlparser::ast::{self, Ident};

use super::{QueryContext, from_datafusion, names, panicked};
use crate::error::{Error, Result};
use crate::model::ResultSchema;
use crate::sql::live_query::Compiler;

/// Compiled expressions, and the columns that they need.
#[derive(Debug, Clone)]
pub struct RowExprs {
    /// Positions in the first table, as SELECT shows it.
    own: Vec<usize>,
    others: Vec<OtherColumn>,
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    input: SchemaRef,
    output: SchemaRef,
    schema: ResultSchema,
}

/// A column of another table than the first.
#[derive(Debug, Clone)]
pub struct OtherColumn {
    /// Behind the first table's.
    pub position: usize,
    pub name: String,
    /// How a query names it.
    pub expr: ast::Expr,
}

impl RowExprs {
    pub fn own(&self) -> &[usize] {
        &self.own
    }

    pub fn others(&self) -> &[OtherColumn] {
        &self.others
    }

    /// What a client is told of the values.
    pub fn schema(&self) -> &ResultSchema {
        &self.schema
    }

    /// One column for each expression. `columns` are [`RowExprs::own`], then [`RowExprs::others`].
    ///
    /// # Errors
    /// What an expression answers for one of the rows; `INTERNAL` where it panics.
    pub fn evaluate(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let evaluate = || {
            let batch = RecordBatch::try_new_with_options(self.input.clone(), columns, &options)?;
            let values = self.exprs.iter().map(|expr| expr.evaluate(&batch)?.into_array(rows));
            let values = values.collect::<datafusion::common::Result<Vec<_>>>()?;
            Ok(RecordBatch::try_new_with_options(self.output.clone(), values, &options)?)
        };
        let evaluated = std::panic::catch_unwind(AssertUnwindSafe(evaluate)).map_err(panicked)?;
        evaluated.map_err(from_datafusion)
    }
}

/// # Errors
/// As [`Engine::compile_rows`](super::Engine::compile_rows).
pub(super) fn compile(
    state: &SessionState,
    ctx: &QueryContext,
    statement: ast::Statement,
    own: usize,
) -> Result<RowExprs> {
    let (plan, schema) = names::plan_named(state, ctx, statement)?;
    let plan = state.analyzer().execute_and_check(plan, state.config_options(), |_, _| {}).map_err(from_datafusion)?;
    let LogicalPlan::Projection(projection) = &plan else { return Err(refused_node(&plan)) };
    if let LogicalPlan::Aggregate(_) | LogicalPlan::Window(_) | LogicalPlan::Unnest(_) = &*projection.input {
        return Err(refused_node(&projection.input));
    }
    let rows = projection.input.schema();
    let mut needed = BTreeMap::new();
    for expr in &projection.expr {
        check_expr(expr)?;
        for column in expr.column_refs() {
            needed.insert(rows.index_of_column(column).map_err(from_datafusion)?, column.clone());
        }
    }
    let input = narrowed(rows, &needed)?;
    let compiler = Compiler { state, rows: &input };
    let exprs = projection.expr.iter().map(|expr| compiler.physical(expr)).collect::<Result<Vec<_>>>()?;
    let mut fields = Vec::with_capacity(exprs.len());
    for (expr, shown) in exprs.iter().zip(schema.columns()) {
        let data_type = expr.data_type(input.as_arrow()).map_err(from_datafusion)?;
        fields.push(Field::new(&shown.name, data_type, true));
    }
    let (firsts, others): (Vec<_>, Vec<_>) = needed.into_iter().partition(|(position, _)| *position < own);
    let others = others.into_iter().map(|(position, column)| OtherColumn {
        position: position - own,
        expr: path(&column),
        name: column.name,
    });
    Ok(RowExprs {
        others: others.collect(),
        own: firsts.into_iter().map(|(position, _)| position).collect(),
        exprs,
        input: Arc::new(input.as_arrow().clone()),
        output: Arc::new(Schema::new(fields)),
        schema,
    })
}

/// The columns that are needed, under the names that the expressions use.
fn narrowed(rows: &DFSchemaRef, needed: &BTreeMap<usize, Column>) -> Result<DFSchemaRef> {
    let fields = needed.keys().map(|position| {
        let (qualifier, field) = rows.qualified_field(*position);
        // A row that is written has passed its own checks; here it only has to be there.
        (qualifier.cloned(), Arc::new(field.as_ref().clone().with_nullable(true)))
    });
    let schema = DFSchema::new_with_metadata(fields.collect(), rows.metadata().clone()).map_err(from_datafusion)?;
    Ok(Arc::new(schema))
}

fn path(column: &Column) -> ast::Expr {
    let mut path = column.relation.as_ref().map(|relation| relation.to_vec()).unwrap_or_default();
    path.push(column.name.clone());
    let mut path: Vec<Ident> = path.into_iter().map(|part| Ident::with_quote('"', part)).collect();
    match (path.len(), path.pop()) {
        (1, Some(name)) => ast::Expr::Identifier(name),
        (_, name) => ast::Expr::CompoundIdentifier(path.into_iter().chain(name).collect()),
    }
}

fn check_expr(expr: &Expr) -> Result<()> {
    let mut fault = None;
    expr.apply(|node| {
        fault = match node {
            Expr::ScalarSubquery(_) | Expr::Exists(_) | Expr::InSubquery(_) | Expr::SetComparison(_) => {
                Some(refused("a sub-query"))
            }
            Expr::AggregateFunction(_) => Some(refused("an aggregate")),
            Expr::WindowFunction(_) => Some(refused("a window function")),
            _ => None,
        };
        Ok(if fault.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    })
    .map_err(from_datafusion)?;
    fault.map_or(Ok(()), Err)
}

fn refused_node(plan: &LogicalPlan) -> Error {
    match plan {
        LogicalPlan::Aggregate(_) => refused("an aggregate"),
        LogicalPlan::Window(_) => refused("a window function"),
        other => refused(&other.display().to_string()),
    }
}

fn refused(what: &str) -> Error {
    Error::Unsupported(format!(
        "{what} cannot stand in RETURNING or ON CONFLICT DO UPDATE: they are about the statement's own rows; \
         use a SELECT beside it"
    ))
}
