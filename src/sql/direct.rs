//! Queries that need no planner: a row by its key, the newest rows.
//!
//! Owns which queries these are: exactly those of the forms below, so that nothing is answered here that the engine
//! would answer otherwise. In doubt it is the engine's.
//! Never reads, never checks a right.
//! Start at [`point_select`].

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, GroupByExpr, LimitClause, OrderByExpr, OrderByKind, Query, Select, SelectFlavor, SelectItem,
    SetExpr, WildcardAdditionalOptions,
};

use crate::error::Result;
use crate::model::schema::SEQ_COLUMN;
use crate::model::{Param, PkBytes, Seq, TableMeta};
use crate::sql::bind::BindContext;
use crate::sql::bind::constant;
use crate::sql::bind::given::Given;
use crate::sql::bind::key::key_equal;
use crate::sql::bind::name::{Target, read_table};
use crate::storage::Order;

/// A query that one read of the store answers.
#[derive(Debug)]
pub struct PointSelect {
    pub table: Arc<TableMeta>,
    /// Positions in [`TableMeta::arrow_schema`], in output order.
    pub projection: Vec<usize>,
    /// Output names, one per position.
    pub names: Vec<String>,
    pub read: DirectRead,
}

#[derive(Debug, Clone, PartialEq)]
pub enum DirectRead {
    Key(PkBytes),
    /// Live rows with `_seq` above `after`.
    Seq {
        after: Option<Seq>,
        order: Order,
        limit: usize,
    },
}

/// The direct read that answers `query`; `None` where it takes the engine:
/// `SELECT columns FROM t WHERE key = c [LIMIT n]`, or
/// `SELECT columns FROM t [WHERE _seq > c] ORDER BY _seq [ASC|DESC] LIMIT n`.
///
/// # Errors
/// `INVALID_PARAMETER`.
pub fn point_select(ctx: &BindContext<'_>, query: &Query) -> Result<Option<PointSelect>> {
    let Some((select, target)) = plain_select(ctx, query) else { return Ok(None) };
    let Some(limit) = limit(query, ctx.params)? else { return Ok(None) };
    let Some((projection, names)) = projection(&select.projection, &target) else { return Ok(None) };
    let read = match &query.order_by {
        None => match (&select.selection, limit) {
            (Some(filter), Limit::None | Limit::Rows(1..)) => {
                key_equal(&target, filter, ctx.params)?.map(DirectRead::Key)
            }
            _ => None,
        },
        Some(order_by) => match (&order_by.kind, order_by.interpolate.is_some(), limit) {
            (OrderByKind::Expressions(exprs), false, Limit::Rows(limit)) => {
                seq_read(&target, select.selection.as_ref(), exprs, limit, ctx.params)?
            }
            _ => None,
        },
    };
    Ok(read.map(|read| PointSelect { table: Arc::clone(target.table), projection, names, read }))
}

fn seq_read(
    target: &Target<'_>,
    filter: Option<&Expr>,
    order_by: &[OrderByExpr],
    limit: usize,
    params: &[Param],
) -> Result<Option<DirectRead>> {
    let [OrderByExpr { expr, options, with_fill: None }] = order_by else { return Ok(None) };
    // `_seq` is never NULL, so where NULLs go does not matter.
    if !is_seq(target, expr) {
        return Ok(None);
    }
    let after = match filter {
        None => None,
        Some(Expr::BinaryOp { left, op: BinaryOperator::Gt, right }) if is_seq(target, left) => {
            match constant::value(right, params)? {
                Some(Given::Int(position)) => Some(Seq::new(position).unwrap_or(Seq::ZERO)),
                _ => return Ok(None),
            }
        }
        Some(_) => return Ok(None),
    };
    let order = if options.asc == Some(false) { Order::Descending } else { Order::Ascending };
    Ok(Some(DirectRead::Seq { after, order, limit }))
}

fn is_seq(target: &Target<'_>, expr: &Expr) -> bool {
    target.column_name(expr).is_some_and(|name| name.eq_ignore_ascii_case(SEQ_COLUMN))
}

/// A SELECT from one table with nothing but columns, WHERE, ORDER BY and LIMIT.
fn plain_select<'a>(ctx: &BindContext<'a>, query: &'a Query) -> Option<(&'a Select, Target<'a>)> {
    let Query {
        with: None,
        body,
        order_by: _,
        limit_clause: _,
        fetch: None,
        locks,
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators,
    } = query
    else {
        return None;
    };
    let SetExpr::Select(select) = body.as_ref() else { return None };
    // Every field by name: a clause that a later sqlparser adds must not be overlooked.
    let Select {
        select_token: _,
        optimizer_hints: _,
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: _,
        projection: _,
        exclude: None,
        into: None,
        from,
        lateral_views,
        prewhere: None,
        selection: _,
        connect_by,
        group_by: GroupByExpr::Expressions(group_by, group_modifiers),
        cluster_by,
        distribute_by,
        sort_by,
        having: None,
        named_window,
        qualify: None,
        window_before_qualify: _,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    } = select.as_ref()
    else {
        return None;
    };
    let rest_is_empty = locks.is_empty()
        && pipe_operators.is_empty()
        && lateral_views.is_empty()
        && connect_by.is_empty()
        && group_by.is_empty()
        && group_modifiers.is_empty()
        && cluster_by.is_empty()
        && distribute_by.is_empty()
        && sort_by.is_empty()
        && named_window.is_empty();
    let [from] = from.as_slice() else { return None };
    if !rest_is_empty || !from.joins.is_empty() {
        return None;
    }
    Some((select, read_table(ctx, &from.relation)?))
}

#[derive(Clone, Copy)]
enum Limit {
    None,
    Rows(usize),
}

/// `None`: OFFSET, LIMIT BY, or a limit that is no constant number.
fn limit(query: &Query, params: &[Param]) -> Result<Option<Limit>> {
    let limit = match &query.limit_clause {
        None => return Ok(Some(Limit::None)),
        Some(LimitClause::LimitOffset { limit: Some(limit), offset: None, limit_by }) if limit_by.is_empty() => limit,
        Some(_) => return Ok(None),
    };
    Ok(match constant::value(limit, params)? {
        Some(Given::Int(rows)) => usize::try_from(rows).ok().map(Limit::Rows),
        _ => None,
    })
}

/// Positions in the full schema and output names.
fn projection(items: &[SelectItem], target: &Target<'_>) -> Option<(Vec<usize>, Vec<String>)> {
    let own = target.table.columns.len();
    let mut positions = Vec::with_capacity(items.len());
    let mut names = Vec::with_capacity(items.len());
    let schema_name = |position: usize| match target.table.columns.get(position) {
        Some(column) => column.name.to_string(),
        None if position == own => SEQ_COLUMN.to_owned(),
        None => crate::model::schema::DELETED_COLUMN.to_owned(),
    };
    for item in items {
        match item {
            SelectItem::Wildcard(options) if is_bare(options) => {
                positions.extend(0..own + 2);
                names.extend((0..own + 2).map(schema_name));
            }
            SelectItem::UnnamedExpr(expr) => {
                let position = target.schema_column(expr)?;
                positions.push(position);
                names.push(schema_name(position));
            }
            SelectItem::ExprWithAlias { expr, alias } => {
                positions.push(target.schema_column(expr)?);
                // Unquoted names are folded, as the engine does.
                let name = &alias.value;
                names.push(if alias.quote_style.is_some() { name.clone() } else { name.to_ascii_lowercase() });
            }
            _ => return None,
        }
    }
    // The engine refuses an empty list and two columns of one name.
    let unique = names.iter().enumerate().all(|(n, name)| !names[..n].contains(name));
    (unique && !names.is_empty()).then_some((positions, names))
}

fn is_bare(options: &WildcardAdditionalOptions) -> bool {
    let WildcardAdditionalOptions {
        wildcard_token: _,
        opt_ilike: None,
        opt_exclude: None,
        opt_except: None,
        opt_replace: None,
        opt_rename: None,
        opt_alias: None,
    } = options
    else {
        return false;
    };
    true
}
