//! `SELECT … FROM ns.*`: one query over all tables of a namespace, as a query of each.
//!
//! The namespace's tables are taken as one, united by the names of their columns: a column that a table lacks is NULL
//! there. A name that none of them has stays, and the planner refuses it. `_table` is the table's name.

use std::collections::HashSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, Expr, Ident, ObjectName, ObjectNamePart, Query, Select, SelectItem, SetExpr, TableFactor,
    Value, VisitMut, VisitorMut,
};

use crate::model::schema::{DELETED_COLUMN, SEQ_COLUMN, STORAGE_ID_COLUMN, TABLE_COLUMN, USER_ID_COLUMN};
use crate::model::{TableMeta, TableName};

/// What stands in the table's place for all tables: no table is called so.
pub(crate) const ALL_TABLES: &str = "*";

/// The namespace, in lower case, of a query `FROM namespace.*`.
pub(crate) fn namespace_of(query: &Query) -> Option<String> {
    let [namespace, table] = &relation_of(query)?.0[..] else { return None };
    let (ObjectNamePart::Identifier(namespace), ObjectNamePart::Identifier(table)) = (namespace, table) else {
        return None;
    };
    (table.value == ALL_TABLES).then(|| namespace.value.to_ascii_lowercase())
}

fn relation_of(query: &Query) -> Option<&ObjectName> {
    let SetExpr::Select(select) = &*query.body else { return None };
    let [from] = &select.from[..] else { return None };
    match &from.relation {
        TableFactor::Table { name, .. } if from.joins.is_empty() => Some(name),
        _ => None,
    }
}

/// The names of all columns of a namespace's tables.
pub(crate) fn columns_of<'a>(tables: impl IntoIterator<Item = &'a TableMeta>) -> HashSet<String> {
    tables.into_iter().flat_map(|table| &table.columns).map(|c| c.name.as_str().to_ascii_lowercase()).collect()
}

/// The query `FROM namespace.*` as that of one table. `known`: the columns of all tables.
pub(crate) fn query_of(query: &Query, table: &TableMeta, known: &HashSet<String>) -> Query {
    let mut query = query.clone();
    let SetExpr::Select(select) = &mut *query.body else { return query };
    if let [from] = &mut select.from[..]
        && let TableFactor::Table { name, .. } = &mut from.relation
    {
        let quoted = |name: &str| Ident::with_quote('"', name);
        *name = ObjectName::from(vec![quoted(table.name.namespace().as_str()), quoted(table.name.table())]);
    }
    let missing = |name: &str| known.contains(name) && table.column_index(name).is_none();
    replace(select, &Names { table: &table.name, missing: &missing });
    if !select.projection.iter().any(is_table_column) {
        let alias = Ident::with_quote('"', TABLE_COLUMN);
        select.projection.push(SelectItem::ExprWithAlias { expr: text(&table.name.to_string()), alias });
    }
    query
}

/// Gives `_table` its meaning in a query of one table over all owners.
pub(crate) fn name_table(query: &mut Query, default_namespace: &str) {
    let Some(parts) = relation_of(query).map(|name| name.0.clone()) else { return };
    let part = |at: usize| match parts.get(at) {
        Some(ObjectNamePart::Identifier(ident)) => ident.value.to_ascii_lowercase(),
        _ => String::new(),
    };
    let (namespace, table) = match parts.len() {
        1 => (default_namespace.to_owned(), part(0)),
        2 => (part(0), part(1)),
        _ => return,
    };
    let Ok(name) = crate::model::NamespaceName::parse(&namespace).and_then(|n| TableName::new(n, &table)) else {
        return;
    };
    if let SetExpr::Select(select) = &mut *query.body {
        replace(select, &Names { table: &name, missing: &|_| false });
    }
}

struct Names<'a> {
    table: &'a TableName,
    missing: &'a dyn Fn(&str) -> bool,
}

impl Names<'_> {
    /// What stands for this name, where it is no column of the table.
    fn stands_for(&self, expr: &Expr) -> Option<Expr> {
        let ident = name_of(expr)?;
        let name = ident.value.to_ascii_lowercase();
        if name == TABLE_COLUMN {
            return Some(text(&self.table.to_string()));
        }
        let own = [SEQ_COLUMN, DELETED_COLUMN, USER_ID_COLUMN, STORAGE_ID_COLUMN].contains(&name.as_str());
        (!own && (self.missing)(&name)).then(|| Expr::Value(Value::Null.into()))
    }
}

fn replace(select: &mut Select, names: &Names<'_>) {
    for item in &mut select.projection {
        if let SelectItem::UnnamedExpr(expr) = item
            && let (Some(shown), Some(alias)) = (names.stands_for(expr), name_of(expr).cloned())
        {
            *item = SelectItem::ExprWithAlias { expr: typed(shown), alias };
        }
    }
    // There is nothing to break off for.
    let _ = select.visit(&mut Replacement { names });
}

struct Replacement<'a> {
    names: &'a Names<'a>,
}

impl VisitorMut for Replacement<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Some(stands) = self.names.stands_for(expr) {
            *expr = stands;
        }
        ControlFlow::Continue(())
    }
}

fn name_of(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Identifier(ident) => Some(ident),
        Expr::CompoundIdentifier(path) => path.last(),
        _ => None,
    }
}

fn is_table_column(item: &SelectItem) -> bool {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => alias.value.eq_ignore_ascii_case(TABLE_COLUMN),
        SelectItem::UnnamedExpr(expr) => name_of(expr).is_some_and(|n| n.value.eq_ignore_ascii_case(TABLE_COLUMN)),
        _ => false,
    }
}

fn text(value: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(value.to_owned()).into())
}

/// A column that is nothing but NULL has a type on the wire: text.
fn typed(expr: Expr) -> Expr {
    if !matches!(&expr, Expr::Value(value) if value.value == Value::Null) {
        return expr;
    }
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type: DataType::Text, array: false, format: None }
}
