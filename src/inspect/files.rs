//! The files of segments that lie in the storages.
//!
//! Owns what is there and what was named: a manifest's segment takes its file, and what is left is named by none.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::TryStreamExt as _;

use super::catalog::Catalog;
use super::findings::Findings;
use crate::error::{Error, Result};
use crate::model::{StorageId, StorageKind, TableId, TableMeta};
use crate::storage::ColdStores;
use crate::storage::cold_store::TEMPORARY;
use crate::storage::segment::{SegmentMeta, parse_file_name};

/// By storage; absent: it can not be listed.
pub(super) struct Files(BTreeMap<StorageId, BTreeMap<String, u64>>);

/// How a segment's file stands.
pub(super) enum Standing {
    AsNamed,
    Fault(String),
    /// The storage itself can not be read, which is said already.
    Unknown,
}

impl Files {
    /// Lists every storage; of the tables in `only` if it is given. A storage that can not be listed is a fault.
    pub async fn list(
        catalog: &Catalog,
        stores: &ColdStores,
        only: Option<BTreeSet<TableId>>,
        found: &mut Findings,
    ) -> Self {
        let mut files = BTreeMap::new();
        for (id, storage) in &catalog.storages {
            let used = |table: &TableId| only.as_ref().is_none_or(|only| only.contains(table));
            // Users' own storages, and those that a table was moved out of or is still to be.
            let may_hold =
                |table: &TableMeta| table.storage == *id || table.use_user_storage || table.unnamed_storage.is_some();
            if !catalog.tables.iter().any(|table| may_hold(table) && used(&table.id)) && only.is_some() {
                continue;
            }
            let is_folder = storage.kind == StorageKind::Filesystem;
            match listed(stores, id, &used).await {
                Ok(listed) => {
                    files.insert(id.clone(), listed);
                }
                // A folder is made by the first flush. Where there was one, its segments are missing.
                Err(Error::ColdUnavailable { .. }) if is_folder && !stores.has_folder(storage) => {
                    files.insert(id.clone(), BTreeMap::new());
                }
                Err(error) => found.fault_of(format!("storage {id} ({})", storage.base), &error),
            }
        }
        Self(files)
    }

    /// Of all files that are there.
    pub fn bytes(&self) -> u64 {
        self.0.values().flat_map(BTreeMap::values).sum()
    }

    /// A manifest names this one.
    pub fn take(&mut self, storage: &StorageId, segment: &SegmentMeta) -> Standing {
        let Some(files) = self.0.get_mut(storage) else { return Standing::Unknown };
        match files.remove(&segment.path) {
            None => Standing::Fault("the file is missing".to_owned()),
            Some(bytes) if bytes != segment.bytes => {
                Standing::Fault(format!("it has {bytes} bytes instead of {}", segment.bytes))
            }
            Some(_) => Standing::AsNamed,
        }
    }

    /// What no manifest named, but for what a dropped table leaves behind.
    pub fn left(&self, dropped: &BTreeSet<TableId>) -> Vec<String> {
        let files = self.0.iter().flat_map(|(storage, files)| files.keys().map(move |path| (storage, path)));
        let orphans = files.filter(|(_, path)| table_of(path).is_some_and(|table| !dropped.contains(&table)));
        orphans.map(|(storage, path)| in_storage(storage, path)).collect()
    }
}

/// How a file is shown.
pub(super) fn in_storage(storage: &StorageId, path: &str) -> String {
    format!("{storage}: {path}")
}

async fn listed(
    stores: &ColdStores,
    id: &StorageId,
    used: &impl Fn(&TableId) -> bool,
) -> Result<BTreeMap<String, u64>> {
    let mut listed = BTreeMap::new();
    let mut files = stores.get(id)?.list("");
    while let Some(file) = files.try_next().await? {
        if table_of(&file.path).is_some_and(|table| used(&table)) {
            listed.insert(file.path, file.bytes);
        }
    }
    Ok(listed)
}

/// The table of a segment's file, or of one on its way; `None`: it is no such file.
fn table_of(path: &str) -> Option<TableId> {
    let name = path.rsplit('/').next().unwrap_or(path);
    parse_file_name(name.strip_suffix(TEMPORARY).unwrap_or(name)).map(|(table, _)| table)
}
