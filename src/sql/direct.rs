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
            // `SELECT id AS _seq … ORDER BY _seq` orders by the id.
            _ if renames_seq(&target, &projection, &names) => None,
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

fn renames_seq(target: &Target<'_>, projection: &[usize], names: &[String]) -> bool {
    let seq = target.table.columns.len();
    projection.iter().zip(names).any(|(position, name)| *position != seq && name.eq_ignore_ascii_case(SEQ_COLUMN))
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
pub(crate) fn projection(items: &[SelectItem], target: &Target<'_>) -> Option<(Vec<usize>, Vec<String>)> {
    let own = target.table.columns.len();
    let system = if target.table.is_stream() { 1 } else { 2 };
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
                positions.extend(0..own + system);
                names.extend((0..own + system).map(schema_name));
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
    // The engine refuses an empty list.
    (!names.is_empty()).then_some((positions, names))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::model::Value;
    use crate::sql::bind::tests::Fixture;
    use crate::sql::parse::parse;
    use crate::sql::statement::Statement;
    use crate::storage::keys;

    fn select(sql: &str) -> Result<Option<PointSelect>> {
        let fixture = Fixture::new();
        let params = [Param::Int(3), Param::Text("x".into())];
        match parse(sql)?.remove(0).statement {
            Statement::Query(query) => point_select(&fixture.context(&params), &query),
            other => panic!("{other:?}"),
        }
    }

    /// `table [columns] read`.
    fn shown(select: &PointSelect) -> String {
        let columns: Vec<String> =
            select.projection.iter().zip(&select.names).map(|(p, n)| format!("{p}:{n}")).collect();
        let read = match &select.read {
            DirectRead::Key(pk) => format!("key {}", keys::display_pk(&select.table, pk)),
            DirectRead::Seq { after, order, limit } => {
                format!("{order:?} after {} limit {limit}", after.map_or("-".to_owned(), |seq| seq.to_string()))
            }
        };
        format!("{} [{}] {read}", select.table.name, columns.join(" "))
    }

    #[test]
    fn direct_forms_are_recognised() {
        let cases = [
            ("SELECT * FROM msgs WHERE id = 7", "chat.msgs [0:id 1:body 2:n 3:at 4:_seq 5:_deleted] key 7"),
            (
                "SELECT Body, id AS Key, id AS \"Key\" FROM chat.msgs WHERE id = $1",
                "chat.msgs [1:body 0:key 0:Key] key 3",
            ),
            ("SELECT m.body, _seq FROM msgs m WHERE m.id = 7 LIMIT 1", "chat.msgs [1:body 4:_seq] key 7"),
            (
                "SELECT body, *, id FROM msgs WHERE id = 7",
                "chat.msgs [1:body 0:id 1:body 2:n 3:at 4:_seq 5:_deleted 0:id] key 7",
            ),
            ("SELECT c FROM pairs WHERE a = $2 AND b = 1", "chat.pairs [2:c] key 1, x"),
            ("SELECT id FROM msgs ORDER BY _seq DESC LIMIT 20", "chat.msgs [0:id] Descending after - limit 20"),
            ("SELECT id FROM msgs WHERE _seq > $1 ORDER BY _seq LIMIT 5", "chat.msgs [0:id] Ascending after 3 limit 5"),
            (
                "SELECT id FROM msgs WHERE _seq > -1 ORDER BY _seq ASC LIMIT 0",
                "chat.msgs [0:id] Ascending after 0 limit 0",
            ),
        ];
        for (sql, expected) in cases {
            assert_eq!(shown(&select(sql).unwrap().unwrap()), expected, "{sql}");
        }
    }

    #[test]
    fn everything_else_is_the_engines() {
        let cases = [
            "SELECT * FROM msgs",
            "SELECT * FROM msgs LIMIT 5",
            "SELECT * FROM msgs WHERE id = 1 LIMIT 0",
            "SELECT * FROM msgs WHERE id = 1 LIMIT 1 OFFSET 1",
            "SELECT * FROM msgs WHERE id = 1 ORDER BY id",
            "SELECT * FROM msgs WHERE id = 1 AND n = 2",
            "SELECT * FROM msgs WHERE id IN (1, 2)",
            "SELECT * FROM msgs WHERE id = 'x'",
            "SELECT * FROM msgs WHERE id = 2.5",
            "SELECT * FROM msgs WHERE body = 'x'",
            "SELECT body || 'x' FROM msgs WHERE id = 1",
            "SELECT upper(body) FROM msgs WHERE id = 1",
            "SELECT nothing FROM msgs WHERE id = 1",
            "SELECT m.* FROM msgs m WHERE id = 1",
            "SELECT * EXCLUDE (id) FROM msgs WHERE id = 1",
            "SELECT DISTINCT id FROM msgs WHERE id = 1",
            "SELECT COUNT(*) FROM msgs WHERE id = 1",
            "SELECT id FROM msgs WHERE id = 1 GROUP BY id",
            "SELECT id FROM msgs, pairs WHERE id = 1",
            "SELECT id FROM msgs JOIN pairs ON true WHERE id = 1",
            "SELECT id FROM (SELECT * FROM msgs) WHERE id = 1",
            "SELECT id FROM nothing WHERE id = 1",
            "SELECT id FROM system.users WHERE id = 1",
            "SELECT id FROM kalam.chat.msgs WHERE id = 1",
            "WITH m AS (SELECT 1 AS id) SELECT id FROM m WHERE id = 1",
            "WITH msgs AS (SELECT 1 AS id) SELECT id FROM msgs WHERE id = 1",
            "(SELECT id FROM msgs WHERE id = 1)",
            "SELECT id FROM msgs WHERE id = 1 UNION SELECT 2",
            "SELECT id FROM msgs ORDER BY _seq",
            "SELECT id FROM msgs ORDER BY id LIMIT 5",
            "SELECT id FROM msgs ORDER BY _seq, id LIMIT 5",
            "SELECT id FROM msgs WHERE _seq >= 5 ORDER BY _seq LIMIT 5",
            "SELECT id FROM msgs WHERE _seq > 5 AND n = 1 ORDER BY _seq LIMIT 5",
            "SELECT id FROM msgs ORDER BY _seq LIMIT 5 OFFSET 5",
            "SELECT id AS _seq FROM msgs ORDER BY _seq LIMIT 5",
            "SELECT 1",
        ];
        for sql in cases {
            let got = select(sql).unwrap();
            assert!(got.is_none(), "{sql}: {got:?}");
        }
    }

    #[test]
    fn a_parameter_that_was_not_sent_is_refused() {
        let error = select("SELECT * FROM msgs WHERE id = $9").unwrap_err();
        assert!(matches!(error, Error::InvalidParameter { position: 9, .. }), "{error}");
    }

    #[test]
    fn the_key_is_the_one_that_an_insert_stores() {
        let select = select("SELECT * FROM msgs WHERE id = '7'").unwrap().unwrap();
        let stored = keys::encode_key_values(&select.table, [Value::Int(7)].iter(), 1).unwrap();
        assert_eq!(select.read, DirectRead::Key(stored));
    }
}
