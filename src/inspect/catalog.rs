//! The catalog as the folder's records have it.
//!
//! Owns which tables and storages are looked at. A record that can not be read is a fault, and the rest goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::findings::{Findings, NamespaceFinding, StorageFinding};
use crate::auth::Mailbox;
use crate::error::{Error, Result};
use crate::model::{NamespaceMeta, StorageId, StorageMeta, TableId, TableMeta, TopicMeta, ViewMeta};
use crate::storage::{ColdStores, RecordKind, Store};

pub(super) struct Catalog {
    /// By name.
    pub tables: Vec<Arc<TableMeta>>,
    pub storages: BTreeMap<StorageId, Arc<StorageMeta>>,
    /// By name.
    pub topics: Vec<TopicMeta>,
    /// Their rows and files are on their way out.
    pub dropped: BTreeSet<TableId>,
    /// Users whose mailboxes are on their way out: what is left of them is not whole.
    pub leaving: BTreeSet<String>,
}

#[derive(Deserialize)]
struct UserRecord {
    #[serde(default)]
    mailbox: Mailbox,
}

impl Catalog {
    /// # Errors
    /// `STORAGE_UNAVAILABLE` where the records can not be listed.
    pub fn read(store: &Store, stores: &ColdStores, found: &mut Findings) -> Result<Self> {
        let mut tables: Vec<Arc<TableMeta>> =
            read(store, RecordKind::Table, "table", found)?.into_iter().map(|(_, table)| Arc::new(table)).collect();
        tables.sort_by(|a: &Arc<TableMeta>, b| a.name.cmp(&b.name));
        let mut storages = BTreeMap::new();
        for (name, storage) in read::<StorageMeta>(store, RecordKind::Storage, "storage", found)? {
            let storage = Arc::new(storage);
            match stores.set(storage.clone()) {
                Ok(()) => {
                    storages.insert(storage.id.clone(), storage);
                }
                Err(error) => found.fault_of(format!("hot, record of storage {name}"), &error),
            }
        }
        for (_, namespace) in read::<NamespaceMeta>(store, RecordKind::Namespace, "namespace", found)? {
            let count = tables.iter().filter(|table| *table.name.namespace() == namespace.name).count();
            found.namespaces.push(NamespaceFinding { name: namespace.name.to_string(), tables: count });
        }
        for storage in storages.values() {
            found.storages.push(StorageFinding {
                id: storage.id.to_string(),
                kind: storage.kind.as_str(),
                base: storage.base.clone(),
                tables: tables.iter().filter(|table| table.storage == storage.id).count(),
                segments: 0,
                bytes: 0,
            });
        }
        let dropped = store.records(RecordKind::DroppedTable)?;
        let dropped: BTreeSet<TableId> = dropped.iter().filter_map(|(id, _)| id.parse().ok().map(TableId)).collect();
        found.dropped_tables = dropped.len();
        let users = read::<UserRecord>(store, RecordKind::User, "user", found)?;
        let leaving = users.into_iter().filter(|(_, user)| user.mailbox == Mailbox::Erasing);
        // Nothing of a view lies anywhere else: whether its record can be read is all there is to see.
        read::<ViewMeta>(store, RecordKind::View, "view", found)?;
        let topics = read::<TopicMeta>(store, RecordKind::Topic, "topic", found)?;
        let mut topics: Vec<TopicMeta> = topics.into_iter().map(|(_, topic)| topic).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { tables, storages, topics, dropped, leaving: leaving.map(|(user, _)| user).collect() })
    }

    /// A table by its whole name, in any case.
    pub fn find(&self, name: &str) -> Option<Arc<TableMeta>> {
        let name = name.to_ascii_lowercase();
        self.tables.iter().find(|table| table.name.to_string() == name).cloned()
    }
}

/// All records of a kind that can be read, by name.
fn read<T: DeserializeOwned>(
    store: &Store,
    kind: RecordKind,
    what: &str,
    found: &mut Findings,
) -> Result<Vec<(String, T)>> {
    let mut records = Vec::new();
    for (name, json) in store.records(kind)? {
        match serde_json::from_slice(&json) {
            Ok(record) => records.push((name, record)),
            Err(e) => found.fault_of(format!("hot, record of {what} {name}"), &Error::internal(e)),
        }
    }
    Ok(records)
}
