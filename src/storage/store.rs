//! The data folder: opening it, its fixed keyspaces, its format, and what recovery found.
//!
//! Owns the fjall database. Never writes rows: that is [`super::commit_log`]'s.
//! Invariants: RC-1 (opening is idempotent and needs no clock).

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use fjall::compaction::Leveled;
use fjall::config::{BloomConstructionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{CompressionType, Keyspace, KeyspaceCreateOptions, PersistMode};
use rustix::fs::statvfs;

use super::cold::Cold;
use super::erase::{EraseScope, Eraser};
use super::homes::UserStorages;
use super::hot_stats;
use super::keys;
use super::read_view::ReadView;
use super::records::RecordKind;
use super::stream_buckets::{DROPPED_RECORD, StreamBuckets};
use super::views::{OlderViews, Views};
use crate::error::{Error, Result};
use crate::model::{HotStats, Owner, PartitionKey, PkBytes, TableId, UserId};
use crate::partition::stream_buckets::BucketId;

/// The layout that this program writes: see docs/on-disk-format.md.
pub const FORMAT_VERSION: u32 = 6;

/// Under the data folder: the fjall database.
const HOT_FOLDER: &str = "hot";

pub(super) const FORMAT_RECORD: &str = "format";
pub(super) const COMMITS_RECORD: &str = "commits";

/// The fixed keyspaces. A table costs none.
pub(super) struct Keyspaces {
    pub rows: Keyspace,
    pub pk: Keyspace,
    pub feed: Keyspace,
    pub records: Keyspace,
    pub manifest: Keyspace,
    pub deletions: Keyspace,
    pub stats: Keyspace,
    pub topics: Keyspace,
    pub notes: Keyspace,
}

impl Keyspaces {
    const NAMES: [&str; 9] = ["rows", "pk", "feed", "records", "manifest", "deletions", "stats", "topics", "notes"];

    pub fn named(&self) -> [(&'static str, &Keyspace); 9] {
        let spaces = [
            &self.rows,
            &self.pk,
            &self.feed,
            &self.records,
            &self.manifest,
            &self.deletions,
            &self.stats,
            &self.topics,
            &self.notes,
        ];
        std::array::from_fn(|number| (Self::NAMES[number], spaces[number]))
    }
}

/// An open data folder. One process at a time.
pub struct Store {
    db: fjall::Database,
    keyspaces: Arc<Keyspaces>,
    cold: Arc<Cold>,
    views: Views,
    user_storages: Arc<UserStorages>,
    streams: StreamBuckets,
    journal_folder: PathBuf,
    mark_path: PathBuf,
    /// Shared by those who copy files.
    pins: Arc<()>,
    /// Dropped users whose rows are still there: no feed shows them.
    hidden: RwLock<Arc<HashSet<UserId>>>,
}

/// While one lives, files of what is dropped are not removed: a copy of them is being made.
#[derive(Debug)]
pub struct FilePin {
    _pins: Arc<()>,
}

/// What opening a data folder found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recovered {
    /// Commits that the store holds, counted from its creation.
    pub commits: u64,
    /// Commits that were durable once and are gone: the journal was damaged. 0 in a sound store.
    pub lost_commits: u64,
}

/// Why a data folder can not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the data folder {0} is in use by another process; stop that one, or choose another folder with --data")]
    Locked(PathBuf),
    #[error("the data folder {path} can not be used: {source}; check its permissions, or choose another with --data")]
    Folder { path: PathBuf, source: std::io::Error },
    #[error(
        "the data folder {path} has format {found}; this program knows formats up to {FORMAT_VERSION}: use a newer inboxdb"
    )]
    NewerFormat { path: PathBuf, found: u32 },
    #[error("the data folder {path} can not be opened: {source}")]
    Engine { path: PathBuf, source: fjall::Error },
    #[error("there is no database in {0}")]
    Absent(PathBuf),
    #[error(
        "the data folder {0} was never opened by this version of inboxdb; start the server on it once, which brings it up to date"
    )]
    Older(PathBuf),
    #[error("the data folder {path} is damaged: {fault}")]
    Damaged { path: PathBuf, fault: String },
}

impl Store {
    /// Opens, or creates, the store in `data/hot`. `cache_bytes` for the blocks of each half, hot and cold.
    ///
    /// # Errors
    /// [`OpenError`]: in use, not writable, of a newer format, or damaged.
    pub fn open(data: &Path, cache_bytes: u64) -> Result<(Arc<Store>, Recovered), OpenError> {
        let folder = |source| OpenError::Folder { path: data.to_owned(), source };
        fs::create_dir_all(data).map_err(folder)?;
        let store = Self::open_engine(data, cache_bytes, false)?;
        if let Some(from) = store.older_format(data)? {
            // Every older format is one that this program reads as it is; what it writes from now on is newer.
            if (1..4).contains(&from) {
                store.note_what_older_formats_did_not(from, data)?;
            }
            if from > 0 {
                tracing::info!(from, to = FORMAT_VERSION, "the data folder is taken to a newer format");
            }
            store.write_format(data)?;
        }
        let recovered = store.recover(data)?;
        Ok((Arc::new(store), recovered))
    }

    /// Opens a store that is there, to be looked at: nothing is made in it and nothing brought up to date.
    ///
    /// # Errors
    /// As [`Store::open`], and where there is none.
    pub fn open_as_is(data: &Path, cache_bytes: u64) -> Result<(Arc<Store>, Recovered), OpenError> {
        if !data.join(HOT_FOLDER).is_dir() {
            return Err(OpenError::Absent(data.to_owned()));
        }
        let store = Self::open_engine(data, cache_bytes, true)?;
        store.older_format(data)?;
        let recovered = store.recover(data)?;
        Ok((Arc::new(store), recovered))
    }

    fn open_engine(data: &Path, cache_bytes: u64, as_is: bool) -> Result<Store, OpenError> {
        let engine = |source| match source {
            fjall::Error::Locked => OpenError::Locked(data.to_owned()),
            fjall::Error::Io(source) => OpenError::Folder { path: data.to_owned(), source },
            source => OpenError::Engine { path: data.to_owned(), source },
        };
        // One worker: where fjall has several, its first one turns in a circle, a whole core, for as long as another
        // compacts and a further compaction waits.
        let journal_folder = data.join(HOT_FOLDER);
        let db = fjall::Database::builder(&journal_folder);
        // Rows are compressed when they are compacted; a journal lives for seconds, and the committer has no time for it.
        let db = db.journal_compression(CompressionType::None);
        let db = db.cache_size(cache_bytes).worker_threads(1).open().map_err(engine)?;
        if as_is && !Keyspaces::NAMES.iter().all(|name| db.keyspace_exists(name)) {
            return Err(OpenError::Older(data.to_owned()));
        }
        // Small memtables: what is not flushed must be replayed at the next start, and counts against memory. Many of
        // their files wait for one compaction: each row is rewritten less often, and a look at a key asks the filters
        // of more files, of which all but one say no.
        let keyspace = |name: &str, memtable: u64| {
            let compaction = Leveled::default().with_l0_threshold(8);
            let filter = FilterPolicy::all(FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0)));
            let options = KeyspaceCreateOptions::default().max_memtable_size(memtable);
            let options = options.compaction_strategy(Arc::new(compaction)).filter_policy(filter);
            db.keyspace(name, || options).map_err(engine)
        };
        let keyspaces = Arc::new(Keyspaces {
            rows: keyspace("rows", 32 << 20)?,
            pk: keyspace("pk", 16 << 20)?,
            feed: keyspace("feed", 8 << 20)?,
            records: keyspace("records", 4 << 20)?,
            manifest: keyspace("manifest", 4 << 20)?,
            deletions: keyspace("deletions", 4 << 20)?,
            stats: keyspace("stats", 4 << 20)?,
            topics: keyspace("topics", 16 << 20)?,
            notes: keyspace("notes", 4 << 20)?,
        });
        let dropped = keyspaces.records.get(keys::record(RecordKind::Store, DROPPED_RECORD)).map_err(engine)?;
        let dropped_ms = dropped.and_then(|ms| ms.as_ref().try_into().ok()).map_or(0, i64::from_be_bytes);
        let streams = StreamBuckets::open(db.clone(), dropped_ms).map_err(engine)?;
        let cold = Cold::new(cache_bytes);
        let mark_path = data.join("commits.mark");
        Ok(Store {
            db,
            keyspaces,
            cold: Arc::new(cold),
            views: Views::default(),
            user_storages: Arc::default(),
            streams,
            journal_folder,
            mark_path,
            pins: Arc::new(()),
            hidden: RwLock::default(),
        })
    }

    /// The format where it is older than what this program writes; 0 where the folder has none yet.
    fn older_format(&self, data: &Path) -> Result<Option<u32>, OpenError> {
        let key = keys::record(RecordKind::Store, FORMAT_RECORD);
        let damaged = |fault: &str| OpenError::Damaged { path: data.to_owned(), fault: fault.to_owned() };
        let stored = self.keyspaces.records.get(&key).map_err(|e| damaged(&e.to_string()))?;
        let Some(bytes) = stored else { return Ok(Some(0)) };
        let found = bytes.as_ref().try_into().map(u32::from_be_bytes);
        let found = found.map_err(|_| damaged("its format number is not readable"))?;
        if found > FORMAT_VERSION {
            return Err(OpenError::NewerFormat { path: data.to_owned(), found });
        }
        Ok((found < FORMAT_VERSION).then_some(found))
    }

    fn write_format(&self, data: &Path) -> Result<(), OpenError> {
        let key = keys::record(RecordKind::Store, FORMAT_RECORD);
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&self.keyspaces.records, key, FORMAT_VERSION.to_be_bytes());
        batch.commit().map_err(|source| OpenError::Engine { path: data.to_owned(), source })
    }

    /// fjall takes a damaged middle of the journal for its end. The commit counter in the store and the mark beside it,
    /// written only after an fdatasync, show what such a recovery lost.
    fn recover(&self, data: &Path) -> Result<Recovered, OpenError> {
        let damaged = |fault: String| OpenError::Damaged { path: data.to_owned(), fault };
        let key = keys::record(RecordKind::Store, COMMITS_RECORD);
        let commits = self.keyspaces.records.get(key).map_err(|e| damaged(e.to_string()))?;
        let commits = commits.and_then(|b| b.as_ref().try_into().ok()).map_or(0, u64::from_be_bytes);
        let mark = match fs::read(&self.mark_path) {
            Ok(bytes) => bytes.as_slice().try_into().map_or(0, u64::from_be_bytes),
            Err(_) => 0,
        };
        Ok(Recovered { commits, lost_commits: mark.saturating_sub(commits) })
    }

    /// The moment now.
    pub fn read_view(&self) -> ReadView {
        // In this order: who is shown again before they write is not hidden in a view that has what they wrote.
        let moment = self.views.enter();
        let snapshot = self.db.snapshot();
        let owners = (self.hidden(), self.user_storages.current());
        // Behind the snapshot: a bucket that it has rows of is there, or all of them are expired.
        let streams = self.streams.view();
        ReadView::new((snapshot, moment), (self.keyspaces.clone(), streams), self.cold.clone(), owners)
    }

    /// Where rows of STREAM tables lie.
    pub fn streams(&self) -> &StreamBuckets {
        &self.streams
    }

    /// The views that are open now: they may read files that are in no manifest any more.
    pub fn views_until_now(&self) -> OlderViews {
        self.views.until_now()
    }

    pub fn views_are_closed(&self, older: OlderViews) -> bool {
        self.views.are_closed(older)
    }

    /// Has whoever removes files of dropped tables and users wait.
    pub fn pin_files(&self) -> FilePin {
        FilePin { _pins: self.pins.clone() }
    }

    pub fn files_are_pinned(&self) -> bool {
        Arc::strong_count(&self.pins) > 1
    }

    pub fn cold(&self) -> &Arc<Cold> {
        &self.cold
    }

    /// Which users have a storage of their own.
    pub fn user_storages(&self) -> &Arc<UserStorages> {
        &self.user_storages
    }

    /// Leaves the rows of this owner out of the feeds of views from now on.
    pub fn hide(&self, user: &UserId) {
        if !self.hidden().contains(user) {
            Arc::make_mut(&mut *self.hidden.write().unwrap_or_else(PoisonError::into_inner)).insert(user.clone());
        }
    }

    /// Ends [`Store::hide`].
    pub fn show(&self, user: &UserId) {
        if self.hidden().contains(user) {
            Arc::make_mut(&mut *self.hidden.write().unwrap_or_else(PoisonError::into_inner)).remove(user);
        }
    }

    fn hidden(&self) -> Arc<HashSet<UserId>> {
        self.hidden.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A walk over the keys of what is to go.
    pub fn eraser(self: &Arc<Self>, scope: EraseScope) -> Eraser {
        Eraser::new(self.clone(), scope)
    }

    /// Is this key in the key index now? For the partition's own actor, which is its only writer.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub fn contains_key(&self, key: &PartitionKey, pk: &PkBytes) -> Result<bool> {
        self.keyspaces.pk.contains_key(keys::pk(key, pk)).map_err(storage_error)
    }

    /// What was noted of a partition's hot rows.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub fn hot_stats(&self, key: &PartitionKey) -> Result<HotStats> {
        let value = self.keyspaces.stats.get(keys::partition_prefix(key)).map_err(storage_error)?;
        value.map_or(Ok(HotStats::default()), |value| hot_stats::parse(&value))
    }

    /// Has what is in memory of rows and their key index written to files now, and not when it has grown large: the engine counts
    /// the bytes of keys, and of removed ones the rest is far more.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub fn begin_writing_out_keys(&self) -> Result<()> {
        for keyspace in [&self.keyspaces.pk, &self.keyspaces.rows] {
            keyspace.rotate_memtable().map_err(storage_error)?;
        }
        Ok(())
    }

    /// Is that done?
    pub fn has_written_out_keys(&self) -> bool {
        [&self.keyspaces.pk, &self.keyspaces.rows].iter().all(|keyspace| keyspace.sealed_memtable_count() == 0)
    }

    /// Bytes free on the data folder's disk, where it says so.
    pub fn free_disk(&self) -> Option<u64> {
        let space = statvfs(&self.journal_folder).ok()?;
        Some(space.f_bavail.saturating_mul(space.f_frsize))
    }

    /// What was noted of the hot rows of a table's partitions, by owner: what is worth flushing is found in it, without a
    /// look at a row.
    pub fn hot_partitions(&self, table: TableId) -> impl Iterator<Item = Result<(Owner, HotStats)>> + use<> {
        self.keyspaces.stats.prefix(keys::table_prefix(table)).map(|guard| {
            let (key, value) = guard.into_inner().map_err(storage_error)?;
            let owner = keys::owner_of(&key).ok_or_else(|| Error::internal("a damaged key of stats"))?;
            Ok((owner, hot_stats::parse(&value)?))
        })
    }

    /// Owners that have, or may have, files of a table.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub fn owners_of(&self, table: TableId) -> Result<Vec<Owner>> {
        let mut owners: Vec<Owner> = Vec::new();
        for keyspace in [&self.keyspaces.manifest, &self.keyspaces.stats] {
            for guard in keyspace.prefix(keys::table_prefix(table)) {
                let key = guard.key().map_err(storage_error)?;
                let owner = keys::owner_of(&key).ok_or_else(|| Error::internal("a damaged key of an owner"))?;
                if owners.last() != Some(&owner) {
                    owners.push(owner);
                }
            }
        }
        owners.sort();
        owners.dedup();
        Ok(owners)
    }

    /// The greatest primary key in the key index. For the partition's own actor, which is its only writer.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub fn greatest_key(&self, key: &PartitionKey) -> Result<Option<PkBytes>> {
        let prefix = keys::pk(key, &PkBytes(bytes::Bytes::new()));
        let Some(last) = self.keyspaces.pk.prefix(&prefix).next_back() else { return Ok(None) };
        let entry: bytes::Bytes = last.key().map_err(storage_error)?.into();
        Ok(Some(PkBytes(entry.slice(prefix.len()..))))
    }

    /// All records of a kind, by name.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub fn records(&self, kind: RecordKind) -> Result<Vec<(String, Vec<u8>)>> {
        self.keyspaces
            .records
            .prefix([kind as u8])
            .map(|guard| {
                let (key, value) = guard.into_inner().map_err(storage_error)?;
                let name = String::from_utf8(key[1..].to_vec()).map_err(Error::internal)?;
                Ok((name, value.to_vec()))
            })
            .collect()
    }

    /// Keys of a kind's first records: those below `limits.0`, and as many more as there are above `limits.1` in all. At
    /// most `at_once`.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub fn surplus_records(&self, kind: RecordKind, limits: (&str, usize), at_once: usize) -> Result<Vec<String>> {
        let (before, most) = limits;
        let key_of = |guard: fjall::Guard| {
            let key = guard.key().map_err(storage_error)?;
            String::from_utf8(key[1..].to_vec()).map_err(Error::internal)
        };
        let all = || self.keyspaces.records.prefix([kind as u8]);
        let surplus = all().count().saturating_sub(most);
        let mut found = Vec::new();
        for (at, guard) in all().take(at_once).enumerate() {
            let key = key_of(guard)?;
            if at >= surplus && key.as_str() >= before {
                break;
            }
            found.push(key);
        }
        Ok(found)
    }

    /// Puts entries into a store that is being filled and that nobody else has: not durable before [`Store::sync_all`].
    pub(super) fn load(&self, keyspace: &str, entries: Vec<(Vec<u8>, Vec<u8>)>) -> Result<()> {
        let named = self.keyspaces.named();
        let found = named.iter().find(|(name, _)| *name == keyspace);
        let keyspace = match (found, BucketId::parse(keyspace)) {
            (Some((_, keyspace)), _) => (*keyspace).clone(),
            (None, Some(bucket)) => self.streams.make(bucket)?,
            (None, None) => return Err(Error::internal(format!("there is no keyspace {keyspace}"))),
        };
        let mut batch = self.db.batch();
        for (key, value) in entries {
            batch.insert(&keyspace, key, value);
        }
        batch.commit().map_err(storage_error)
    }

    pub(super) fn sync_all(&self) -> Result<()> {
        self.db.persist(PersistMode::SyncAll).map_err(storage_error)
    }

    pub(super) fn db(&self) -> &fjall::Database {
        &self.db
    }

    pub(super) fn keyspaces(&self) -> &Arc<Keyspaces> {
        &self.keyspaces
    }

    pub(super) fn journal_folder(&self) -> &Path {
        &self.journal_folder
    }

    pub(super) fn mark_path(&self) -> &Path {
        &self.mark_path
    }
}

pub(super) fn storage_error(error: fjall::Error) -> Error {
    tracing::error!(%error, "storage engine failed");
    Error::StorageUnavailable
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The format number of a folder becomes `number`.
    fn set_format(folder: &Path, number: u32) {
        let (store, _) = Store::open(folder, 1 << 20).unwrap();
        let mut batch = store.db.batch().durability(Some(PersistMode::SyncAll));
        batch.insert(&store.keyspaces.records, keys::record(RecordKind::Store, FORMAT_RECORD), number.to_be_bytes());
        batch.commit().unwrap();
    }

    fn format_of(store: &Store) -> Vec<u8> {
        let records = store.records(RecordKind::Store).unwrap();
        records.into_iter().find(|(name, _)| name == FORMAT_RECORD).unwrap().1
    }

    #[test]
    fn an_older_format_is_taken_over_and_a_newer_one_refused() {
        let folder = tempfile::tempdir().unwrap();
        set_format(folder.path(), 1);
        let (store, _) = Store::open(folder.path(), 1 << 20).unwrap();
        assert_eq!(format_of(&store), FORMAT_VERSION.to_be_bytes(), "older programs must not misread what comes now");
        drop(store);
        set_format(folder.path(), FORMAT_VERSION + 1);
        let refused = Store::open(folder.path(), 1 << 20).err().unwrap();
        assert!(matches!(refused, OpenError::NewerFormat { found, .. } if found == FORMAT_VERSION + 1), "{refused}");
    }

    #[test]
    fn a_folder_of_format_4_gets_its_topics() {
        let folder = tempfile::tempdir().unwrap();
        {
            let db = fjall::Database::builder(folder.path().join(HOT_FOLDER)).open().unwrap();
            let keyspace = |name: &str| db.keyspace(name, KeyspaceCreateOptions::default).unwrap();
            Keyspaces::NAMES.iter().filter(|name| **name != "topics").for_each(|name| drop(keyspace(name)));
            let format = keys::record(RecordKind::Store, FORMAT_RECORD);
            keyspace("records").insert(format, 4_u32.to_be_bytes()).unwrap();
        }
        let refused = Store::open_as_is(folder.path(), 1 << 20).err().unwrap();
        assert!(matches!(refused, OpenError::Older(_)), "{refused}");
        let (store, _) = Store::open(folder.path(), 1 << 20).unwrap();
        assert_eq!(format_of(&store), FORMAT_VERSION.to_be_bytes());
        let at = crate::model::TopicPartition { topic: crate::model::TopicId(1), partition: 0 };
        assert_eq!(store.read_view().topic_head(at).unwrap(), Default::default());
        drop(store);
        assert!(Store::open_as_is(folder.path(), 1 << 20).is_ok());
    }

    #[test]
    fn what_is_looked_at_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |path: &Path| Store::open_as_is(path, 1 << 20).err().unwrap();
        assert!(matches!(refused(folder.path()), OpenError::Absent(_)));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        set_format(folder.path(), 1);
        let (store, _) = Store::open_as_is(folder.path(), 1 << 20).unwrap();
        assert_eq!(store.format().unwrap(), 1);
        assert!(matches!(refused(folder.path()), OpenError::Locked(_)));
        drop(store);
        set_format(folder.path(), FORMAT_VERSION + 1);
        assert!(matches!(refused(folder.path()), OpenError::NewerFormat { .. }));
        let older = tempfile::tempdir().unwrap();
        let db = fjall::Database::builder(older.path().join(HOT_FOLDER)).open().unwrap();
        db.keyspace("rows", KeyspaceCreateOptions::default).unwrap();
        drop(db);
        assert!(matches!(refused(older.path()), OpenError::Older(_)));
    }
}
