//! `system.tables`, `system.columns` and `system.describe`: tables and views, and what they show.

use std::sync::Arc;

use datafusion::common::ScalarValue;

use super::{Column, bigint, boolean, count, int, micros, null, table_options, text, time, words};
use crate::model::{Catalog, ColumnMeta, TableMeta, TableName, ViewColumn, ViewMeta};

/// A table or a view.
pub(super) enum Relation {
    Table(Arc<TableMeta>),
    View(Arc<ViewMeta>),
}

pub(super) fn relations(catalog: &Catalog) -> Vec<Relation> {
    let tables = catalog.tables().cloned().map(Relation::Table);
    tables.chain(catalog.views.values().cloned().map(Relation::View)).collect()
}

impl Relation {
    fn table(&self) -> Option<&TableMeta> {
        match self {
            Relation::Table(table) => Some(table),
            Relation::View(_) => None,
        }
    }

    fn name(&self) -> &TableName {
        match self {
            Relation::Table(table) => &table.name,
            Relation::View(view) => &view.name,
        }
    }

    fn kind(&self) -> &'static str {
        self.table().map_or("view", |table| table.kind.as_str())
    }

    fn version(&self) -> i64 {
        self.table().map_or(1, |table| i64::from(table.schema_version))
    }

    fn comment(&self) -> Option<&str> {
        match self {
            Relation::Table(table) => table.comments.table.as_deref(),
            Relation::View(view) => view.comment.as_deref(),
        }
    }

    fn created_at(&self) -> i64 {
        match self {
            Relation::Table(table) => table.created_at,
            Relation::View(view) => view.created_at,
        }
    }

    fn updated_at(&self) -> i64 {
        match self {
            Relation::Table(table) => table.updated_at,
            Relation::View(view) => view.updated_at,
        }
    }
}

pub(super) const TABLES: &[Column<Relation>] = &[
    text("namespace_id", |r| r.name().namespace().as_str().into()),
    text("table_name", |r| r.name().table().into()),
    text("table_type", |r| r.kind().into()),
    null(text("storage_id", |r| words(r.table().map(|table| table.storage.as_str())))),
    bigint("version", |r| r.version().into()),
    null(text("options", |r| words(r.table().map(|table| table_options(&table.options(), table.kind))))),
    null(text("comment", |r| words(r.comment()))),
    time("updated_at", |r| micros(r.updated_at())),
    time("created_at", |r| micros(r.created_at())),
];

pub(super) struct ColumnRow {
    of: Arc<Relation>,
    position: usize,
}

pub(super) fn columns(catalog: &Catalog) -> Vec<ColumnRow> {
    let rows = |relation: Relation| {
        let count = match &relation {
            Relation::Table(table) => table.columns.len(),
            Relation::View(view) => view.columns.len(),
        };
        let of = Arc::new(relation);
        (0..count).map(move |position| ColumnRow { of: of.clone(), position })
    };
    relations(catalog).into_iter().flat_map(rows).collect()
}

/// A column as it is kept.
enum Kept<'r> {
    Table(&'r TableMeta, &'r ColumnMeta),
    View(&'r ViewColumn),
}

impl ColumnRow {
    fn kept(&self) -> Kept<'_> {
        match &*self.of {
            Relation::Table(table) => Kept::Table(table, &table.columns[self.position]),
            Relation::View(view) => Kept::View(&view.columns[self.position]),
        }
    }

    /// Of a view, its columns are numbered as they stand.
    fn id(&self) -> i64 {
        match self.kept() {
            Kept::Table(_, column) => i64::from(column.id),
            Kept::View(_) => count(self.position + 1),
        }
    }

    fn name(&self) -> &str {
        match self.kept() {
            Kept::Table(_, column) => column.name.as_str(),
            Kept::View(column) => &column.name,
        }
    }

    fn comment(&self) -> Option<&str> {
        match self.kept() {
            Kept::Table(table, column) => table.comments.columns.get(&column.id).map(String::as_str),
            Kept::View(column) => column.comment.as_deref(),
        }
    }

    fn data_type(&self) -> String {
        match self.kept() {
            Kept::Table(_, column) => column.data_type.to_string(),
            Kept::View(column) => column.data_type.to_string(),
        }
    }

    fn default(&self) -> Option<String> {
        match self.kept() {
            Kept::Table(_, column) => column.default.as_ref().map(ToString::to_string),
            Kept::View(_) => None,
        }
    }

    fn nullable(&self) -> bool {
        match self.kept() {
            Kept::Table(_, column) => column.nullable,
            Kept::View(_) => true,
        }
    }

    fn place_in_key(&self) -> Option<usize> {
        self.of.table()?.primary_key.iter().position(|column| *column == self.position)
    }
}

pub(super) const COLUMNS: &[Column<ColumnRow>] = &[
    text("namespace_id", |r| r.of.name().namespace().as_str().into()),
    text("table_name", |r| r.of.name().table().into()),
    bigint("version", |r| r.of.version().into()),
    bigint("column_id", |r| r.id().into()),
    text("column_name", |r| r.name().into()),
    null(text("comment", |r| words(r.comment()))),
    text("data_type", |r| r.data_type().into()),
    null(text("default_value", |r| words(r.default()))),
    bigint("ordinal", |r| count(r.position + 1).into()),
    boolean("nullable", |r| r.nullable().into()),
    boolean("primary_key", |r| r.place_in_key().is_some().into()),
    null(bigint("primary_key_pos", |r| ScalarValue::Int64(r.place_in_key().map(|place| count(place + 1))))),
];

/// What DESCRIBE TABLE shows, of all tables and views at once.
pub(super) const DESCRIBE: &[Column<ColumnRow>] = &[
    text("column_name", |r| r.name().into()),
    int("ordinal_position", |r| i32::try_from(r.position + 1).unwrap_or(i32::MAX).into()),
    bigint("column_id", |r| r.id().into()),
    text("data_type", |r| r.data_type().into()),
    boolean("is_nullable", |r| r.nullable().into()),
    boolean("is_primary_key", |r| r.place_in_key().is_some().into()),
    null(text("column_default", |r| words(r.default()))),
    null(text("column_comment", |r| words(r.comment()))),
    int("schema_version", |r| i32::try_from(r.of.version()).unwrap_or(i32::MAX).into()),
    text("namespace_id", |r| r.of.name().namespace().as_str().into()),
    text("table_name", |r| r.of.name().table().into()),
];
