//! Names in a statement to tables and columns.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Insert, ObjectName, ObjectNamePart, TableAlias, TableFactor, TableObject,
};

use super::BindContext;
use crate::error::{Error, Result};
use crate::model::TableMeta;
use crate::model::schema::{DELETED_COLUMN, SEQ_COLUMN};

/// Namespaces of the database itself: computed, never written.
const SYSTEM_NAMESPACES: &[&str] = &["system", "sys", "information_schema", "pg_catalog"];

/// A table in a statement, with the name that its columns may be qualified with.
pub(crate) struct Target<'a> {
    pub(crate) table: &'a Arc<TableMeta>,
    /// As it is written.
    name: &'a ObjectName,
    alias: Option<&'a Ident>,
}

impl Target<'_> {
    /// Position of the column that `expr` names; `None` where it is no plain column of this table.
    pub(crate) fn column(&self, expr: &Expr) -> Option<usize> {
        self.table.column_index(self.column_name(expr)?)
    }

    /// Position in [`TableMeta::arrow_schema`]: own columns, `_seq`, `_deleted`.
    pub(crate) fn schema_column(&self, expr: &Expr) -> Option<usize> {
        let name = self.column_name(expr)?;
        let own = self.table.columns.len();
        self.table.column_index(name).or_else(|| match () {
            () if name.eq_ignore_ascii_case(SEQ_COLUMN) => Some(own),
            () if name.eq_ignore_ascii_case(DELETED_COLUMN) && !self.table.is_stream() => Some(own + 1),
            () => None,
        })
    }

    /// `column`, `table.column` or `alias.column`.
    pub(crate) fn column_name<'e>(&self, expr: &'e Expr) -> Option<&'e str> {
        match expr {
            Expr::Identifier(name) => Some(&name.value),
            Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                [qualifier, name] if self.is_qualifier(qualifier) => Some(&name.value),
                _ => None,
            },
            Expr::Nested(inner) => self.column_name(inner),
            _ => None,
        }
    }

    /// A column of this table, for a query that reads others beside it. Quoted, since a name may be a word of SQL.
    pub(super) fn path(&self, column: &str) -> Expr {
        let mut path: Vec<Ident> = match self.alias {
            Some(alias) => vec![alias.clone()],
            None => self.name.0.iter().filter_map(|part| part.as_ident().cloned()).collect(),
        };
        path.push(Ident::with_quote('"', column));
        Expr::CompoundIdentifier(path)
    }

    /// Is this what columns of `table` without an alias may be qualified with?
    pub(super) fn is_called(table: &TableMeta, qualifier: &str) -> bool {
        table.name.table().eq_ignore_ascii_case(qualifier)
    }

    fn is_qualifier(&self, qualifier: &Ident) -> bool {
        match self.alias {
            Some(alias) => alias.value.eq_ignore_ascii_case(&qualifier.value),
            None => Self::is_called(self.table, &qualifier.value),
        }
    }
}

/// The table that a statement writes. `verb` is for the error: insert, update or delete.
///
/// # Errors
/// `TABLE_NOT_FOUND`; `INVALID_SQL` where it is a system table or the name has too many parts.
pub(crate) fn written_table<'a>(ctx: &BindContext<'a>, name: &ObjectName, verb: &str) -> Result<&'a Arc<TableMeta>> {
    let Some((namespace, table)) = split(name, ctx.namespace) else {
        return Err(Error::InvalidSql(format!("'{name}' is no table name; use namespace.table")));
    };
    if SYSTEM_NAMESPACES.iter().any(|system| system.eq_ignore_ascii_case(namespace)) {
        let (namespace, table) = (namespace.to_ascii_lowercase(), table.to_ascii_lowercase());
        return Err(Error::InvalidSql(format!("Cannot {verb} system table '{namespace}.{table}'")));
    }
    ctx.catalog.table(namespace, table)
}

/// The table of UPDATE or DELETE, with its alias.
///
/// # Errors
/// As [`written_table`].
pub(crate) fn target<'a>(ctx: &BindContext<'a>, factor: &'a TableFactor, verb: &str) -> Result<Target<'a>> {
    let Some((name, alias)) = plain_table(factor) else {
        return Err(Error::InvalidSql(format!("Cannot {verb} '{factor}'; name a table")));
    };
    Ok(Target { table: written_table(ctx, name, verb)?, name, alias })
}

/// The table of INSERT, with its alias.
///
/// # Errors
/// As [`written_table`].
pub(crate) fn insert_target<'a>(ctx: &BindContext<'a>, insert: &'a Insert) -> Result<Target<'a>> {
    let TableObject::TableName(name) = &insert.table else {
        return Err(Error::InvalidSql(format!("Cannot insert into '{}'; name a table", insert.table)));
    };
    let alias = insert.table_alias.as_ref().map(|alias| &alias.alias);
    Ok(Target { table: written_table(ctx, name, "insert")?, name, alias })
}

/// The table that a query reads; `None` where it is anything but a plain table of the catalog.
pub(crate) fn read_table<'a>(ctx: &BindContext<'a>, factor: &'a TableFactor) -> Option<Target<'a>> {
    let (name, alias) = plain_table(factor)?;
    let (namespace, table) = split(name, ctx.namespace)?;
    Some(Target { table: ctx.catalog.find(namespace, table)?, name, alias })
}

/// Name and alias of a table without arguments, hints, samples and the like.
fn plain_table(factor: &TableFactor) -> Option<(&ObjectName, Option<&Ident>)> {
    let TableFactor::Table {
        name,
        alias,
        args: None,
        with_hints,
        version: None,
        with_ordinality: false,
        partitions,
        json_path: None,
        sample: None,
        index_hints,
    } = factor
    else {
        return None;
    };
    if !with_hints.is_empty() || !partitions.is_empty() || !index_hints.is_empty() {
        return None;
    }
    match alias {
        None => Some((name, None)),
        Some(TableAlias { name: alias, columns, at: None, .. }) if columns.is_empty() => Some((name, Some(alias))),
        Some(_) => None,
    }
}

fn split<'n>(name: &'n ObjectName, default_namespace: &'n str) -> Option<(&'n str, &'n str)> {
    let ident = |part: &'n ObjectNamePart| part.as_ident().map(|ident| ident.value.as_str());
    match name.0.as_slice() {
        [table] => Some((default_namespace, ident(table)?)),
        [namespace, table] => Some((ident(namespace)?, ident(table)?)),
        _ => None,
    }
}

/// Position of the column that a statement writes.
///
/// # Errors
/// `COLUMN_NOT_FOUND`; `INVALID_SQL` where it is one of the database's own, or no plain name.
pub(crate) fn written_column(table: &TableMeta, name: &ObjectName) -> Result<usize> {
    let [ObjectNamePart::Identifier(ident)] = name.0.as_slice() else {
        return Err(Error::InvalidSql(format!("'{name}' is no column; name it without its table")));
    };
    if let Some(position) = table.column_index(&ident.value) {
        return Ok(position);
    }
    if [SEQ_COLUMN, DELETED_COLUMN].iter().any(|system| system.eq_ignore_ascii_case(&ident.value)) {
        let name = ident.value.to_ascii_lowercase();
        return Err(Error::InvalidSql(format!("Column '{name}' is kept by the database and cannot be written")));
    }
    column_named(table, &ident.value)
}

/// Position of a column of the table's own.
///
/// # Errors
/// `COLUMN_NOT_FOUND`, with the name that was probably meant.
pub(crate) fn column_named(table: &TableMeta, name: &str) -> Result<usize> {
    table.column_index(name).ok_or_else(|| Error::ColumnNotFound {
        column: name.to_owned(),
        table: table.name.to_string(),
        suggestion: nearest(name, table.columns.iter().map(|c| c.name.as_str())),
    })
}

/// The name that was probably meant: at most a third of its letters away.
fn nearest<'n>(given: &str, names: impl Iterator<Item = &'n str>) -> Option<String> {
    let given = given.to_ascii_lowercase();
    names
        .map(|name| (distance(&given, name), name))
        .filter(|(distance, name)| *distance * 3 <= name.len().max(3))
        .min()
        .map(|(_, name)| name.to_owned())
}

/// Letters to insert, remove, replace, or swap with a neighbour, to get from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_the_column_that_was_meant() {
        let names = || ["id", "body", "created_at"].into_iter();
        let cases = [
            ("bodi", Some("body")),
            ("Boyd", Some("body")),
            ("created", Some("created_at")),
            ("di", Some("id")),
            ("subject", None),
        ];
        for (given, expected) in cases {
            assert_eq!(nearest(given, names()).as_deref(), expected, "{given}");
        }
    }
}
