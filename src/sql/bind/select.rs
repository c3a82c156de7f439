//! Queries that the server writes itself, such as the one that finds the rows of an UPDATE or DELETE.

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    Expr, GroupByExpr, Ident, Query, Select, SelectFlavor, SelectItem, SetExpr, TableWithJoins, Value,
};

use crate::model::TableMeta;
use crate::model::schema::{DELETED_COLUMN, SEQ_COLUMN};

/// `SELECT _seq, _deleted, columns … FROM from WHERE filter`; `_deleted` is false in a STREAM table, which has no such column. The columns are told by position, so each gets a name of
/// its own, which no column of the table has.
pub(super) fn row_select(
    table: &TableMeta,
    columns: impl Iterator<Item = Expr>,
    from: &TableWithJoins,
    filter: &Expr,
) -> Query {
    let deleted = match table.is_stream() {
        true => Expr::Value(Value::Boolean(false).with_empty_span()),
        false => column(DELETED_COLUMN),
    };
    let system = [column(SEQ_COLUMN), deleted];
    let projection = system
        .into_iter()
        .chain(columns)
        .enumerate()
        .map(|(n, expr)| SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('"', format!("__{n}")) });
    plain_query(projection.collect(), vec![from.clone()], Some(filter.clone()))
}

/// `SELECT projection FROM from [WHERE selection]`.
pub(crate) fn plain_query(projection: Vec<SelectItem>, from: Vec<TableWithJoins>, selection: Option<Expr>) -> Query {
    let select = Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: Vec::new(),
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection,
        exclude: None,
        into: None,
        from,
        lateral_views: Vec::new(),
        prewhere: None,
        selection,
        connect_by: Vec::new(),
        group_by: GroupByExpr::Expressions(Vec::new(), Vec::new()),
        cluster_by: Vec::new(),
        distribute_by: Vec::new(),
        sort_by: Vec::new(),
        having: None,
        named_window: Vec::new(),
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    };
    Query {
        with: None,
        body: Box::new(SetExpr::Select(Box::new(select))),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}

/// A column of the table: quoted, since a name may be a word of SQL.
pub(super) fn column(name: &str) -> Expr {
    Expr::Identifier(Ident::with_quote('"', name))
}
