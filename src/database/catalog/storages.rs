//! The catalog's storages: made, altered and dropped, durable first, then known to those who open them.

use std::sync::Arc;

use super::{CatalogStore, record, removal};
use crate::error::{Error, Result};
use crate::model::{Catalog, StorageId, StorageMeta, TableKind};
use crate::storage::{ColdStores, RecordKind, Store};

impl CatalogStore {
    /// Reads the storages into `catalog`, and tells them to `cold`.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL` where a record is damaged.
    pub(super) fn read_storages(store: &Store, catalog: &mut Catalog, cold: &ColdStores) -> Result<()> {
        for (_, json) in store.records(RecordKind::Storage)? {
            let storage: Arc<StorageMeta> = Arc::new(serde_json::from_slice(&json).map_err(Error::internal)?);
            cold.set(storage.clone())?;
            catalog.storages.insert(storage.id.clone(), storage);
        }
        Ok(())
    }

    /// A new database gets its built-in storage.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(super) async fn put_local_storage(&self, now_us: i64) -> Result<()> {
        if self.current().storages.contains_key(&StorageId::local()) {
            return Ok(());
        }
        self.put_storage(ColdStores::local(now_us)).await
    }

    /// # Errors
    /// `ALREADY_EXISTS`; `INVALID_INPUT` where it would lie in another's place; `STORAGE_UNAVAILABLE`.
    pub(crate) async fn create_storage(&self, storage: StorageMeta) -> Result<()> {
        let _changing = self.changing.lock().await;
        self.check_new_storage(&storage)?;
        self.put_storage(storage).await
    }

    /// Could it be made now? Asked before it is probed, and again when it is made.
    ///
    /// # Errors
    /// `ALREADY_EXISTS`, `INVALID_INPUT`.
    pub(crate) fn check_new_storage(&self, storage: &StorageMeta) -> Result<()> {
        let catalog = self.current();
        if catalog.storages.contains_key(&storage.id) {
            return Err(Error::StorageExists(storage.id.clone()));
        }
        self.cold.check_place(storage, catalog.storages.values())
    }

    /// `before`, as it was when `after` was made of it, becomes `after`.
    ///
    /// # Errors
    /// `NOT_FOUND`; `CONFLICT` where it was altered meanwhile; `STORAGE_IN_USE` where tables, or `others`, have their files by
    /// a template that would change; `INVALID_INPUT`; `STORAGE_UNAVAILABLE`.
    pub(crate) async fn alter_storage(
        &self,
        before: &Arc<StorageMeta>,
        after: StorageMeta,
        others: impl FnOnce() -> Result<Option<String>>,
    ) -> Result<()> {
        let _changing = self.changing.lock().await;
        let catalog = self.current();
        if !Arc::ptr_eq(catalog.storage(&before.id)?, before) {
            return Err(Error::Conflict(format!("Storage '{}' was altered by another; look again", before.id)));
        }
        let others = others()?;
        for (kind, changed, what) in [
            (TableKind::Shared, before.shared_template != after.shared_template, "alter SHARED_TABLES_TEMPLATE of"),
            (TableKind::User, before.user_template != after.user_template, "alter USER_TABLES_TEMPLATE of"),
        ] {
            let tables = catalog.tables().filter(|table| table.storage == before.id && table.kind == kind).count();
            if changed && let Some(by) = tables_or(tables, others.clone()) {
                return Err(Error::StorageInUse { what, storage: before.id.clone(), by });
            }
        }
        self.cold.check_place(&after, catalog.storages.values())?;
        self.put_storage(after).await
    }

    /// `others`: who uses it, but for tables. `false`: there was none.
    ///
    /// # Errors
    /// `STORAGE_IN_USE`, `STORAGE_UNAVAILABLE`.
    pub(crate) async fn drop_storage(
        &self,
        id: &StorageId,
        others: impl FnOnce() -> Result<Option<String>>,
    ) -> Result<bool> {
        let _changing = self.changing.lock().await;
        let catalog = self.current();
        if !catalog.storages.contains_key(id) {
            return Ok(false);
        }
        let tables = catalog.tables().filter(|table| table.storage == *id).count();
        if let Some(by) = tables_or(tables, others()?) {
            return Err(Error::StorageInUse { what: "drop", storage: id.clone(), by });
        }
        self.commit(vec![removal(RecordKind::Storage, id.as_str())], |catalog| {
            catalog.storages.remove(id);
            self.cold.forget(id);
        })
        .await?;
        Ok(true)
    }

    async fn put_storage(&self, storage: StorageMeta) -> Result<()> {
        let storage = Arc::new(storage);
        let write = record(RecordKind::Storage, storage.id.as_str(), &*storage)?;
        let mut known = Ok(());
        self.commit(vec![write], |catalog| {
            // Before anyone sees it in the catalog.
            known = self.cold.set(storage.clone());
            catalog.storages.insert(storage.id.clone(), storage);
        })
        .await?;
        known
    }
}

/// Who uses a storage; `None`: nobody does.
fn tables_or(tables: usize, others: Option<String>) -> Option<String> {
    if tables > 0 { Some(format!("{tables} table(s)")) } else { others }
}
