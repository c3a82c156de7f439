//! The catalog's changes: namespaces, tables and storages made, altered and dropped.
//!
//! Owns the order of each change: checked, durable, visible. One at a time.
//! Never touches rows: a dropped table's keys go in the background ([`super::jobs`]).

mod moves;
mod storages;
mod topics;
mod unfinished;
mod views;

pub(super) use moves::{OwedMove, forget_moves, owe_move, owed_moves};
pub(super) use topics::{DroppedTopic, dropped_topics, forgotten_topic};
pub(super) use views::{list as list_views, readers_to_drop};

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex as Lock, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, MutexGuard, OwnedMutexGuard, OwnedRwLockWriteGuard, RwLock as AsyncRwLock, RwLockReadGuard};

use crate::actors::CommitterHandle;
use crate::error::{Error, Result};
use crate::model::{
    Catalog, NamespaceMeta, NamespaceName, StorageId, TableId, TableMeta, TableName, TopicMeta, ViewMeta,
};
use crate::storage::{ColdStores, CommitEntry, RecordKind, RecordWrite, Store};

const NEXT_TABLE_ID: &str = "next_table_id";

/// Namespaces that exist from the first start.
const BOOT_NAMESPACES: &[&str] = &["default", "dba"];

/// The catalog, in memory and on disk.
pub(super) struct CatalogStore {
    current: RwLock<Arc<Catalog>>,
    committer: CommitterHandle,
    /// Told of each storage, before it is visible.
    cold: Arc<ColdStores>,
    /// Held over each change, with the next table's id inside.
    changing: Arc<Mutex<u32>>,
    /// Held over each ALTER TABLE, and by who must not be overtaken by one. Taken before `changing`.
    altering: Arc<AsyncRwLock<()>>,
    /// Tables whose first rows are being written.
    unfinished: Lock<BTreeSet<TableId>>,
}

/// An ALTER TABLE, or a change of topics, under way: while it lives, nothing else changes the catalog.
pub(super) struct TableAlteration {
    catalog: Arc<CatalogStore>,
    /// The next table's, or topic's, id.
    changing: OwnedMutexGuard<u32>,
    _altering: OwnedRwLockWriteGuard<()>,
}

impl TableAlteration {
    /// The table becomes this one; `owed`, what that makes owed, is durable with it.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(super) async fn commit(&self, table: TableMeta, owed: Option<RecordWrite>) -> Result<Arc<TableMeta>> {
        let table = Arc::new(table);
        let mut writes = vec![record(RecordKind::Table, &table.id.to_string(), &*table)?];
        writes.extend(owed);
        let altered = table.clone();
        self.catalog.commit(writes, |catalog| catalog.insert_table(altered)).await?;
        Ok(table)
    }
}

/// The catalog as it stays for a while.
pub(super) struct HeldCatalog<'c> {
    catalog: &'c CatalogStore,
    _changing: MutexGuard<'c, u32>,
}

impl HeldCatalog<'_> {
    /// Makes it durable that something is owed.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(super) async fn owe(&self, owed: Vec<RecordWrite>) -> Result<()> {
        self.catalog.commit(owed, |_| {}).await
    }
}

impl CatalogStore {
    /// Reads the catalog; a new store gets its first namespaces.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL` where a record is damaged.
    pub(super) async fn open(
        store: &Store,
        committer: CommitterHandle,
        cold: Arc<ColdStores>,
        now_us: i64,
    ) -> Result<Self> {
        let mut catalog = Catalog::default();
        for (_, json) in store.records(RecordKind::Namespace)? {
            let namespace: NamespaceMeta = serde_json::from_slice(&json).map_err(Error::internal)?;
            catalog.namespaces.insert(namespace.name.clone(), namespace);
        }
        for (_, json) in store.records(RecordKind::Table)? {
            let table: TableMeta = serde_json::from_slice(&json).map_err(Error::internal)?;
            catalog.insert_table(Arc::new(table));
        }
        Self::read_storages(store, &mut catalog, &cold)?;
        Self::read_topics(store, &mut catalog)?;
        Self::read_views(store, &mut catalog)?;
        let settings = store.records(RecordKind::Setting)?;
        let next = settings.iter().find(|(name, _)| name == NEXT_TABLE_ID);
        let next: u32 = match next {
            Some((_, json)) => serde_json::from_slice(json).map_err(Error::internal)?,
            None => 1,
        };
        let this = Self {
            current: RwLock::new(Arc::new(catalog)),
            committer,
            cold,
            changing: Arc::new(Mutex::new(next)),
            altering: Arc::default(),
            unfinished: Lock::default(),
        };
        for name in BOOT_NAMESPACES {
            let name = NamespaceName::built_in(name);
            if !this.current().namespaces.contains_key(&name) {
                this.put_namespace(NamespaceMeta { name, created_at: now_us, options: None }).await?;
            }
        }
        this.put_local_storage(now_us).await?;
        Ok(this)
    }

    /// Everything there is at this moment.
    pub(super) fn current(&self) -> Arc<Catalog> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Durable, then visible: a DDL statement that was answered is there after any crash.
    async fn commit(&self, writes: Vec<RecordWrite>, change: impl FnOnce(&mut Catalog)) -> Result<()> {
        self.committer.commit(CommitEntry::Records(writes)).await?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = Catalog::clone(&current);
        change(&mut next);
        next.version += 1;
        *current = Arc::new(next);
        Ok(())
    }

    async fn put_namespace(&self, namespace: NamespaceMeta) -> Result<()> {
        let write = record(RecordKind::Namespace, namespace.name.as_str(), &namespace)?;
        self.commit(vec![write], |catalog| {
            catalog.namespaces.insert(namespace.name.clone(), namespace);
        })
        .await
    }

    /// `false`: it was there already.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(super) async fn create_namespace(&self, name: NamespaceName, now_us: i64) -> Result<bool> {
        let _changing = self.changing.lock().await;
        if self.current().namespaces.contains_key(&name) {
            return Ok(false);
        }
        self.put_namespace(NamespaceMeta { name, created_at: now_us, options: None }).await?;
        Ok(true)
    }

    /// # Errors
    /// `NAMESPACE_NOT_FOUND`, `STORAGE_UNAVAILABLE`.
    pub(super) async fn alter_namespace(&self, name: &NamespaceName, options: &[(String, String)]) -> Result<()> {
        let _changing = self.changing.lock().await;
        let found = self.current().namespaces.get(name).cloned();
        let mut namespace = found.ok_or_else(|| Error::NamespaceNotFound(name.clone()))?;
        let mut all: serde_json::Map<String, serde_json::Value> = match &namespace.options {
            Some(json) => serde_json::from_str(json).map_err(Error::internal)?,
            None => serde_json::Map::new(),
        };
        all.extend(options.iter().map(|(name, value)| (name.clone(), value.clone().into())));
        namespace.options = Some(serde_json::Value::Object(all).to_string());
        self.put_namespace(namespace).await
    }

    /// Drops a namespace, its tables, views and topics, in one step; other topics lose their routes from these tables, and with
    /// `cascade` the views of other namespaces that read them go, too. What went; `None` where there was no such namespace.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `NEEDED_BY_VIEWS`.
    pub(super) async fn drop_namespace(&self, name: &NamespaceName, cascade: bool) -> Result<Option<DroppedNamespace>> {
        let _changing = self.changing.lock().await;
        let catalog = self.current();
        if !catalog.namespaces.contains_key(name) {
            return Ok(None);
        }
        let tables = catalog.tables_in(name);
        let mut views: Vec<_> = catalog.views.values().filter(|view| view.name.namespace() == name).cloned().collect();
        let own = tables.iter().map(|table| &table.name).chain(views.iter().map(|view| &view.name));
        let own: Vec<TableName> = own.cloned().collect();
        views.extend(readers_to_drop(&catalog, &own, cascade, || format!("drop namespace '{name}'"))?);
        let mut writes = vec![removal(RecordKind::Namespace, name.as_str())];
        writes.extend(views::removals(&views));
        for table in &tables {
            writes.extend(drop_writes(table)?);
        }
        let gone: Vec<TableId> = tables.iter().map(|table| table.id).collect();
        let topics: Vec<_> = catalog.topics.values().filter(|topic| topic.name.namespace() == name).cloned().collect();
        let mut altered = catalog.topics_without(&gone);
        altered.retain(|topic| topic.name.namespace() != name);
        writes.extend(topics::writes(&altered, &topics)?);
        self.commit(writes, |catalog| {
            topics::apply(catalog, altered, &topics);
            catalog.namespaces.remove(name);
            views::forget(catalog, &views);
            for table in &tables {
                catalog.remove_table(name, table.name.table());
            }
        })
        .await?;
        Ok(Some(DroppedNamespace { tables, views, topics }))
    }

    /// Makes a table that `define` describes, given its id. `None`: a table of this name was there already.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`, `NOT_FOUND` (the storage), `STORAGE_UNAVAILABLE`, and those of `define`.
    pub(super) async fn create_table(
        &self,
        name: &TableName,
        define: impl FnOnce(TableId) -> Result<TableMeta>,
    ) -> Result<Option<Arc<TableMeta>>> {
        let mut next_id: MutexGuard<'_, u32> = self.changing.lock().await;
        if !self.is_free(name)? {
            return Ok(None);
        }
        let id = TableId(*next_id);
        let table = Arc::new(define(id)?);
        self.current().storage(&table.storage)?;
        let writes = vec![record(RecordKind::Table, &id.to_string(), &*table)?, next_table(id)?];
        let made = table.clone();
        self.commit(writes, |catalog| catalog.insert_table(made)).await?;
        *next_id = id.0 + 1;
        Ok(Some(table))
    }

    /// May a table get this name? `false`: another one has it.
    fn is_free(&self, name: &TableName) -> Result<bool> {
        let catalog = self.current();
        if !catalog.namespaces.contains_key(name.namespace()) {
            return Err(Error::NamespaceNotFound(name.namespace().clone()));
        }
        if catalog.views.contains_key(name) {
            return Err(Error::ViewExists(name.clone()));
        }
        Ok(catalog.find(name.namespace().as_str(), name.table()).is_none())
    }

    /// While it lives, nothing else changes the catalog.
    pub(super) async fn hold(&self) -> HeldCatalog<'_> {
        HeldCatalog { catalog: self, _changing: self.changing.lock().await }
    }

    /// Waits until no other change is under way, and until all who hold [`CatalogStore::unaltered`] have let it go.
    pub(super) async fn begin_alteration(self: &Arc<Self>) -> TableAlteration {
        let altering = self.altering.clone().write_owned().await;
        let changing = self.changing.clone().lock_owned().await;
        TableAlteration { catalog: self.clone(), changing, _altering: altering }
    }

    /// While it lives, no table is altered.
    pub(super) async fn unaltered(&self) -> RwLockReadGuard<'_, ()> {
        self.altering.read().await
    }

    /// The table that went, and with it its routes into topics and, with `cascade`, the views that read it; `None` where there
    /// was none.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `NEEDED_BY_VIEWS`.
    pub(super) async fn drop_table(
        &self,
        name: &TableName,
        cascade: bool,
    ) -> Result<Option<(Arc<TableMeta>, Vec<Arc<ViewMeta>>)>> {
        let _changing = self.changing.lock().await;
        let current = self.current();
        let Some(table) = current.find(name.namespace().as_str(), name.table()).cloned() else { return Ok(None) };
        let views = readers_to_drop(&current, std::slice::from_ref(name), cascade, || format!("drop table {name}"))?;
        let mut writes: Vec<RecordWrite> = drop_writes(&table)?.into();
        writes.extend(views::removals(&views));
        let altered = self.current().topics_without(&[table.id]);
        writes.extend(topics::writes(&altered, &[])?);
        self.commit(writes, |catalog| {
            topics::apply(catalog, altered, &[]);
            views::forget(catalog, &views);
            catalog.remove_table(table.name.namespace(), table.name.table());
        })
        .await?;
        Ok(Some((table, views)))
    }
}

/// What went with a namespace.
pub(super) struct DroppedNamespace {
    pub tables: Vec<Arc<TableMeta>>,
    pub views: Vec<Arc<ViewMeta>>,
    pub topics: Vec<Arc<TopicMeta>>,
}

fn record(kind: RecordKind, name: &str, value: &impl serde::Serialize) -> Result<RecordWrite> {
    let value = serde_json::to_vec(value).map_err(Error::internal)?;
    Ok(RecordWrite { kind, key: name.to_owned(), value: Some(value) })
}

fn removal(kind: RecordKind, name: &str) -> RecordWrite {
    RecordWrite { kind, key: name.to_owned(), value: None }
}

/// The table's record moves to the dropped ones: a restart goes on removing its keys.
fn drop_writes(table: &TableMeta) -> Result<[RecordWrite; 2]> {
    Ok([removal(RecordKind::Table, &table.id.to_string()), drop_record(table)?])
}

/// The record that says that a table's keys are to be removed.
fn drop_record(table: &TableMeta) -> Result<RecordWrite> {
    let dropped = DroppedRecord::Full { name: table.name.clone(), storage: table.storage.clone() };
    record(RecordKind::DroppedTable, &table.id.to_string(), &dropped)
}

/// An id is never used again, so the next one is durable together with its user.
fn next_table(id: TableId) -> Result<RecordWrite> {
    record(RecordKind::Setting, NEXT_TABLE_ID, &(id.0 + 1))
}

/// The record that says a dropped table's keys are gone.
pub(super) fn purged(table: TableId) -> RecordWrite {
    removal(RecordKind::DroppedTable, &table.to_string())
}

/// A dropped table whose keys and files still have to go.
#[derive(Debug, Clone)]
pub(super) struct DroppedTable {
    pub id: TableId,
    pub name: TableName,
    pub storage: StorageId,
}

impl DroppedTable {
    pub(super) fn of(table: &TableMeta) -> Self {
        Self { id: table.id, name: table.name.clone(), storage: table.storage.clone() }
    }
}

/// What its record says. Those of before there were storages say its name alone.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum DroppedRecord {
    Full { name: TableName, storage: StorageId },
    Name(TableName),
}

/// # Errors
/// `STORAGE_UNAVAILABLE`, `INTERNAL` where a record is damaged.
pub(super) fn dropped_tables(store: &Store) -> Result<Vec<DroppedTable>> {
    let decode = |(id, record): &(String, Vec<u8>)| {
        let id = TableId(id.parse().map_err(Error::internal)?);
        Ok(match serde_json::from_slice(record).map_err(Error::internal)? {
            DroppedRecord::Full { name, storage } => DroppedTable { id, name, storage },
            DroppedRecord::Name(name) => DroppedTable { id, name, storage: StorageId::local() },
        })
    };
    store.records(RecordKind::DroppedTable)?.iter().map(decode).collect()
}
