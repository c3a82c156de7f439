//! Brings a backup beside the data of a folder: checked first, loaded, checked again by opening it, then marked.
//!
//! Owns `<data>/restore`: `new/` is what takes the place of the data folder's content at the next start, `ready.json` says
//! that it is whole. Up to that mark it is a leftover, which the next start removes.
//! Never touches anything else in the data folder. Blocks on the disk.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Write as _};
use std::path::{Path, PathBuf};

use super::entries::EntryReader;
use super::files::{self, SummedFile};
use super::index::{BackupFile, BackupIndex};
use super::swap::{Marker, READY_FILE, RESTORE_FOLDER, is_ours};
use super::write::Step;
use super::{INCOMING_FOLDER, at, unreadable};
use crate::error::{Error, Result};
use crate::model::{Owner, PartitionKey, StorageKind, StorageMeta, TableMeta};
use crate::storage::records::RecordKind;
use crate::storage::store::{OpenError, Store};

/// In `<data>/restore`.
pub(super) const NEW_FOLDER: &str = "new";

/// It is filled once and read once.
const CACHE_BYTES: u64 = 8 << 20;

/// What a backup says of itself, once every file of it is there and has its size and checksum.
///
/// # Errors
/// `BACKUP_FAILED`, what `step` says.
pub fn check_backup(folder: &Path, step: Step<'_>) -> Result<BackupIndex> {
    let index = BackupIndex::read(folder)?;
    for file in &index.files {
        let path = folder.join(&file.path);
        let length = fs::metadata(&path).map_err(|error| file.fault(folder, error))?.len();
        if length != file.bytes {
            return Err(file.fault(folder, format!("it has {length} bytes; {} were written", file.bytes)));
        }
        let each = |piece: &[u8]| step(piece.len() as u64).map_err(Fault::Step);
        let (_, checksum) = files::sum_up(&path, each).map_err(|fault| fault.of(folder, file))?;
        if checksum != file.checksum {
            return Err(file.fault(folder, "it is damaged: its checksum is another"));
        }
    }
    Ok(index)
}

/// A backup on its way into a data folder. Dropped before its mark, nothing of it stays.
pub struct StagedBackup<'a> {
    from: &'a Path,
    index: &'a BackupIndex,
    data: &'a Path,
    new: PathBuf,
    /// No start takes it for a leftover while this is held.
    _held: File,
    is_ready: bool,
}

impl<'a> StagedBackup<'a> {
    /// Makes room for it: what an earlier restore brought goes, its mark first.
    ///
    /// # Errors
    /// `BACKUP_FAILED`.
    pub fn begin(from: &'a Path, index: &'a BackupIndex, data: &'a Path) -> Result<Self> {
        let restore = data.join(RESTORE_FOLDER);
        let new = restore.join(NEW_FOLDER);
        let make = || -> io::Result<File> {
            if restore.exists() && !is_ours(&restore)? {
                return Err(io::Error::other("something else is in it"));
            }
            match fs::remove_file(restore.join(READY_FILE)) {
                Ok(()) => files::sync_folder(&restore)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            files::remove_tree(&restore)?;
            files::make_folders(&new)?;
            let held = File::open(&restore)?;
            held.try_lock()?;
            Ok(held)
        };
        let held = make().map_err(|error| unreadable(from, at(&restore, &error)))?;
        Ok(Self { from, index, data, new, _held: held, is_ready: false })
    }

    /// Puts the keyspaces' entries into a store of their own. Durable.
    ///
    /// # Errors
    /// `BACKUP_FAILED`, what `step` says.
    pub fn load_keyspaces(&self, step: Step<'_>) -> Result<()> {
        let store = Store::open(&self.new, CACHE_BYTES).map_err(|error| self.fault(error))?.0;
        for (file, keyspace, _) in self.index.keyspaces() {
            let fault = |error: io::Error| file.fault(self.from, error);
            // Also where no entry comes: a bucket may be empty.
            store.load(keyspace, Vec::new()).map_err(|error| self.fault(error))?;
            let open = File::open(self.from.join(&file.path)).map_err(fault)?;
            let mut reader = EntryReader::open(BufReader::new(open), file.bytes).map_err(fault)?;
            while let Some(mut block) = reader.next_block().map_err(fault)? {
                let mut entries = Vec::new();
                let mut bytes = 0;
                while let Some((key, value)) = block.next_entry().map_err(fault)? {
                    bytes += (key.len() + value.len()) as u64;
                    entries.push((key.to_vec(), value.to_vec()));
                }
                store.load(keyspace, entries).map_err(|error| self.fault(error))?;
                step(bytes)?;
            }
        }
        store.sync_all().map_err(|error| self.fault(error))
    }

    /// Puts the segments of storages in the data folder into their places, and the others aside, from where the next start
    /// brings them into their storages.
    ///
    /// # Errors
    /// `BACKUP_FAILED`, what `step` says.
    pub fn place_segments(&self, step: Step<'_>) -> Result<()> {
        let storages = self.storages()?;
        for (file, storage, path) in self.index.segments() {
            let unknown = || file.fault(self.from, format!("there is no storage '{storage}' in the backup"));
            let folder = match inside(storages.get(storage.as_str()).ok_or_else(unknown)?) {
                Some(base) => self.new.join(base),
                None => self.new.join(INCOMING_FOLDER).join(storage.as_str()),
            };
            self.copy(file, &folder.join(path), step)?;
        }
        files::sync_tree(&self.new).map_err(|error| self.fault(at(&self.new, &error)))
    }

    fn copy(&self, file: &BackupFile, place: &Path, step: Step<'_>) -> Result<()> {
        let copy = || -> Result<_, Fault> {
            if let Some(folder) = place.parent() {
                files::make_folders(folder)?;
            }
            let mut copy = SummedFile::create(place)?;
            files::sum_up(&self.from.join(&file.path), |piece| {
                copy.write_all(piece)?;
                step(piece.len() as u64).map_err(Fault::Step)
            })?;
            Ok(copy.finish_unsynced())
        };
        let copied = copy().map_err(|fault| fault.of(self.from, file))?;
        if copied == (file.bytes, file.checksum) {
            return Ok(());
        }
        Err(file.fault(self.from, "it changed while it was read"))
    }

    /// Opens what was loaded: are all entries there, and is each segment that a manifest names one of the backup's?
    ///
    /// # Errors
    /// `BACKUP_FAILED`.
    pub fn verify(&self, is_gone: &dyn Fn(&Owner) -> bool) -> Result<()> {
        let store = self.open()?;
        let sizes = store.keyspace_sizes();
        for (file, keyspace, entries) in self.index.keyspaces() {
            let found = sizes.iter().find(|size| size.name == keyspace);
            let found = found.ok_or_else(|| file.fault(self.from, "this program knows no such keyspace"))?;
            let found = found.entries.clone().map_err(|error| self.fault(error))?;
            if found != entries {
                return Err(file.fault(self.from, format!("{found} of its {entries} entries are there once loaded")));
            }
        }
        if self.index.keyspaces().count() != sizes.len() {
            return Err(self.fault("a keyspace is missing"));
        }
        let files: HashMap<_, _> =
            self.index.segments().map(|(file, storage, path)| ((storage, path), (file.bytes, file.checksum))).collect();
        let view = store.read_view();
        for table in self.tables(&store)? {
            for owner in store.owners_of(table.id)?.into_iter().filter(|owner| !is_gone(owner)) {
                let Some(manifest) = view.manifest(&PartitionKey { table: table.id, owner })? else { continue };
                for segment in manifest.segments() {
                    let meta = &segment.meta;
                    if files.get(&(meta.storage(&table), meta.path.as_str())) != Some(&(meta.bytes, meta.checksum)) {
                        return Err(self.fault(format!("it lacks the segment {} of {}", meta.path, table.name)));
                    }
                }
            }
        }
        Ok(())
    }

    /// What is going to be the records of a kind, by name.
    ///
    /// # Errors
    /// `BACKUP_FAILED`, `STORAGE_UNAVAILABLE`.
    pub fn records(&self, kind: RecordKind) -> Result<Vec<(String, Vec<u8>)>> {
        self.open()?.records(kind)
    }

    /// Says that it is whole: the next start takes it. `used`: folders that storages have in the data folder today.
    /// Durable.
    ///
    /// # Errors
    /// `BACKUP_FAILED`.
    pub fn mark_ready(mut self, used: Vec<String>, replaced: &str, now: String) -> Result<PathBuf> {
        let mut new = vec!["hot".to_owned()];
        let storages = self.storages()?;
        new.extend(storages.values().filter_map(|meta| inside(meta).map(ToOwned::to_owned)));
        new.push(INCOMING_FOLDER.to_owned());
        new.retain(|path| self.new.join(path).exists());
        let marker = Marker::new(self.from, self.index.created_at.clone(), now, (used, new), self.data, replaced);
        let mark = marker.and_then(|marker| {
            marker.write(self.data)?;
            Ok(self.data.join(marker.replaced))
        });
        let replaced = mark.map_err(|error| self.fault(error))?;
        self.is_ready = true;
        Ok(replaced)
    }

    fn storages(&self) -> Result<HashMap<String, StorageMeta>> {
        let decode = |(id, json): (String, Vec<u8>)| match serde_json::from_slice(&json) {
            Ok(meta) => Ok((id, meta)),
            Err(error) => Err(self.fault(format!("the record of storage '{id}' is not readable: {error}"))),
        };
        self.records(RecordKind::Storage)?.into_iter().map(decode).collect()
    }

    fn tables(&self, store: &Store) -> Result<Vec<TableMeta>> {
        let decode = |(id, json): (String, Vec<u8>)| {
            serde_json::from_slice(&json)
                .map_err(|error| self.fault(format!("the record of table {id} is not readable: {error}")))
        };
        store.records(RecordKind::Table)?.into_iter().map(decode).collect()
    }

    fn open(&self) -> Result<std::sync::Arc<Store>> {
        let opened: Result<_, OpenError> = Store::open_as_is(&self.new, CACHE_BYTES);
        opened.map(|(store, _)| store).map_err(|error| self.fault(error))
    }

    fn fault(&self, fault: impl std::fmt::Display) -> Error {
        unreadable(self.from, fault)
    }
}

impl Drop for StagedBackup<'_> {
    fn drop(&mut self) {
        if !self.is_ready {
            // What stays is removed by the next start.
            let _ = files::remove_tree(&self.data.join(RESTORE_FOLDER));
        }
    }
}

/// The folder of a storage that lies in the data folder.
pub(super) fn inside(meta: &StorageMeta) -> Option<&str> {
    (meta.kind == StorageKind::Filesystem && files::goes_down(&meta.base)).then_some(meta.base.as_str())
}

/// What can end the reading of a file.
enum Fault {
    Io(io::Error),
    Step(Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Fault::Io(error)
    }
}

impl Fault {
    fn of(self, folder: &Path, file: &BackupFile) -> Error {
        match self {
            Fault::Io(error) => file.fault(folder, error),
            Fault::Step(error) => error,
        }
    }
}
