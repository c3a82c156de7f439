//! What exists: namespaces, tables, views and storages at one moment.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{NamespaceName, StorageId, StorageMeta, TableId, TableMeta, TableName, TopicMeta, ViewMeta};
use crate::error::{Error, Result};

/// Everything the catalog knows at one moment. Immutable; replaced as a whole by each DDL statement.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    /// Raised by each DDL statement: what was bound against another version must be bound again.
    pub version: u64,
    /// It is what may come of a change that is being checked: nothing made of it may be kept.
    pub is_trial: bool,
    pub namespaces: BTreeMap<NamespaceName, NamespaceMeta>,
    /// `local` is always there.
    pub storages: BTreeMap<StorageId, Arc<StorageMeta>>,
    pub topics: BTreeMap<TableName, Arc<TopicMeta>>,
    pub views: BTreeMap<TableName, Arc<ViewMeta>>,
    tables: BTreeMap<NamespaceName, HashMap<String, Arc<TableMeta>>>,
}

/// A namespace as the catalog stores it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NamespaceMeta {
    pub name: NamespaceName,
    /// Microseconds since the Unix epoch.
    pub created_at: i64,
    /// The JSON object that `ALTER NAMESPACE … SET OPTIONS` made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<String>,
}

impl Catalog {
    /// A table by namespace and name, both in any case.
    pub fn find(&self, namespace: &str, table: &str) -> Option<&Arc<TableMeta>> {
        let lower = |text: &str| {
            if text.bytes().any(|b| b.is_ascii_uppercase()) { Some(text.to_ascii_lowercase()) } else { None }
        };
        let (namespace_lower, table_lower) = (lower(namespace), lower(table));
        self.tables.get(namespace_lower.as_deref().unwrap_or(namespace))?.get(table_lower.as_deref().unwrap_or(table))
    }

    /// # Errors
    /// `TABLE_NOT_FOUND`, `INVALID_SQL` where it is a view.
    pub fn table(&self, namespace: &str, table: &str) -> Result<&Arc<TableMeta>> {
        self.find(namespace, table).ok_or_else(|| match self.find_view(namespace, table) {
            Some(view) => Error::WrongObject(format!(
                "{} is a view, which is only read: name the table below it, or use CREATE OR REPLACE VIEW or DROP VIEW",
                view.name
            )),
            None => Error::TableNotFound(format!("{namespace}.{table}")),
        })
    }

    /// A view by namespace and name, both in any case.
    pub fn find_view(&self, namespace: &str, view: &str) -> Option<&Arc<ViewMeta>> {
        if self.views.is_empty() {
            return None;
        }
        self.views.get(&TableName::new(NamespaceName::parse(namespace).ok()?, view).ok()?)
    }

    /// The views that read one of these tables or views, themselves or through others; none of `names`.
    pub fn readers_of(&self, names: &[TableName]) -> Vec<Arc<ViewMeta>> {
        let mut found: BTreeSet<&TableName> = names.iter().collect();
        loop {
            let reads = |view: &&Arc<ViewMeta>| view.reads.iter().any(|name| found.contains(name));
            let new = |view: &&Arc<ViewMeta>| !found.contains(&view.name);
            let more: Vec<&TableName> = self.views.values().filter(new).filter(reads).map(|view| &view.name).collect();
            if more.is_empty() {
                break;
            }
            found.extend(more);
        }
        self.views.values().filter(|v| found.contains(&v.name) && !names.contains(&v.name)).cloned().collect()
    }

    /// # Errors
    /// `NOT_FOUND`.
    pub fn storage(&self, id: &StorageId) -> Result<&Arc<StorageMeta>> {
        self.storages.get(id).ok_or_else(|| Error::NotFound(format!("Storage '{id}' not found")))
    }

    /// # Errors
    /// `NOT_FOUND`.
    pub fn topic(&self, name: &TableName) -> Result<&Arc<TopicMeta>> {
        self.topics.get(name).ok_or_else(|| Error::TopicNotFound(name.to_string()))
    }

    /// Topics with routes from one of these tables, as they are without them.
    pub fn topics_without(&self, tables: &[TableId]) -> Vec<TopicMeta> {
        let goes = |table: TableId| tables.contains(&table);
        let routed = self.topics.values().filter(|topic| topic.routes.iter().any(|route| goes(route.table_id)));
        let without = |topic: &Arc<TopicMeta>| {
            let mut topic = TopicMeta::clone(topic);
            topic.routes.retain(|route| !goes(route.table_id));
            topic
        };
        routed.map(without).collect()
    }

    /// All tables, by namespace, then by name.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<TableMeta>> {
        self.tables.values().flat_map(|tables| {
            let mut sorted: Vec<_> = tables.values().collect();
            sorted.sort_by(|a, b| a.name.cmp(&b.name));
            sorted
        })
    }

    pub fn tables_in(&self, namespace: &NamespaceName) -> Vec<Arc<TableMeta>> {
        self.tables().filter(|t| t.name.namespace() == namespace).cloned().collect()
    }

    pub fn insert_table(&mut self, table: Arc<TableMeta>) {
        let name = table.name.clone();
        self.tables.entry(name.namespace().clone()).or_default().insert(name.table().to_owned(), table);
    }

    pub fn remove_table(&mut self, namespace: &NamespaceName, table: &str) -> Option<Arc<TableMeta>> {
        self.tables.get_mut(namespace)?.remove(table)
    }
}
