//! A partition's files, in whichever storage they lie: found, removed, and the copy of its manifest beside them.
//!
//! Owns which files of a folder no manifest names, and that none goes while a view may name it.
//! A segment's number is given once, so what is not named any more is never named again; but for one that is moved back
//! into a storage, which is done by the one job that also removes what it left there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;

use super::Bodies;
use crate::actors::jobs::JobControl;
use crate::error::{Error, Result};
use crate::model::{Owner, PartitionKey, StorageId, TableId, TableMeta, TableName};
use crate::storage::cold_store::TEMPORARY;
use crate::storage::manifest::MANIFEST_FILE;
use crate::storage::segment::{SegmentEntry, parse_file_name};
use crate::storage::{OlderViews, PartitionManifest};

/// How often is looked whether the readers of old files are gone.
const READERS_ROUND: Duration = Duration::from_millis(50);

/// A partition, and where its cold rows are to lie.
#[derive(Clone)]
pub(super) struct Place {
    /// As it is in the catalog.
    pub table: Arc<TableMeta>,
    pub owner: Owner,
    pub storage: StorageId,
}

impl Place {
    pub(super) fn key(&self) -> PartitionKey {
        PartitionKey { table: self.table.id, owner: self.owner.clone() }
    }

    /// Its files where they are to lie.
    pub(super) fn files(&self) -> ColdFiles {
        self.files_in(self.storage.clone())
    }

    /// Its files in some storage.
    pub(super) fn files_in(&self, storage: StorageId) -> ColdFiles {
        ColdFiles { table: self.table.id, name: self.table.name.clone(), storage, owner: self.owner.clone() }
    }
}

/// Whose files, and where.
pub(super) struct ColdFiles {
    pub table: TableId,
    pub name: TableName,
    pub storage: StorageId,
    pub owner: Owner,
}

/// What lies in a partition's folder.
pub(super) struct FolderContent {
    /// Files of segments, and of those on their way.
    pub segments: Vec<String>,
    /// Is a manifest.json there? It may be another table's, which had this one's name.
    pub has_copy: bool,
}

impl Bodies {
    /// The partition as it is by now: its table may be altered, and its owner get another storage, at any time. `None`: the
    /// table was dropped. Asked behind the beginning of a change, it is true to the change's end: who moves partitions
    /// comes to each of them after that.
    pub(super) fn place(&self, table: TableId, owner: &Owner) -> Option<Place> {
        let table = self.catalog.current().tables().find(|other| other.id == table)?.clone();
        let storage = self.store.user_storages().current().of(&table, owner).clone();
        Some(Place { table, owner: owner.clone(), storage })
    }

    /// Storages where an owner may have files of a table: where the segments are that its manifest names, where they are
    /// to be, and where a move may have left some.
    pub(super) fn storages_of(&self, table: TableId, at: &StorageId, owner: &Owner) -> Result<BTreeSet<StorageId>> {
        let mut storages = BTreeSet::from([at.clone()]);
        storages.extend(self.store.user_storages().current().own(owner).cloned());
        let moves = crate::database::catalog::owed_moves(&self.store)?;
        storages.extend(moves.into_iter().filter(|owed| owed.table == table).flat_map(|owed| owed.from));
        let manifest = self.store.read_view().manifest(&PartitionKey { table, owner: owner.clone() })?;
        let segments = manifest.iter().flat_map(|manifest| manifest.segments());
        storages.extend(segments.filter_map(|segment| segment.meta.storage.clone()));
        Ok(storages)
    }

    /// For people and other tools: nothing depends on it.
    pub(super) async fn write_manifest_copy(&self, place: &Place) {
        let write = async || {
            let view = self.store.read_view();
            let Some(manifest) = view.manifest(&place.key())? else { return Ok(()) };
            let deleted = |segment| view.deleted_count(place.table.id, segment);
            let shown = manifest.shown(&place.table, &place.owner, deleted)?;
            let folder = self.folder_of(&place.files())?;
            shown.write(&*self.store.cold().store(&place.storage)?, &folder).await
        };
        if let Err(error) = write().await {
            tracing::warn!(table = %place.table.name, %error, "manifest.json is old: it can not be written");
        }
    }

    /// What of the table's own lies in a partition's folder and is not named by its manifest, what is on its way included.
    /// Nobody else may write into the folder meanwhile.
    pub(super) async fn unnamed_files(
        &self,
        table: &TableMeta,
        files: &ColdFiles,
        manifest: &PartitionManifest,
    ) -> Result<FolderContent> {
        let named = |path: &String| {
            let mut segments = manifest.segments().iter();
            segments.any(|segment| segment.meta.path == *path && *segment.meta.storage(table) == files.storage)
        };
        let FolderContent { segments, has_copy } = self.files_of(files).await?;
        Ok(FolderContent { segments: segments.into_iter().filter(|path| !named(path)).collect(), has_copy })
    }

    /// Removes what a flush left that did not get to its commit. Where views are open that may name it, because a merge
    /// took it out of the manifest only now, it is left for the next time. Called by whoever has begun a change.
    pub(super) async fn remove_orphans(&self, place: &Place, manifest: &PartitionManifest) -> Result<()> {
        let files = place.files();
        let unnamed = self.unnamed_files(&place.table, &files, manifest).await?.segments;
        if unnamed.is_empty() || !self.readers_end(self.store.views_until_now(), Duration::from_secs(1)).await {
            return Ok(());
        }
        let store = self.store.cold().store(&files.storage)?;
        for path in unnamed {
            store.remove(&path).await?;
            tracing::info!(path, "removed a file that no manifest names");
        }
        Ok(())
    }

    /// Waits for the views to close, for so long; says whether they have.
    async fn readers_end(&self, older: OlderViews, patience: Duration) -> bool {
        let began = Instant::now();
        while !self.store.views_are_closed(older) {
            if began.elapsed() >= patience {
                return false;
            }
            tokio::time::sleep(READERS_ROUND).await;
        }
        true
    }

    /// Waits for the views to close, as long as it takes.
    ///
    /// # Errors
    /// `ABORTED` where the job is cancelled.
    pub(super) async fn wait_for_readers(&self, older: OlderViews, control: &JobControl) -> Result<()> {
        while !self.readers_end(older, Duration::from_millis(500)).await {
            control.check()?;
        }
        Ok(())
    }

    /// Removes files of segments that no view names any more.
    pub(super) async fn remove_segments(&self, table: &TableMeta, segments: &[Arc<SegmentEntry>]) {
        for segment in segments {
            self.remove_files(segment.meta.storage(table), std::slice::from_ref(&segment.meta.path)).await;
        }
    }

    pub(super) async fn remove_files(&self, storage: &StorageId, paths: &[String]) {
        for path in paths {
            let removed = match self.store.cold().store(storage) {
                Ok(store) => store.remove(path).await,
                Err(error) => Err(error),
            };
            if let Err(error) = removed {
                tracing::warn!(path, %error, "a file that nobody needs can not be removed now");
            }
        }
    }

    /// The table's own files in a partition's folder, those on their way included: another table of the same name may
    /// have had it before.
    async fn files_of(&self, files: &ColdFiles) -> Result<FolderContent> {
        let folder = self.folder_of(files)?;
        let found: Vec<_> = self.store.cold().store(&files.storage)?.list(&folder).try_collect().await?;
        let own = |path: &String| {
            let file = path.strip_prefix(&folder).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
            parse_file_name(file.strip_suffix(TEMPORARY).unwrap_or(file)).is_some_and(|(of, _)| of == files.table)
        };
        let copy = format!("{folder}/{MANIFEST_FILE}");
        let has_copy = found.iter().any(|file| file.path == copy);
        Ok(FolderContent { segments: found.into_iter().map(|file| file.path).filter(own).collect(), has_copy })
    }

    fn folder_of(&self, files: &ColdFiles) -> Result<String> {
        self.store.cold().folder(&files.storage, &files.name, &files.owner)
    }

    /// Removes all files that an owner has of a table, in whichever storage they may be; `at` is the table's.
    pub(super) async fn remove_cold(
        &self,
        (table, name): (TableId, &TableName),
        at: &StorageId,
        owner: &Owner,
    ) -> Result<usize> {
        let mut removed = 0;
        for storage in self.storages_of(table, at, owner)? {
            let files = ColdFiles { table, name: name.clone(), storage, owner: owner.clone() };
            let store = match self.store.cold().store(&files.storage) {
                // A storage that is gone has no files of anyone.
                Err(Error::NotFound(_)) if files.storage != *at => continue,
                store => store?,
            };
            let paths = self.files_of(&files).await?.segments;
            for path in &paths {
                store.remove(path).await?;
            }
            removed += paths.len();
            self.leave_folder(&files).await?;
        }
        Ok(removed)
    }

    /// Removes the copy of a partition's manifest, where it is this table's, and the folder where nothing is left in it.
    pub(super) async fn leave_folder(&self, files: &ColdFiles) -> Result<()> {
        let store = self.store.cold().store(&files.storage)?;
        let folder = self.folder_of(files)?;
        let copy = format!("{folder}/{MANIFEST_FILE}");
        let of_table = |text: &[u8]| {
            // What a power loss left of a copy is nobody's.
            let copy = serde_json::from_slice::<serde_json::Value>(text);
            copy.map_or(true, |copy| copy["table_id"] == serde_json::json!(files.table))
        };
        if store.content(&copy).await?.is_some_and(|text| of_table(&text)) {
            store.remove(&copy).await?;
        }
        store.remove_empty_folders(&folder);
        Ok(())
    }
}
