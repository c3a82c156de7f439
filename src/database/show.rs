//! SHOW, DESCRIBE and SUBSCRIBE TO: small answers from the catalog.
//!
//! Owns their columns. Never shows a table that the caller may not see.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Schema;
use futures_util::stream;

use super::Database;
use super::execute::Scope;
use super::request::RowStream;
use crate::error::{Error, Result};
use crate::model::result::{ColumnFlags, ResultColumn};
use crate::model::{Catalog, DataType, NamespaceName, ResultSchema, TableMeta, TableName, ViewMeta};
use crate::sql::statement::{SubscribeTo, TableRef};

/// A column of an answer: its name, its type on the wire, whether cells may be NULL, its cells.
pub(super) type Column = (&'static str, DataType, bool, ArrayRef);

impl Database {
    pub(super) fn show_namespaces(&self) -> Result<RowStream> {
        let catalog = self.catalog.current();
        let spaces: Vec<_> = catalog.namespaces.values().collect();
        let names = || texts(spaces.iter().map(|n| n.name.as_str()));
        let created = arrow::array::TimestampMicrosecondArray::from_iter_values(spaces.iter().map(|n| n.created_at));
        let counts = spaces.iter().map(|n| i32::try_from(catalog.tables_in(&n.name).len()).unwrap_or(i32::MAX));
        rows(vec![
            ("namespace_id", DataType::Text, false, names()),
            ("name", DataType::Text, false, names()),
            ("created_at", DataType::Timestamp, false, Arc::new(created)),
            ("options", DataType::Json, true, optional_texts(spaces.iter().map(|n| n.options.as_deref()))),
            ("table_count", DataType::Int, false, Arc::new(Int32Array::from_iter_values(counts))),
        ])
    }

    pub(super) fn show_tables(&self, scope: &Scope<'_>, namespace: Option<&NamespaceName>) -> Result<RowStream> {
        let catalog = self.catalog.current();
        if let Some(namespace) = namespace
            && !catalog.namespaces.contains_key(namespace)
        {
            return Err(Error::NamespaceNotFound(namespace.clone()));
        }
        let tables: Vec<&Arc<TableMeta>> = catalog
            .tables()
            .filter(|t| namespace.is_none_or(|n| t.name.namespace() == n))
            .filter(|t| self.policy.sees(&scope.principal, t))
            .collect();
        let mut shown: Vec<(&TableName, &str)> = tables.iter().map(|t| (&t.name, t.kind.as_str())).collect();
        let views = self.seen_views(scope, &catalog, namespace);
        shown.extend(views.iter().map(|view| (&view.name, "view")));
        shown.sort();
        rows(vec![
            ("namespace_id", DataType::Text, false, texts(shown.iter().map(|(name, _)| name.namespace().as_str()))),
            ("table_name", DataType::Text, false, texts(shown.iter().map(|(name, _)| name.table()))),
            ("table_type", DataType::Text, false, texts(shown.iter().map(|(_, kind)| *kind))),
        ])
    }

    pub(super) fn show_views(&self, scope: &Scope<'_>, namespace: Option<&NamespaceName>) -> Result<RowStream> {
        let catalog = self.catalog.current();
        if let Some(namespace) = namespace
            && !catalog.namespaces.contains_key(namespace)
        {
            return Err(Error::NamespaceNotFound(namespace.clone()));
        }
        let views = self.seen_views(scope, &catalog, namespace);
        rows(vec![
            ("namespace_id", DataType::Text, false, texts(views.iter().map(|v| v.name.namespace().as_str()))),
            ("view_name", DataType::Text, false, texts(views.iter().map(|v| v.name.table()))),
            ("query", DataType::Text, false, texts(views.iter().map(|v| v.query.as_str()))),
            ("comment", DataType::Text, true, optional_texts(views.iter().map(|v| v.comment.as_deref()))),
        ])
    }

    fn seen_views(
        &self,
        scope: &Scope<'_>,
        catalog: &Catalog,
        namespace: Option<&NamespaceName>,
    ) -> Vec<Arc<ViewMeta>> {
        let within = |view: &&Arc<ViewMeta>| namespace.is_none_or(|namespace| view.name.namespace() == namespace);
        let seen = |view: &&Arc<ViewMeta>| self.policy.sees_view(&scope.principal, catalog, view);
        catalog.views.values().filter(within).filter(seen).cloned().collect()
    }

    pub(super) fn describe_table(&self, scope: &Scope<'_>, name: &TableRef) -> Result<RowStream> {
        let name = self.table_name(scope, name)?;
        let catalog = self.catalog.current();
        if let Some(view) = catalog.views.get(&name) {
            return self.describe_view(scope, &catalog, view);
        }
        let table = catalog.table(name.namespace().as_str(), name.table())?;
        self.policy.may_read(&scope.principal, table)?;
        let columns = &table.columns;
        let types: Vec<String> = columns.iter().map(|c| c.data_type.to_string()).collect();
        let defaults: Vec<Option<String>> =
            columns.iter().map(|c| c.default.as_ref().map(ToString::to_string)).collect();
        let count = i32::try_from(columns.len()).unwrap_or(i32::MAX);
        let version = i32::try_from(table.schema_version).unwrap_or(i32::MAX);
        let keys: BooleanArray = (0..columns.len()).map(|i| Some(table.is_key(i))).collect();
        rows(vec![
            ("column_name", DataType::Text, false, texts(columns.iter().map(|c| c.name.as_str()))),
            ("ordinal_position", DataType::Int, false, Arc::new(Int32Array::from_iter_values(1..=count))),
            (
                "column_id",
                DataType::BigInt,
                false,
                Arc::new(Int64Array::from_iter_values(columns.iter().map(|c| i64::from(c.id)))),
            ),
            ("data_type", DataType::Text, false, texts(types.iter().map(String::as_str))),
            (
                "is_nullable",
                DataType::Boolean,
                false,
                Arc::new(columns.iter().map(|c| Some(c.nullable)).collect::<BooleanArray>()),
            ),
            ("is_primary_key", DataType::Boolean, false, Arc::new(keys)),
            ("column_default", DataType::Text, true, optional_texts(defaults.iter().map(Option::as_deref))),
            ("column_comment", DataType::Text, true, {
                let comments = &table.comments.columns;
                optional_texts(columns.iter().map(|c| comments.get(&c.id).map(String::as_str)))
            }),
            (
                "schema_version",
                DataType::Int,
                false,
                Arc::new(Int32Array::from_iter_values(columns.iter().map(|_| version))),
            ),
        ])
    }

    fn describe_view(&self, scope: &Scope<'_>, catalog: &Catalog, view: &ViewMeta) -> Result<RowStream> {
        if !self.policy.sees_view(&scope.principal, catalog, view) {
            return Err(Error::PermissionDenied(format!("view {} reads what you may not read", view.name)));
        }
        let columns = &view.columns;
        let types: Vec<String> = columns.iter().map(|c| c.data_type.to_string()).collect();
        let count = columns.len();
        let numbers = || 1..=i32::try_from(count).unwrap_or(i32::MAX);
        let flags = |flag: bool| -> ArrayRef { Arc::new(BooleanArray::from(vec![flag; count])) };
        rows(vec![
            ("column_name", DataType::Text, false, texts(columns.iter().map(|c| c.name.as_str()))),
            ("ordinal_position", DataType::Int, false, Arc::new(Int32Array::from_iter_values(numbers()))),
            ("column_id", DataType::BigInt, false, Arc::new(Int64Array::from_iter_values(numbers().map(i64::from)))),
            ("data_type", DataType::Text, false, texts(types.iter().map(String::as_str))),
            ("is_nullable", DataType::Boolean, false, flags(true)),
            ("is_primary_key", DataType::Boolean, false, flags(false)),
            ("column_default", DataType::Text, true, optional_texts(columns.iter().map(|_| None))),
            ("column_comment", DataType::Text, true, optional_texts(columns.iter().map(|c| c.comment.as_deref()))),
            ("schema_version", DataType::Int, false, Arc::new(Int32Array::from(vec![1; count]))),
        ])
    }

    /// Says where to open the socket and what to send on it; registers nothing.
    pub(super) fn subscribe_to(&self, scope: &Scope<'_>, subscribe: &SubscribeTo) -> Result<RowStream> {
        let base = scope.base_url.unwrap_or("http://127.0.0.1:8080");
        let ws_url = format!("{}/v1/ws", base.replacen("http", "ws", 1).trim_end_matches('/'));
        let id = format!("sub-{}", self.ids.uuid_v7(scope.now_us));
        let options = subscribe.options;
        let subscription = serde_json::json!({
            "id": id,
            "sql": subscribe.sql,
            "options": {"last_rows": options.last_rows, "batch_size": options.batch_size, "from": options.from},
        });
        let message = "Open ws_url and send {\"type\":\"subscribe\",\"subscription\":…} with this subscription";
        rows(vec![
            ("status", DataType::Text, false, texts(std::iter::once("active"))),
            ("ws_url", DataType::Text, false, texts(std::iter::once(ws_url.as_str()))),
            ("subscription", DataType::Json, false, texts(std::iter::once(subscription.to_string().as_str()))),
            ("message", DataType::Text, false, texts(std::iter::once(message))),
        ])
    }
}

pub(super) fn texts<'a>(cells: impl Iterator<Item = &'a str>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(cells))
}

pub(super) fn optional_texts<'a>(cells: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(cells.collect::<StringArray>())
}

pub(super) fn rows(columns: Vec<Column>) -> Result<RowStream> {
    let fields: Vec<arrow::datatypes::Field> = columns
        .iter()
        .map(|(name, ty, nullable, _)| arrow::datatypes::Field::new(*name, ty.arrow(), *nullable))
        .collect();
    let shown = columns
        .iter()
        .map(|(name, ty, _, _)| ResultColumn { name: (*name).to_owned(), data_type: *ty, flags: ColumnFlags::NONE })
        .collect();
    let arrays = columns.into_iter().map(|(_, _, _, array)| array).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(Error::internal)?;
    Ok(RowStream { schema: ResultSchema::new(shown), batches: Box::pin(stream::once(std::future::ready(Ok(batch)))) })
}
