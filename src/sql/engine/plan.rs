//! From a prepared statement to a logical plan that only reads.

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::planner::{ParserOptions, SqlToRel};
use datafusion::sql::sqlparser::ast;

use super::{QueryBounds, QueryContext, from_datafusion, tombstones};
use crate::error::{Error, Result};
use crate::sql::caller_catalog::CallerCatalog;
use crate::sql::view::NamedObjects;

/// Plans `statement`, which [`prepare`](super::prepare) has prepared, as its caller sees the catalog.
pub(crate) fn logical_plan(state: &SessionState, ctx: &QueryContext, statement: ast::Statement) -> Result<LogicalPlan> {
    plan_naming(state, ctx, statement, &NamedObjects::default())
}

/// [`logical_plan`], telling what the statement names.
pub(crate) fn plan_naming(
    state: &SessionState,
    ctx: &QueryContext,
    statement: ast::Statement,
    named: &NamedObjects,
) -> Result<LogicalPlan> {
    if !matches!(statement, ast::Statement::Query(_) | ast::Statement::Explain { .. }) {
        return Err(Error::Unsupported("only SELECT and EXPLAIN can be run as a query".to_owned()));
    }
    state.config().get_extension::<QueryBounds>().unwrap_or_default().check(&statement)?;
    let catalog = CallerCatalog::new(ctx, state, named);
    let options = ParserOptions::from(&state.config_options().sql_parser);
    let planner = SqlToRel::new_with_options(&catalog, options);
    let plan = planner.sql_statement_to_plan(statement).map_err(from_datafusion)?;
    check_reads_only(&plan)?;
    tombstones::show_where_mentioned(plan).map_err(from_datafusion)
}

/// A write may hide in a WITH, in SELECT INTO or under EXPLAIN.
fn check_reads_only(plan: &LogicalPlan) -> Result<()> {
    let mut writes = None;
    plan.apply_with_subqueries(|node| {
        writes = match node {
            LogicalPlan::Dml(dml) => Some(dml.name().to_owned()),
            LogicalPlan::Ddl(ddl) => Some(ddl.name().to_owned()),
            LogicalPlan::Copy(_) => Some("COPY".to_owned()),
            LogicalPlan::Statement(statement) => Some(statement.name().to_owned()),
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        Ok(TreeNodeRecursion::Stop)
    })
    .map_err(from_datafusion)?;
    match writes {
        Some(what) => Err(Error::Unsupported(format!("{what} is not allowed inside a query"))),
        None => Ok(()),
    }
}
