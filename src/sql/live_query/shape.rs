//! Which SELECTs can be kept live, by their syntax: one table, no grouping, no order, no limit.

use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Query, Select, SelectItem, SetExpr, Statement, TableFactor, TableWithJoins,
};

use super::refused;
use crate::error::{Error, Result};
use crate::model::schema::{DELETED_COLUMN, SEQ_COLUMN};

/// # Errors
/// `INVALID_SQL` naming the first thing that can not be kept live.
pub(super) fn check(statement: &Statement) -> Result<()> {
    let Statement::Query(query) = statement else {
        return Err(Error::InvalidSql("only a SELECT can be subscribed to".to_owned()));
    };
    let select = match &*query.body {
        SetExpr::Select(select) => select,
        SetExpr::SetOperation { op, .. } => return Err(refused(&op.to_string())),
        SetExpr::Query(_) => return Err(refused("a sub-query")),
        SetExpr::Values(_) => return Err(refused("VALUES")),
        _ => return Err(Error::InvalidSql("only a SELECT can be subscribed to".to_owned())),
    };
    check_from(&select.from)?;
    if let Some(what) = clause_of_query(query).or_else(|| clause_of_select(select)) {
        return Err(refused(what));
    }
    select.projection.iter().try_for_each(check_item)
}

/// Namespace and name of what is subscribed to.
pub(super) fn relation(statement: &Statement) -> Option<(String, String)> {
    let Statement::Query(query) = statement else { return None };
    let SetExpr::Select(select) = &*query.body else { return None };
    let TableFactor::Table { name, .. } = &select.from.first()?.relation else { return None };
    let part = |at: usize| Some(name.0.get(at)?.as_ident()?.value.clone());
    Some((part(0)?, part(1)?))
}

fn clause_of_query(query: &Query) -> Option<&'static str> {
    let clauses = [
        (query.with.is_some(), "WITH"),
        (query.order_by.is_some(), "ORDER BY"),
        (query.limit_clause.is_some(), "LIMIT"),
        (query.fetch.is_some(), "FETCH"),
        (!query.locks.is_empty() || query.for_clause.is_some(), "FOR"),
        (!query.pipe_operators.is_empty(), "a pipe operator"),
        (query.settings.is_some(), "SETTINGS"),
        (query.format_clause.is_some(), "FORMAT"),
    ];
    clauses.into_iter().find(|(present, _)| *present).map(|(_, what)| what)
}

fn clause_of_select(select: &Select) -> Option<&'static str> {
    let no_groups =
        matches!(&select.group_by, GroupByExpr::Expressions(exprs, more) if exprs.is_empty() && more.is_empty());
    let clauses = [
        (select.distinct.is_some(), "DISTINCT"),
        (!no_groups, "GROUP BY"),
        (select.having.is_some(), "HAVING"),
        (select.top.is_some(), "TOP"),
        (select.into.is_some(), "INTO"),
        (select.qualify.is_some(), "QUALIFY"),
        (!select.named_window.is_empty(), "WINDOW"),
        (!select.lateral_views.is_empty(), "LATERAL VIEW"),
        (select.prewhere.is_some(), "PREWHERE"),
        (!select.connect_by.is_empty(), "CONNECT BY"),
        (!select.sort_by.is_empty(), "SORT BY"),
        (!select.cluster_by.is_empty() || !select.distribute_by.is_empty(), "CLUSTER BY"),
    ];
    clauses.into_iter().find(|(present, _)| *present).map(|(_, what)| what)
}

fn check_from(from: &[TableWithJoins]) -> Result<()> {
    let table = match from {
        [] => return Err(Error::InvalidSql("a subscription needs FROM namespace.table".to_owned())),
        [table] if table.joins.is_empty() => table,
        [_] => return Err(refused("JOIN")),
        _ => return Err(refused("a query of several tables")),
    };
    match &table.relation {
        TableFactor::Table { name, args: None, sample: None, version: None, .. } => {
            if name.0.len() < 2 {
                return Err(Error::InvalidSql("Query must use namespace.table format".to_owned()));
            }
            Ok(())
        }
        TableFactor::Derived { .. } => Err(refused("a sub-query")),
        TableFactor::NestedJoin { .. } => Err(refused("JOIN")),
        _ => Err(refused("anything but a plain table in FROM")),
    }
}

/// `_seq` is always delivered, and a tombstone is a delete event: neither is for projecting.
fn check_item(item: &SelectItem) -> Result<()> {
    let name = match item {
        SelectItem::UnnamedExpr(Expr::Identifier(ident)) => ident,
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(idents)) => match idents.last() {
            Some(ident) => ident,
            None => return Ok(()),
        },
        SelectItem::ExprWithAlias { expr, alias } => {
            if let Expr::Identifier(ident) = expr {
                check_name(&ident.value)?;
            }
            alias
        }
        _ => return Ok(()),
    };
    check_name(&name.value)
}

fn check_name(name: &str) -> Result<()> {
    if [SEQ_COLUMN, DELETED_COLUMN].iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
        return Err(refused(&format!("a projection of {}, which every event carries as needed,", name.to_lowercase())));
    }
    Ok(())
}
