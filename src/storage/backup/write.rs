//! Writes a backup: aside, then in its place by one rename.
//!
//! Owns the order *moment, keyspaces, segments, index, name*: up to the last step there is a `<folder>.partial` that nobody
//! takes for a backup, and that a next try of the same name removes. Memory: a block of entries, a piece of a file, and about
//! 200 bytes a segment for the index.
//! Never holds up a writer: it reads a view. Blocks on the disk.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::ObjectStoreExt as _;
use object_store::path::Path as ObjectPath;

use super::entries::EntryWriter;
use super::files::{self, PIECE, SummedFile};
use super::index::{BACKUP_FORMAT, BackupFile, BackupIndex, Content, INDEX_FILE, TableHead};
use super::{KEYSPACES, SEGMENTS, at, unwritable};
use crate::error::{Error, Result};
use crate::model::{Owner, PartitionKey, StorageId, TableMeta};
use crate::storage::cold_store::{ColdStore, unavailable};
use crate::storage::cold_stores::settled;
use crate::storage::keys;
use crate::storage::read_view::ReadView;
use crate::storage::records::RecordKind;
use crate::storage::segment::SegmentEntry;
use crate::storage::store::{COMMITS_RECORD, FORMAT_RECORD, FilePin, Store, storage_error};

/// Asked and told between two steps: how many bytes were copied since the last one. An error ends it.
pub type Step<'a> = &'a (dyn Fn(u64) -> Result<()> + Sync);

/// A folder that a backup may come to.
#[derive(Debug, Clone)]
pub struct BackupTarget {
    place: PathBuf,
    partial: PathBuf,
}

/// One moment of the database, whose segments stay while this lives.
pub struct BackupMoment {
    view: ReadView,
    pin: FilePin,
}

/// A segment that belongs to the moment, and where it lies.
#[derive(Debug, Clone)]
pub struct BackedSegment {
    pub storage: StorageId,
    pub entry: Arc<SegmentEntry>,
}

pub struct BackupWriter {
    target: BackupTarget,
    files: Vec<BackupFile>,
}

impl BackupTarget {
    /// `place` is absolute, and not in `data`; there is nothing yet, or an empty folder.
    ///
    /// # Errors
    /// `BACKUP_FAILED`.
    pub fn check(place: &Path, data: &Path) -> Result<Self> {
        let fault = |fault: &str| Err(unwritable(place, fault));
        let Some(name) = place.file_name() else { return fault("it names no folder") };
        if settled(place).starts_with(settled(data)) {
            return fault("it lies in the data folder, and would be lost with it; choose another place");
        }
        match fs::read_dir(place).map(|mut found| found.next().is_some()) {
            Ok(false) => {}
            Ok(true) => return fault("there is something in it; choose a folder that is empty or does not exist"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return fault(&error.to_string()),
        }
        let mut partial = name.to_owned();
        partial.push(".partial");
        let partial = place.with_file_name(partial);
        if !is_ours(&partial).map_err(|error| unwritable(&partial, error))? {
            return Err(unwritable(&partial, "a folder that is no unfinished backup is in the way"));
        }
        Ok(Self { place: place.to_owned(), partial })
    }

    /// Makes the folder aside; what an earlier try left there goes.
    ///
    /// # Errors
    /// `BACKUP_FAILED`.
    pub fn begin(self) -> Result<BackupWriter> {
        let make = || -> io::Result<()> {
            files::remove_tree(&self.partial)?;
            files::make_folders(&self.partial.join(KEYSPACES))?;
            files::make_folders(&self.partial.join(SEGMENTS))
        };
        make().map_err(|error| unwritable(&self.place, at(&self.partial, &error)))?;
        Ok(BackupWriter { target: self, files: Vec::new() })
    }
}

/// Is it absent, or what an unfinished backup leaves?
fn is_ours(partial: &Path) -> io::Result<bool> {
    let found = match fs::read_dir(partial) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        found => found?,
    };
    for entry in found {
        let name = entry?.file_name();
        if ![KEYSPACES, SEGMENTS, INDEX_FILE].iter().any(|ours| name == *ours) {
            return Ok(false);
        }
    }
    Ok(true)
}

impl BackupMoment {
    /// The moment now. The pin comes first: whoever removes files of what was dropped before it has made that durable, so
    /// the view does not name them, and whoever does behind it waits.
    pub fn now(store: &Store) -> Self {
        let pin = store.pin_files();
        Self { view: store.read_view(), pin }
    }

    /// All records of a kind, by name.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub fn records(&self, kind: RecordKind) -> Result<Vec<(String, Vec<u8>)>> {
        self.view.records(kind)
    }

    /// The segments of a table, but for those of owners whose files may be on their way out.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub fn segments_of(&self, table: &TableMeta, is_gone: &dyn Fn(&Owner) -> bool) -> Result<Vec<BackedSegment>> {
        let mut found = Vec::new();
        for owner in self.view.flushed_owners(table.id)? {
            if is_gone(&owner) {
                continue;
            }
            let Some(manifest) = self.view.manifest(&PartitionKey { table: table.id, owner })? else { continue };
            found.extend(
                manifest
                    .segments()
                    .iter()
                    .map(|entry| BackedSegment { storage: entry.meta.storage(table).clone(), entry: entry.clone() }),
            );
        }
        Ok(found)
    }

    /// Files may be removed from here on; nothing of the segments is read any more.
    pub fn release_files(self) {
        drop(self.pin);
    }

    fn number(&self, record: &str) -> Result<Option<Vec<u8>>> {
        let mut records = self.view.records(RecordKind::Store)?.into_iter();
        Ok(records.find(|(name, _)| name == record).map(|(_, value)| value))
    }
}

impl BackupWriter {
    /// Copies all keyspaces. Of the records, those that `keeps` wants: kind, name and value.
    ///
    /// # Errors
    /// `BACKUP_FAILED`, `STORAGE_UNAVAILABLE`, what `step` says.
    pub fn copy_keyspaces(
        &mut self,
        moment: &BackupMoment,
        keeps: &dyn Fn(RecordKind, &[u8]) -> bool,
        step: Step<'_>,
    ) -> Result<()> {
        for (name, keyspace) in &moment.view.all_keyspaces() {
            let path = format!("{KEYSPACES}/{name}");
            let fault = |error: io::Error| unwritable(&self.target.place, format!("{path}: {error}"));
            let file = SummedFile::create(&self.target.partial.join(&path)).map_err(fault)?;
            let mut writer = EntryWriter::new(file).map_err(fault)?;
            let mut copied = 0;
            for guard in moment.view.entries(keyspace) {
                let (key, value) = guard.into_inner().map_err(storage_error)?;
                let kind = (name == "records").then(|| RecordKind::of_key(&key)).flatten();
                if kind.is_some_and(|kind| !keeps(kind, &value)) {
                    continue;
                }
                copied += (key.len() + value.len()) as u64;
                if writer.push(&key, &value).map_err(fault)? {
                    step(std::mem::take(&mut copied))?;
                }
            }
            step(copied)?;
            let (file, entries) = writer.finish().map_err(fault)?;
            let (bytes, checksum) = file.finish().map_err(fault)?;
            let content = Content::Keyspace { keyspace: name.clone(), entries };
            self.files.push(BackupFile { path, bytes, checksum, content });
        }
        Ok(())
    }

    /// Copies one segment byte for byte, and finds out whether it is what its manifest says.
    ///
    /// # Errors
    /// `SEGMENT_DAMAGED`, `COLD_STORAGE_UNAVAILABLE`, `BACKUP_FAILED`, what `step` says.
    pub async fn copy_segment(&mut self, store: &ColdStore, segment: &BackedSegment, step: Step<'_>) -> Result<()> {
        let meta = &segment.entry.meta;
        let path = format!("{SEGMENTS}/{}/{}", segment.storage, meta.path);
        let place = self.target.partial.join(&path);
        let fault = |error: io::Error| unwritable(&self.target.place, format!("{path}: {error}"));
        if let Some(folder) = place.parent() {
            files::make_folders(folder).map_err(fault)?;
        }
        let mut file = SummedFile::create(&place).map_err(fault)?;
        let object = ObjectPath::parse(&meta.path).map_err(|error| unavailable(&meta.path, &error))?;
        let mut from = 0;
        while from < meta.bytes {
            let end = meta.bytes.min(from + PIECE as u64);
            let piece = match store.objects().get_range(&object, from..end).await {
                Ok(piece) => piece,
                Err(object_store::Error::NotFound { .. }) => return Err(damaged(&meta.path, "the file is missing")),
                Err(error) => return Err(unavailable(&meta.path, &error)),
            };
            if piece.len() as u64 != end - from {
                return Err(damaged(&meta.path, "the file is shorter than its manifest says"));
            }
            file.write_all(&piece).map_err(fault)?;
            step(piece.len() as u64)?;
            from = end;
        }
        let (bytes, checksum) = file.finish_unsynced();
        if checksum != meta.checksum {
            return Err(damaged(&meta.path, "its checksum is not the one that its manifest says"));
        }
        let content = Content::Segment { storage: segment.storage.clone(), file: meta.path.clone() };
        self.files.push(BackupFile { path, bytes, checksum, content });
        Ok(())
    }

    /// Writes the index: from here on the folder aside is a whole backup. Durable.
    ///
    /// # Errors
    /// `BACKUP_FAILED`, `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub fn write_index(
        &mut self,
        moment: &BackupMoment,
        tables: &[Arc<TableMeta>],
        (created_at, made_by): (String, String),
    ) -> Result<BackupIndex> {
        let big_endian =
            |bytes: Option<Vec<u8>>| bytes.iter().flatten().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
        let mut heads = Vec::with_capacity(tables.len());
        for table in tables {
            let last_seq = moment.view.last_position(table)?;
            heads.push(TableHead { id: table.id, table: table.name.to_string(), last_seq });
        }
        let index = BackupIndex {
            backup_format: BACKUP_FORMAT,
            data_format: u32::try_from(big_endian(moment.number(FORMAT_RECORD)?)).map_err(Error::internal)?,
            server_version: env!("CARGO_PKG_VERSION").to_owned(),
            created_at,
            made_by,
            commits: big_endian(moment.number(COMMITS_RECORD)?),
            tables: heads,
            files: std::mem::take(&mut self.files),
        };
        let write = || -> io::Result<()> {
            index.write(&self.target.partial)?;
            files::sync_tree(&self.target.partial)
        };
        write().map_err(|error| unwritable(&self.target.place, at(&self.target.partial, &error)))?;
        Ok(index)
    }

    /// Gives the backup its name. Durable.
    ///
    /// # Errors
    /// `BACKUP_FAILED`.
    pub fn publish(self) -> Result<()> {
        let BackupTarget { place, partial } = &self.target;
        let publish = || -> io::Result<()> {
            // An empty folder of that name is replaced; one that is not empty any more is not.
            fs::rename(partial, place)?;
            place.parent().map_or(Ok(()), files::sync_folder)
        };
        publish().map_err(|error| unwritable(place, error))
    }
}

/// Given up before its end, nothing of it stays.
impl Drop for BackupWriter {
    fn drop(&mut self) {
        // Behind `publish` there is none. What can not be removed is no backup, and in the way of the next one only.
        let _ = files::remove_tree(&self.target.partial);
    }
}

fn damaged(path: &str, fault: &str) -> Error {
    Error::SegmentDamaged { path: path.to_owned(), fault: fault.to_owned() }
}

impl RecordKind {
    /// The kind of a key of `records`; `None` for one of a newer program.
    fn of_key(key: &[u8]) -> Option<Self> {
        RecordKind::ALL.iter().copied().find(|kind| key.first() == Some(&(*kind as u8)))
    }
}

impl ReadView {
    /// Owners that have a manifest of this table.
    fn flushed_owners(&self, table: crate::model::TableId) -> Result<Vec<Owner>> {
        let mut owners: Vec<Owner> = Vec::new();
        for guard in self.entries_below(&self.keyspaces().manifest, &keys::table_prefix(table)) {
            let key = guard.key().map_err(storage_error)?;
            let owner = keys::owner_of(&key).ok_or_else(|| Error::internal("a damaged key of a manifest"))?;
            if owners.last() != Some(&owner) {
                owners.push(owner);
            }
        }
        Ok(owners)
    }
}
