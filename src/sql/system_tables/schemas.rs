//! `system.schemas`: every version of every table.

use std::sync::Arc;

use datafusion::common::ScalarValue;

use super::{Column, boolean, int, json, micros, null, table_options, text, time, words};
use crate::model::{SchemaVersion, TableKind, TableMeta, TableOptions};

pub(super) struct SchemaRow {
    table: Arc<TableMeta>,
    version: SchemaVersion,
}

impl SchemaRow {
    /// Those that a version remembers, as they were; the others as the table has them now.
    fn options(&self) -> TableOptions {
        let SchemaVersion { access, durability, .. } = self.version;
        TableOptions { access, durability, ..self.table.options() }
    }

    /// The columns as JSON, in order.
    fn columns(&self) -> String {
        let SchemaVersion { columns, primary_key, .. } = &self.version;
        let columns = columns.iter().enumerate().map(|(position, column)| {
            serde_json::json!({
                "column_id": column.id,
                "column_name": column.name.as_str(),
                "ordinal_position": position + 1,
                "data_type": column.data_type.to_string(),
                "is_nullable": column.nullable,
                "is_primary_key": primary_key.contains(&position),
                "default_value": column.default.as_ref().map(ToString::to_string),
            })
        });
        serde_json::Value::Array(columns.collect()).to_string()
    }
}

/// The oldest first.
pub(super) fn versions_of(table: &Arc<TableMeta>) -> Vec<SchemaRow> {
    let mut versions: Vec<_> = table.versions().map(|version| SchemaRow { table: table.clone(), version }).collect();
    versions.reverse();
    versions
}

pub(super) const SCHEMAS: &[Column<SchemaRow>] = &[
    text("table_id", |r| format!("{}:{}", r.table.name.namespace(), r.table.name.table()).into()),
    text("table_name", |r| r.table.name.table().into()),
    text("namespace_id", |r| r.table.name.namespace().as_str().into()),
    text("table_type", |r| r.table.kind.as_str().into()),
    time("created_at", |r| micros(r.table.created_at)),
    int("schema_version", |r| i32::try_from(r.version.version).unwrap_or(i32::MAX).into()),
    json("columns", |r| r.columns().into()),
    null(text("table_comment", |r| words(r.table.comments.table.as_deref()))),
    time("updated_at", |r| micros(r.version.since)),
    null(json("options", |r| words(Some(table_options(&r.options(), r.table.kind))))),
    null(text("access_level", |r| {
        let shared = r.table.kind == TableKind::Shared;
        words(shared.then(|| r.version.access.as_str()))
    })),
    boolean("is_latest", |r| (r.version.version == r.table.schema_version).into()),
    null(text("storage_id", |r| words(Some(r.table.storage.as_str())))),
    null(boolean("use_user_storage", |r| {
        ScalarValue::Boolean((r.table.kind == TableKind::User).then_some(r.table.use_user_storage))
    })),
];
