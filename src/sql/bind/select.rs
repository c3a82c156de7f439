//! Queries that the server writes itself, such as the one that finds the rows of an UPDATE or DELETE.

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArgumentList, FunctionArguments, GroupByExpr, Ident, ObjectName, OrderBy, OrderByExpr,
    OrderByKind, OrderByOptions, Query, Select, SelectFlavor, SelectItem, SetExpr, TableAlias, TableFactor,
    TableWithJoins, Value,
};

use super::name::Target;
use crate::model::schema::{DELETED_COLUMN, SEQ_COLUMN};
use crate::model::{ColumnDefault, TableMeta};

/// `SELECT _seq, _deleted, columns … FROM from WHERE filter`; `_deleted` is false in a STREAM table, which has no such
/// column. The columns are told by position, so each gets a name of its own, which no column of the table has.
pub(super) fn row_select(
    target: &Target<'_>,
    columns: impl Iterator<Item = Expr>,
    from: Vec<TableWithJoins>,
    filter: &Expr,
) -> Query {
    let deleted = match target.table.is_stream() {
        true => Expr::Value(Value::Boolean(false).with_empty_span()),
        false => target.path(DELETED_COLUMN),
    };
    let system = [target.path(SEQ_COLUMN), deleted];
    let projection = system.into_iter().chain(columns).enumerate().map(|(n, expr)| numbered(n, expr));
    plain_query(projection.collect(), from, Some(filter.clone()))
}

/// Has `query`, of [`row_select`], give `columns` as well, and its rows in an order that decides which comes first of those
/// with one `_seq`. `by`: what tells them apart, beside `columns`.
pub(super) fn joined(query: &mut Query, by: impl Iterator<Item = usize>, columns: impl Iterator<Item = Expr>) {
    let SetExpr::Select(select) = query.body.as_mut() else { return };
    let own = select.projection.len();
    for expr in columns {
        select.projection.push(numbered(select.projection.len(), expr));
    }
    let order = std::iter::once(0).chain(by).chain(own..select.projection.len()).map(|n| OrderByExpr {
        expr: Expr::Identifier(name_of(n)),
        options: OrderByOptions { asc: None, nulls_first: None },
        with_fill: None,
    });
    query.order_by = Some(OrderBy { kind: OrderByKind::Expressions(order.collect()), interpolate: None });
}

fn numbered(n: usize, expr: Expr) -> SelectItem {
    SelectItem::ExprWithAlias { expr, alias: name_of(n) }
}

fn name_of(n: usize) -> Ident {
    Ident::with_quote('"', format!("__{n}"))
}

/// A table of the catalog in a FROM.
pub(super) fn table_in_from(table: &TableMeta, alias: Option<Ident>) -> TableWithJoins {
    let name = [table.name.namespace().as_str(), table.name.table()];
    let relation = TableFactor::Table {
        name: ObjectName::from(name.map(|part| Ident::with_quote('"', part)).to_vec()),
        alias: alias.map(|name| TableAlias { explicit: true, name, columns: Vec::new(), at: None }),
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    };
    TableWithJoins { relation, joins: Vec::new() }
}

/// A call of a function of DEFAULT; of a literal there is none.
pub(super) fn call_of(function: &ColumnDefault) -> Expr {
    let name = match function {
        ColumnDefault::Literal(_) => return Expr::Value(Value::Null.with_empty_span()),
        ColumnDefault::Now => "now",
        ColumnDefault::SnowflakeId => "snowflake_id",
        ColumnDefault::UuidV7 => "uuid_v7",
        ColumnDefault::Ulid => "ulid",
        ColumnDefault::CurrentUser => "current_user",
    };
    let no_arguments = FunctionArgumentList { duplicate_treatment: None, args: Vec::new(), clauses: Vec::new() };
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(no_arguments),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
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
