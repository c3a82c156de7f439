//! Brings segments of a restored backup into storages that lie outside the data folder.
//!
//! Owns `<data>/incoming/<storage>/…`: a file goes from there when it is in its place. A crash leaves what is still to be
//! done. Never replaces a file that is what it should be.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use object_store::ObjectStoreExt as _;
use object_store::path::Path as ObjectPath;
use xxhash_rust::xxh3::Xxh3;

use super::files::{self, PIECE};
use super::{INCOMING_FOLDER, at, unreadable};
use crate::error::{Error, Result};
use crate::model::StorageId;
use crate::storage::cold_store::{ColdStore, unavailable};
use crate::storage::cold_stores::ColdStores;
use crate::storage::segment::Checksum;

/// Puts all of them where they belong; answers with how many there were. To be called before anything reads or removes a
/// segment. Blocks on the disk.
///
/// # Errors
/// `NOT_FOUND`, `COLD_STORAGE_UNAVAILABLE`, `BACKUP_FAILED`: what is not in its place yet is still there.
pub async fn put_back_incoming(data: &Path, stores: &ColdStores) -> Result<usize> {
    let incoming = data.join(INCOMING_FOLDER);
    if !incoming.is_dir() {
        return Ok(0);
    }
    let fault = |error: io::Error| unreadable(data, at(&incoming, &error));
    let mut count = 0;
    for folder in fs::read_dir(&incoming).map_err(fault)? {
        let folder = folder.map_err(fault)?.path();
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let store = stores.get(&StorageId::parse(name)?)?;
        for file in files_below(&folder).map_err(fault)? {
            let path = file.strip_prefix(&folder).map_err(Error::internal)?.to_string_lossy().into_owned();
            put_back(&store, &path, &file).await?;
            fs::remove_file(&file).map_err(fault)?;
            count += 1;
        }
    }
    files::remove_tree(&incoming).map_err(fault)?;
    Ok(count)
}

async fn put_back(store: &ColdStore, path: &str, file: &Path) -> Result<()> {
    let fault = |error: io::Error| unreadable(file, error);
    let wanted = files::sum_up(file, |_| Ok::<(), io::Error>(())).map_err(fault)?;
    if stored(store, path, wanted.0).await? == Some(wanted) {
        return Ok(());
    }
    let mut draft = store.draft(path)?;
    files::sum_up(file, |piece| draft.write_all(piece)).map_err(fault)?;
    store.publish(draft).await
}

/// Length and checksum of what is at `path`, if it has the length that is expected.
async fn stored(store: &ColdStore, path: &str, bytes: u64) -> Result<Option<(u64, Checksum)>> {
    let object = ObjectPath::parse(path).map_err(|error| unavailable(&path, &error))?;
    match store.objects().head(&object).await {
        Ok(found) if found.size == bytes => {}
        Ok(_) | Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(unavailable(&path, &error)),
    }
    let (mut sums, mut from) = (Xxh3::new(), 0);
    while from < bytes {
        let end = bytes.min(from + PIECE as u64);
        let piece = store.objects().get_range(&object, from..end).await.map_err(|error| unavailable(&path, &error))?;
        sums.update(&piece);
        from = end;
    }
    Ok(Some((bytes, Checksum(sums.digest()))))
}

fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.extend(files_below(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}
