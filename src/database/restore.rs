//! A backup's way into a data folder, the same for RESTORE DATABASE and for `inboxdb restore`.
//!
//! Owns the order *check, load, place, verify, mark*, and what the next start does with it. Up to the mark nothing but
//! `<data>/restore` is touched. Blocks on the disk.
//! Start at [`stage`].

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use chrono::DateTime;

use crate::auth::{AuthRecord, Mailbox};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::model::{Catalog, NamespaceMeta, Owner, StorageKind, UserId};
use crate::storage::backup::{self, BackupIndex, StagedBackup, Step, SwapError};
use crate::storage::{ColdStores, RecordKind};

/// A backup that the next start takes.
#[derive(Debug)]
pub struct Staged {
    pub index: BackupIndex,
    /// Where what is there now is going to be.
    pub replaced: PathBuf,
}

/// Brings the backup in `from` beside what is in `data`. `used`: folders that storages have in the data folder today.
///
/// # Errors
/// `BACKUP_FAILED`, what `step` says.
pub fn stage(from: &Path, data: &Path, used: Vec<String>, now_us: i64, step: Step<'_>) -> Result<Staged> {
    let index = backup::check_backup(from, step)?;
    let staged = StagedBackup::begin(from, &index, data)?;
    failpoint::pass("restore_begun");
    staged.load_keyspaces(step)?;
    failpoint::pass("restore_loaded");
    staged.place_segments(step)?;
    failpoint::pass("restore_placed");
    let gone = gone_users(staged.records(RecordKind::User)?)?;
    staged.verify(&|owner| is_gone(&gone, owner))?;
    for (_, json) in staged.records(RecordKind::Namespace)? {
        serde_json::from_slice::<NamespaceMeta>(&json).map_err(Error::internal)?;
    }
    step(0)?;
    failpoint::pass("restore_verified");
    let replaced = staged.mark_ready(used, &stamp(now_us), date(now_us))?;
    failpoint::pass("restore_ready");
    Ok(Staged { index, replaced })
}

/// Finishes the restore that is ready, if one is. Before the folder is opened.
///
/// # Errors
/// [`SwapError`].
pub fn finish(data: &Path) -> Result<(), SwapError> {
    if let Some(done) = backup::swap_in(data)? {
        let replaced = done.replaced.map(|path| path.display().to_string()).unwrap_or_default();
        tracing::warn!(
            from = done.from,
            backup_of = done.created_at,
            kept = replaced,
            "the database was restored from a backup; what was there before is kept"
        );
    }
    Ok(())
}

/// Brings a restored backup's segments into storages outside the data folder.
pub(super) async fn put_back_segments(data: &Path, stores: &ColdStores) -> Result<()> {
    let count = backup::put_back_incoming(data, stores).await?;
    if count > 0 {
        tracing::info!(count, "segments of the restored backup are back in their storages");
    }
    Ok(())
}

/// Folders that storages have in the data folder.
pub(super) fn folders_in_use(catalog: &Catalog) -> Vec<String> {
    let filesystems = catalog.storages.values().filter(|meta| meta.kind == StorageKind::Filesystem);
    filesystems.filter(|meta| Path::new(&meta.base).is_relative()).map(|meta| meta.base.clone()).collect()
}

/// Users whose files are on their way out, or gone already.
pub(super) fn gone_users(records: Vec<(String, Vec<u8>)>) -> Result<HashSet<UserId>> {
    let mut gone = HashSet::new();
    for (_, value) in records {
        if let AuthRecord::User(user) = AuthRecord::decode_user(&value)?
            && user.is_deleted()
            && user.mailbox != Mailbox::Kept
        {
            gone.insert(user.user_id.clone());
        }
    }
    Ok(gone)
}

pub(super) fn is_gone(gone: &HashSet<UserId>, owner: &Owner) -> bool {
    matches!(owner, Owner::User(user) if gone.contains(user))
}

/// RFC 3339.
pub(super) fn date(us: i64) -> String {
    time(us).to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

/// A time as part of a folder's name.
fn stamp(us: i64) -> String {
    time(us).format("%Y%m%dT%H%M%SZ").to_string()
}

fn time(us: i64) -> DateTime<chrono::Utc> {
    DateTime::from_timestamp_micros(us).unwrap_or_default()
}
