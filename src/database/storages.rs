//! CREATE, ALTER, DROP and SHOW of storages, and STORAGE CHECK.
//!
//! Owns the order: checked by form, probed, then made. A storage that did not work is never in the catalog.
//! Never shows a credential, and never waits for a storage longer than a statement may take.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, BooleanArray, Int64Array, TimestampMicrosecondArray};

use super::Database;
use super::catalog::{dropped_tables, owed_moves};
use super::define::said;
use super::request::{Outcome, RowStream};
use super::show::{optional_texts, rows, texts};
use crate::error::{Error, Result};
use crate::model::{DataType, PartitionKey, StorageId, StorageMeta};
use crate::sql::define;
use crate::sql::statement::{AlterStorage, CreateStorage};
use crate::storage::StoreCheck;
use crate::storage::cold_stores::DiskSpace;

/// What STORAGE CHECK found.
struct Checked {
    check: StoreCheck,
    latency: Duration,
    space: Option<DiskSpace>,
}

impl Database {
    pub(super) async fn create_storage(&self, create: &CreateStorage) -> Result<Outcome> {
        let storage = define::define_storage(create, self.clock.now_us())?;
        let id = storage.id.clone();
        self.catalog.check_new_storage(&storage)?;
        self.probe(&storage).await?;
        self.catalog.create_storage(storage).await?;
        Ok(said(format!("Storage '{id}' created successfully")))
    }

    pub(super) async fn alter_storage(&self, alter: &AlterStorage) -> Result<Outcome> {
        let id = &alter.id;
        let catalog = self.catalog.current();
        let before = catalog.storage(id)?;
        let after = define::alter_storage(before, &alter.settings, self.clock.now_us())?;
        if after == **before {
            return Ok(said(format!("Storage '{id}' unchanged")));
        }
        if !after.opens_like(before) {
            self.probe(&after).await?;
        }
        self.catalog.alter_storage(before, after, || self.other_use_of(id)).await?;
        Ok(said(format!("Storage '{id}' altered successfully")))
    }

    pub(super) async fn drop_storage(&self, id: &StorageId, if_exists: bool) -> Result<Outcome> {
        if id.is_local() {
            return Err(Error::InvalidInput("Cannot drop storage 'local': it is built in".to_owned()));
        }
        // Before the others: no segment comes to a storage that no table and no user has, but from a flush that began
        // earlier, and then a move is owed.
        let segments = self.segments_in(id).await?;
        let others = || {
            let named = || (segments > 0).then(|| format!("{segments} file(s) of cold rows"));
            Ok(self.other_use_of(id)?.or_else(named))
        };
        match self.catalog.drop_storage(id, others).await? {
            true => Ok(said(format!("Storage '{id}' dropped successfully"))),
            false if if_exists => Ok(said(format!("Storage '{id}' does not exist"))),
            false => Err(Error::NotFound(format!("Storage '{id}' not found"))),
        }
    }

    /// Who uses a storage, but for tables and the segments that lie in it.
    fn other_use_of(&self, id: &StorageId) -> Result<Option<String>> {
        let dropped = dropped_tables(&self.store)?.iter().filter(|table| table.storage == *id).count();
        if dropped > 0 {
            return Ok(Some(format!("{dropped} table(s)")));
        }
        let users = self.auth.users().iter().filter(|user| user.storage_id.as_ref() == Some(id)).count();
        if users > 0 {
            return Ok(Some(format!("{users} user(s)")));
        }
        let moves = owed_moves(&self.store)?.iter().filter(|owed| owed.from.contains(id)).count();
        Ok((moves > 0).then(|| format!("{moves} move(s) of tables' files")))
    }

    /// How many segments lie in a storage: reads every manifest.
    async fn segments_in(&self, id: &StorageId) -> Result<usize> {
        let (store, catalog, id) = (self.store.clone(), self.catalog.current(), id.clone());
        let count = move || {
            let view = store.read_view();
            let mut count = 0;
            for table in catalog.tables() {
                for owner in store.owners_of(table.id)? {
                    let manifest = view.manifest(&PartitionKey { table: table.id, owner })?;
                    let segments = manifest.iter().flat_map(|manifest| manifest.segments());
                    count += segments.filter(|segment| *segment.meta.storage(table) == id).count();
                }
            }
            Ok(count)
        };
        self.engine.blocking(count).await
    }

    /// As `system.storages` shows them.
    pub(super) fn show_storages(&self) -> Result<RowStream> {
        let catalog = self.catalog.current();
        let all: Vec<&Arc<StorageMeta>> = catalog.storages.values().collect();
        let text = |of: fn(&StorageMeta) -> &str| texts(all.iter().map(|s| of(s)));
        let time = |of: fn(&StorageMeta) -> i64| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from_iter_values(all.iter().map(|s| of(s))))
        };
        let json = |of: fn(&StorageMeta) -> Option<String>| -> ArrayRef {
            let cells: Vec<Option<String>> = all.iter().map(|s| of(s)).collect();
            optional_texts(cells.iter().map(Option::as_deref))
        };
        rows(vec![
            ("storage_id", DataType::Text, false, text(|s| s.id.as_str())),
            ("storage_name", DataType::Text, false, text(|s| &s.name)),
            ("description", DataType::Text, true, optional_texts(all.iter().map(|s| s.description.as_deref()))),
            ("storage_type", DataType::Text, false, text(|s| s.kind.as_str())),
            ("base_directory", DataType::Text, false, text(|s| &s.base)),
            ("credentials", DataType::Json, true, json(|s| s.credentials.masked())),
            ("config_json", DataType::Json, true, json(StorageMeta::config_json)),
            ("shared_tables_template", DataType::Text, false, text(|s| &s.shared_template)),
            ("user_tables_template", DataType::Text, false, text(|s| &s.user_template)),
            ("created_at", DataType::Timestamp, false, time(|s| s.created_at)),
            ("updated_at", DataType::Timestamp, false, time(|s| s.updated_at)),
        ])
    }

    pub(super) async fn check_storage(&self, id: &StorageId, extended: bool) -> Result<RowStream> {
        let catalog = self.catalog.current();
        let Checked { check, latency, space } = self.checked(catalog.storage(id)?).await;
        let flag = |value: bool| -> ArrayRef { Arc::new(BooleanArray::from(vec![value])) };
        let number = |value: Option<u128>| -> ArrayRef {
            Arc::new(Int64Array::from(vec![value.map(|n| i64::try_from(n).unwrap_or(i64::MAX))]))
        };
        let bytes = |of: fn(DiskSpace) -> u64| number(space.filter(|_| extended).map(|space| of(space).into()));
        rows(vec![
            ("storage_id", DataType::Text, false, texts(std::iter::once(id.as_str()))),
            ("status", DataType::Text, false, texts(std::iter::once(check.status()))),
            ("readable", DataType::Boolean, false, flag(check.readable)),
            ("writable", DataType::Boolean, false, flag(check.writable)),
            ("listable", DataType::Boolean, false, flag(check.listable)),
            ("deletable", DataType::Boolean, false, flag(check.deletable)),
            ("latency_ms", DataType::BigInt, false, number(Some(latency.as_millis()))),
            ("total_bytes", DataType::BigInt, true, bytes(|space| space.total_bytes)),
            ("used_bytes", DataType::BigInt, true, bytes(|space| space.used_bytes)),
            ("error", DataType::Text, true, optional_texts(std::iter::once(check.error.as_deref()))),
            ("tested_at", DataType::BigInt, false, Arc::new(Int64Array::from(vec![self.clock.now_ms()]))),
        ])
    }

    /// # Errors
    /// `COLD_STORAGE_UNAVAILABLE` where anything of it does not work.
    async fn probe(&self, storage: &StorageMeta) -> Result<()> {
        let Checked { check, .. } = self.checked(storage).await;
        match (check.status(), check.error) {
            ("healthy", _) => Ok(()),
            (_, fault) => Err(Error::ColdUnavailable {
                path: storage.base.clone(),
                fault: fault.unwrap_or_else(|| "it does not work".to_owned()),
            }),
        }
    }

    /// Tries a storage out, within `limits.statement_timeout`.
    async fn checked(&self, storage: &StorageMeta) -> Checked {
        let began = Instant::now();
        let limit = self.options.engine.statement_timeout;
        let (cold, meta, name) =
            (self.cold.clone(), storage.clone(), self.ids.uuid_v7(self.clock.now_us()).to_string());
        let trying = async move {
            // A folder may lie on a disk that hangs: that must not hold up the other requests of this thread.
            let opened = self.engine.blocking(move || cold.open(&meta)).await?;
            let check = opened.check(&name).await;
            Ok::<_, Error>((check, opened.disk_space()))
        };
        let (check, space) = match tokio::time::timeout(limit, trying).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => (StoreCheck::unanswered(error.to_string()), None),
            Err(_) => (StoreCheck::unanswered(format!("no answer within {limit:?}")), None),
        };
        Checked { check, latency: began.elapsed(), space }
    }
}
