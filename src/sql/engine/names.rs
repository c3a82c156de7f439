//! Results with several columns of one name, as PostgreSQL allows them: `SELECT id, * FROM t`.
//!
//! Owns the way round the planner, which refuses them: a query that it has refused is planned once more, with wildcards
//! written out and each repeated column under a name of its own; the names that were meant are put back into the result.
//! A query that the planner takes is planned once and as it is. Only the statement's own columns may repeat, and those of
//! its UNIONs: what a sub-query in FROM or a CTE gives can be referred to, so its names stay distinct.

use std::collections::HashSet;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::execution::SessionState;
use datafusion::logical_expr::{Expr as PlanExpr, LogicalPlan};
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, OrderBy, OrderByKind, Query, Select, SelectItem, SetExpr, Statement, With,
};

use super::{QueryContext, from_datafusion, logical_plan, result_schema};
use crate::error::{Error, Result};
use crate::model::{ResultColumn, ResultSchema};
use crate::sql::bind::plain_query;

/// Plans `statement`, and tells the columns of its result.
pub(super) fn plan_named(
    state: &SessionState,
    ctx: &QueryContext,
    statement: Statement,
) -> Result<(LogicalPlan, ResultSchema)> {
    let again = may_repeat(&statement).then(|| statement.clone());
    let refused = match logical_plan(state, ctx, statement) {
        Ok(plan) => {
            let schema = result_schema(&plan);
            return Ok((plan, schema));
        }
        Err(refused) => refused,
    };
    let (Error::InvalidSql(_), Some(mut statement)) = (&refused, again) else { return Err(refused) };
    let Some(query) = query_of(&mut statement) else { return Err(refused) };
    let mut naming = Naming { state, ctx, with: query.with.clone(), renamed: Vec::new() };
    naming.query(query)?;
    if naming.renamed.is_empty() {
        return Err(refused);
    }
    // Where it is refused once more, that is the fault: a name that is there twice is none.
    let plan = logical_plan(state, ctx, statement)?;
    let schema = naming.shown(&plan)?;
    Ok((plan, schema))
}

fn query_of(statement: &mut Statement) -> Option<&mut Query> {
    match statement {
        Statement::Query(query) => Some(query),
        Statement::Explain { statement, .. } => query_of(statement),
        _ => None,
    }
}

fn may_repeat(statement: &Statement) -> bool {
    fn columns(body: &SetExpr) -> usize {
        match body {
            SetExpr::Select(select) => select.projection.len(),
            SetExpr::Query(query) => columns(&query.body),
            SetExpr::SetOperation { left, right, .. } => columns(left).max(columns(right)),
            _ => 0,
        }
    }
    match statement {
        Statement::Query(query) => columns(&query.body) > 1,
        Statement::Explain { statement, .. } => may_repeat(statement),
        _ => false,
    }
}

struct Naming<'a> {
    state: &'a SessionState,
    ctx: &'a QueryContext,
    with: Option<With>,
    renamed: Vec<Renamed>,
}

struct Renamed {
    /// What it is planned as.
    alias: String,
    /// What it was to be called; `None`: as the planner calls the expression.
    name: Option<String>,
}

impl Naming<'_> {
    fn query(&mut self, query: &mut Query) -> Result<()> {
        self.body(&mut query.body, query.order_by.as_ref())
    }

    fn body(&mut self, body: &mut SetExpr, order_by: Option<&OrderBy>) -> Result<()> {
        match body {
            SetExpr::Select(select) => {
                self.write_out(select);
                order_by.map_or(Ok(()), |order_by| check_order(order_by, &select.projection))?;
                self.rename(select);
            }
            SetExpr::Query(query) => self.query(query)?,
            SetExpr::SetOperation { left, right, .. } => {
                self.body(left, None)?;
                self.body(right, None)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Puts columns in the place of wildcards; a wildcard that stands for something else stays, and so does the refusal.
    fn write_out(&self, select: &mut Select) {
        let mut items = Vec::with_capacity(select.projection.len());
        for item in std::mem::take(&mut select.projection) {
            let columns = match &item {
                SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => self.columns_of(&item, select),
                _ => None,
            };
            match columns {
                Some(columns) => items.extend(columns),
                None => items.push(item),
            }
        }
        select.projection = items;
    }

    fn columns_of(&self, wildcard: &SelectItem, select: &Select) -> Option<Vec<SelectItem>> {
        let query = plain_query(vec![wildcard.clone()], select.from.clone(), None);
        let query = Query { with: self.with.clone(), ..query };
        let plan = logical_plan(self.state, self.ctx, Statement::Query(Box::new(query))).ok()?;
        let LogicalPlan::Projection(projection) = &plan else { return None };
        let column = |expr: &PlanExpr| {
            let PlanExpr::Column(column) = expr else { return None };
            let mut path = column.relation.as_ref().map(|relation| relation.to_vec()).unwrap_or_default();
            path.push(column.name.clone());
            let path = path.into_iter().map(|part| Ident::with_quote('"', part)).collect();
            Some(SelectItem::UnnamedExpr(Expr::CompoundIdentifier(path)))
        };
        projection.expr.iter().map(column).collect()
    }

    fn rename(&mut self, select: &mut Select) {
        let mut seen = HashSet::new();
        for item in &mut select.projection {
            let name = name_of(item);
            let expr = match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => expr,
                _ => continue,
            };
            // The planner names `COUNT(*)` and `count(*)` alike.
            if seen.insert(name.clone().unwrap_or_else(|| expr.to_string().to_lowercase())) {
                continue;
            }
            let alias = format!("__column_{}", self.renamed.len());
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::with_quote('"', &alias) };
            self.renamed.push(Renamed { alias, name });
        }
    }

    fn shown(&self, plan: &LogicalPlan) -> Result<ResultSchema> {
        let planned = result_schema(plan);
        let mut columns = Vec::with_capacity(planned.len());
        for column in planned.columns() {
            let name = match self.renamed.iter().find(|renamed| renamed.alias == column.name) {
                None => column.name.clone(),
                Some(Renamed { name: Some(name), .. }) => name.clone(),
                Some(Renamed { alias, name: None }) => name_under(plan, alias)?.unwrap_or_else(|| alias.clone()),
            };
            columns.push(ResultColumn { name, ..column.clone() });
        }
        Ok(ResultSchema::new(columns))
    }
}

/// What the planner would have called the expression that it was told to call `alias`.
fn name_under(plan: &LogicalPlan, alias: &str) -> Result<Option<String>> {
    let mut name = None;
    plan.apply(|node| {
        node.apply_expressions(|expr| {
            if let PlanExpr::Alias(aliased) = expr
                && aliased.name == alias
            {
                name = Some(aliased.expr.schema_name().to_string());
            }
            Ok(TreeNodeRecursion::Continue)
        })
    })
    .map_err(from_datafusion)?;
    Ok(name)
}

/// The name that a column is given in the text.
fn name_of(item: &SelectItem) -> Option<String> {
    let ident = match item {
        SelectItem::ExprWithAlias { alias, .. } => alias,
        SelectItem::UnnamedExpr(Expr::Identifier(ident)) => ident,
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(path)) => path.last()?,
        _ => return None,
    };
    Some(folded(ident))
}

fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_ascii_lowercase() }
}

/// ORDER BY a name that several columns have: allowed where they are the same column.
fn check_order(order_by: &OrderBy, columns: &[SelectItem]) -> Result<()> {
    let OrderByKind::Expressions(exprs) = &order_by.kind else { return Ok(()) };
    for by in exprs {
        let Expr::Identifier(ident) = &by.expr else { continue };
        let name = folded(ident);
        let named = columns.iter().filter(|item| name_of(item).as_ref() == Some(&name));
        let mut exprs = named.filter_map(|item| match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => Some(expr),
            _ => None,
        });
        let Some(first) = exprs.next() else { continue };
        if !exprs.all(|other| is_same(first, other)) {
            return Err(Error::InvalidSql(format!("ORDER BY \"{name}\" is ambiguous: several columns have this name")));
        }
    }
    Ok(())
}

/// `id` and `t.id` are the same column: an unqualified name that meant two would be refused by itself.
fn is_same(a: &Expr, b: &Expr) -> bool {
    match (path(a), path(b)) {
        (Some(a), Some(b)) => a.iter().rev().zip(b.iter().rev()).all(|(a, b)| a == b),
        (None, None) => a == b,
        _ => false,
    }
}

fn path(expr: &Expr) -> Option<Vec<String>> {
    match expr {
        Expr::Identifier(ident) => Some(vec![folded(ident)]),
        Expr::CompoundIdentifier(path) => Some(path.iter().map(folded).collect()),
        _ => None,
    }
}
