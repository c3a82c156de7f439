//! Moving: a table's segments are brought to where they are to lie.
//!
//! Owns the order *begin, view, copies, one commit, old files out once nobody reads them*, partition by partition. A copy
//! is in its place, its checksum right, before the manifest names it; up to the commit the old one is read, behind it the
//! new one, by the same number and with the same deletions. A crash leaves copies that no manifest names, or old files that
//! none names any more. The record of what is owed has both found at the next start: it goes last.
//! One move of a table at a time. Writes and reads go on; a flush or merge that is under way in a partition is waited for.
//! Invariants: SG-2, SG-3.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::Bodies;
use super::files::{ColdFiles, Place};
use crate::actors::jobs::{JobControl, JobDone};
use crate::actors::{ColdChange, ColdSwap};
use crate::database::catalog::{OwedMove, owed_moves};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::model::{Owner, StorageId, TableId, TableMeta};
use crate::storage::segment::{CopyTarget, SegmentEntry};

/// Partitions whose old files wait together for their readers.
const CHUNK: usize = 64;

/// How long a partition is waited for in which another job is at work, and how often is looked.
const PATIENCE: Duration = Duration::from_secs(60);
const ROUND: Duration = Duration::from_millis(50);

/// How much a move did.
#[derive(Default)]
struct Moved {
    partitions: usize,
    segments: usize,
    bytes: u64,
    files_removed: usize,
}

/// While it lives, no other move of the table is under way.
struct Turn<'b> {
    bodies: &'b Bodies,
    table: TableId,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.bodies.moving.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.table);
    }
}

impl Bodies {
    pub(super) async fn move_table(&self, id: TableId, control: &JobControl) -> Result<JobDone> {
        let _turn = self.turn(id, control).await?;
        let mut moved = Moved::default();
        let mut looked = false;
        loop {
            let owed: Vec<OwedMove> = owed_moves(&self.store)?.into_iter().filter(|owed| owed.table == id).collect();
            if owed.is_empty() {
                break;
            }
            if !self.catalog.current().tables().any(|table| table.id == id) {
                return Ok(JobDone::Skipped("the table was dropped".to_owned()));
            }
            looked = true;
            let mut failed = None;
            for owed in &owed {
                self.move_owed(owed, (&mut moved, &mut failed), control).await?;
            }
            if let Some(error) = failed {
                return Err(error);
            }
            if self.catalog.finish_moves(&self.store, id, &owed).await? {
                break;
            }
        }
        let Moved { partitions, segments, bytes, files_removed } = moved;
        Ok(match looked {
            false => JobDone::Skipped("an earlier move has done it".to_owned()),
            true => JobDone::Completed(format!(
                "{segments} segments of {partitions} partitions moved, {bytes} bytes; {files_removed} old files removed"
            )),
        })
    }

    async fn turn(&self, table: TableId, control: &JobControl) -> Result<Turn<'_>> {
        while !self.moving.lock().unwrap_or_else(PoisonError::into_inner).insert(table) {
            control.check()?;
            tokio::time::sleep(ROUND).await;
        }
        Ok(Turn { bodies: self, table })
    }

    /// One partition after the other. Where one can not be moved, the others are all the same; `failed` says why.
    async fn move_owed(
        &self,
        owed: &OwedMove,
        (moved, failed): (&mut Moved, &mut Option<Error>),
        control: &JobControl,
    ) -> Result<()> {
        let id = owed.table;
        let owners = match &owed.owner {
            Some(owner) => vec![owner.clone()],
            None => {
                let store = self.store.clone();
                tokio::task::spawn_blocking(move || store.owners_of(id)).await.map_err(Error::internal)??
            }
        };
        let all = owners.len();
        for (nth, chunk) in owners.chunks(CHUNK).enumerate() {
            for owner in chunk {
                control.check()?;
                match self.move_partition(id, owner, moved, control).await {
                    Ok(()) => {}
                    Err(error @ (Error::Aborted | Error::ShuttingDown | Error::StorageUnavailable)) => {
                        return Err(error);
                    }
                    Err(error) => {
                        tracing::warn!(table = %id, %owner, %error, "a partition can not be moved");
                        failed.get_or_insert(error);
                    }
                }
                control.say(|| {
                    let Moved { segments, bytes, .. } = moved;
                    format!("{segments} segments, {bytes} bytes moved so far; at {} of {all} partitions", nth * CHUNK)
                });
            }
            let mut left = Vec::new();
            for owner in chunk {
                left.extend(self.left_behind(id, owner, &owed.from, control).await?);
            }
            if left.iter().any(|(_, paths)| !paths.is_empty()) {
                // Only a move can bring what is unnamed into a manifest again, and there is no other.
                self.wait_for_readers(self.store.views_until_now(), control).await?;
            }
            failpoint::pass("move_read");
            for (files, paths) in left {
                self.remove_files(&files.storage, &paths).await;
                moved.files_removed += paths.len();
                failpoint::pass("move_removed");
                self.leave_folder(&files).await?;
            }
        }
        Ok(())
    }

    async fn move_partition(&self, id: TableId, owner: &Owner, moved: &mut Moved, control: &JobControl) -> Result<()> {
        let Some(place) = self.place(id, owner) else { return Ok(()) };
        if self.misplaced(&place)?.is_empty() {
            return Ok(());
        }
        let change = self.begin_patiently(&place.table, owner, control).await?;
        if self.is_leaving(owner) {
            return Ok(());
        }
        let Some(place) = self.place(id, owner) else { return Ok(()) };
        let mut copies: Vec<Arc<SegmentEntry>> = Vec::new();
        for segment in self.misplaced(&place)? {
            match self.copy_segment(&place, &segment, control).await {
                Ok(copy) => copies.push(Arc::new(copy)),
                Err(error) => {
                    self.remove_segments(&place.table, &copies).await;
                    return Err(error);
                }
            }
        }
        failpoint::pass("move_copied");
        // An erasure that began meanwhile has looked for files already.
        if self.is_leaving(owner) {
            self.remove_segments(&place.table, &copies).await;
            return Ok(());
        }
        let bytes: u64 = copies.iter().map(|segment| segment.meta.bytes).sum();
        if let Err(error) = change.commit(ColdSwap { moved: copies.clone(), ..ColdSwap::default() }).await {
            // After a failed commit nobody knows what the disk has: these stay, and the next start goes on.
            if !matches!(error, Error::StorageUnavailable) {
                self.remove_segments(&place.table, &copies).await;
            }
            return Err(error);
        }
        failpoint::pass("move_committed");
        moved.partitions += 1;
        moved.segments += copies.len();
        moved.bytes += bytes;
        self.write_manifest_copy(&place).await;
        Ok(())
    }

    /// A partition's segments that lie elsewhere than they are to.
    fn misplaced(&self, place: &Place) -> Result<Vec<Arc<SegmentEntry>>> {
        let manifest = self.store.read_view().manifest(&place.key())?.unwrap_or_default();
        let elsewhere = |segment: &&Arc<SegmentEntry>| *segment.meta.storage(&place.table) != place.storage;
        Ok(manifest.segments().iter().filter(elsewhere).cloned().collect())
    }

    async fn copy_segment(
        &self,
        place: &Place,
        segment: &Arc<SegmentEntry>,
        control: &JobControl,
    ) -> Result<SegmentEntry> {
        let cold = self.store.cold();
        let (from, to) = (cold.store(segment.meta.storage(&place.table))?, cold.store(&place.storage)?);
        let folder = cold.folder(&place.storage, &place.table.name, &place.owner)?;
        let target = CopyTarget { storage: place.storage.clone(), folder };
        let (segment, cancelled) = (segment.clone(), control.cancelled());
        let copy = move || {
            let copying = segment.copy(&from, &to, target, || cancelled.check());
            tokio::runtime::Handle::current().block_on(copying)
        };
        tokio::task::spawn_blocking(copy).await.map_err(Error::internal)?
    }

    /// The partition's files in the storages that it is to leave, but for those that its manifest names.
    async fn left_behind(
        &self,
        id: TableId,
        owner: &Owner,
        from: &BTreeSet<StorageId>,
        control: &JobControl,
    ) -> Result<Vec<(ColdFiles, Vec<String>)>> {
        let Some(place) = self.place(id, owner) else { return Ok(Vec::new()) };
        let mut storages = from.clone();
        storages.insert(place.table.storage.clone());
        storages.extend(self.store.user_storages().current().own(owner).cloned());
        let mut left = Vec::new();
        // Where they are to lie, the partition's next flush looks.
        for storage in storages.into_iter().filter(|storage| *storage != place.storage) {
            let files = place.files_in(storage);
            let manifest = || Ok::<_, Error>(self.store.read_view().manifest(&place.key())?.unwrap_or_default());
            let content = self.unnamed_files(&place.table, &files, &*manifest()?).await?;
            if content.segments.is_empty() {
                left.extend(content.has_copy.then_some((files, Vec::new())));
                continue;
            }
            // Some may be on their way into the manifest: not while nothing is under way.
            let _change = self.begin_patiently(&place.table, owner, control).await?;
            let content = self.unnamed_files(&place.table, &files, &*manifest()?).await?;
            left.push((files, content.segments));
        }
        Ok(left)
    }

    /// Begins a change of the partition as soon as no other is under way.
    pub(super) async fn begin_patiently(
        &self,
        table: &Arc<TableMeta>,
        owner: &Owner,
        control: &JobControl,
    ) -> Result<ColdChange> {
        let began = Instant::now();
        loop {
            match self.router.begin_cold_change(table, owner).await {
                Err(Error::Conflict(_)) if began.elapsed() < PATIENCE => {
                    control.check()?;
                    tokio::time::sleep(ROUND).await;
                }
                begun => return begun,
            }
        }
    }
}
