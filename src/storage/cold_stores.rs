//! All storages of a database, opened when they are first used.
//!
//! Owns which of them are open, their compiled templates, and that no two of them lie in one another: a folder belongs to
//! one storage, one table and one owner.
//! Never knows what is in a file; never makes, changes or drops a storage: the catalog tells it, after that is durable.
//! Its errors never show a credential: whatever a client says passes [`masked`].
//! Start at [`ColdStores::get`].

mod masked;
mod probe;
mod remote;

use std::collections::HashMap;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use super::backup::{INCOMING_FOLDER, REPLACED_PREFIX, RESTORE_FOLDER};
use super::cold_store::{ColdStore, unavailable};
use super::path_template::PathTemplate;
use crate::config::RemoteTimeouts;
use crate::error::{Error, Result};
use crate::model::{Owner, StorageId, StorageKind, StorageMeta, TableKind, TableName};
use remote::Remote;

/// Runs the network side of remote stores on one runtime, whichever asks: the others have no reactor, and a connection
/// must not die with the thread that happened to open it.
pub use object_store::client::SpawnedReqwestConnector as RemoteIo;
pub use probe::{DiskSpace, StoreCheck};

/// Under the data folder: the built-in storage.
const LOCAL_FOLDER: &str = "cold";
/// Under the data folder: files on their way into a bucket.
const SPOOL_FOLDER: &str = "spool";

/// The storages there are. One per database.
pub struct ColdStores {
    data: PathBuf,
    /// Nothing is made where there is nothing.
    as_is: bool,
    remote: Remote,
    known: RwLock<HashMap<StorageId, Arc<Known>>>,
}

struct Known {
    meta: Arc<StorageMeta>,
    shared_template: PathTemplate,
    user_template: PathTemplate,
    opened: OnceLock<Arc<ColdStore>>,
}

impl ColdStores {
    /// Over a data folder; opens nothing. What a crash left on its way into a bucket is removed.
    pub fn new(data: &Path, timeouts: RemoteTimeouts, io: RemoteIo) -> Self {
        // Nobody reads it: at worst it takes room.
        let _ = fs::remove_dir_all(data.join(SPOOL_FOLDER));
        Self { data: data.to_owned(), as_is: false, remote: Remote::new(timeouts, io), known: RwLock::default() }
    }

    /// The same, to be looked at: nothing is removed, and no folder made.
    pub fn as_is(data: &Path, timeouts: RemoteTimeouts, io: RemoteIo) -> Self {
        Self { data: data.to_owned(), as_is: true, remote: Remote::new(timeouts, io), known: RwLock::default() }
    }

    /// The storage that every database has.
    pub fn local(now_us: i64) -> StorageMeta {
        StorageMeta {
            id: StorageId::local(),
            name: "Local".to_owned(),
            description: Some("The built-in storage, in the data folder".to_owned()),
            kind: StorageKind::Filesystem,
            base: LOCAL_FOLDER.to_owned(),
            config: Default::default(),
            credentials: Default::default(),
            shared_template: PathTemplate::default_of(TableKind::Shared).to_string(),
            user_template: PathTemplate::default_of(TableKind::User).to_string(),
            created_at: now_us,
            updated_at: now_us,
        }
    }

    /// Is this a storage that could be opened? Says so without asking the network.
    ///
    /// # Errors
    /// `INVALID_INPUT`: what is wrong with its templates, settings or credentials.
    pub fn check(meta: &StorageMeta) -> Result<()> {
        templates(meta)?;
        remote::check(meta)
    }

    /// The catalog has this storage from now on, in place of the one with its id. Files that are open stay so where the
    /// way to them is the same.
    ///
    /// # Errors
    /// `INVALID_INPUT` where a template is none.
    pub fn set(&self, meta: Arc<StorageMeta>) -> Result<()> {
        let (shared_template, user_template) = templates(&meta)?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let opened = match known.get(&meta.id) {
            Some(before) if before.meta.opens_like(&meta) => before.opened.clone(),
            _ => OnceLock::new(),
        };
        known.insert(meta.id.clone(), Arc::new(Known { meta, shared_template, user_template, opened }));
        Ok(())
    }

    /// The catalog has it no more.
    pub fn forget(&self, id: &StorageId) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// The storage, opened. Blocks on the disk the first time; asks no network.
    ///
    /// # Errors
    /// `NOT_FOUND`, `COLD_STORAGE_UNAVAILABLE`.
    pub fn get(&self, id: &StorageId) -> Result<Arc<ColdStore>> {
        let known = self.known(id)?;
        if let Some(store) = known.opened.get() {
            return Ok(store.clone());
        }
        // Two may get here at once: the first one's is kept, and both are the same.
        let store = self.open(&known.meta)?;
        Ok(known.opened.get_or_init(|| store).clone())
    }

    /// A storage that is not in the catalog, or not yet in this form: to be probed.
    ///
    /// # Errors
    /// `INVALID_INPUT`, `COLD_STORAGE_UNAVAILABLE`.
    pub fn open(&self, meta: &StorageMeta) -> Result<Arc<ColdStore>> {
        let store = match meta.kind {
            StorageKind::Filesystem if self.as_is => ColdStore::existing_folder(&self.folder(meta))?,
            StorageKind::Filesystem => ColdStore::folder(&self.folder(meta))?,
            StorageKind::S3 | StorageKind::Gcs | StorageKind::Azure => {
                let objects = self.remote.open(meta)?;
                let spool = self.data.join(SPOOL_FOLDER).join(meta.id.as_str());
                if self.as_is {
                    ColdStore::bucket_to_read(objects, &spool)
                } else {
                    ColdStore::bucket(objects, &spool)?
                }
            }
        };
        Ok(Arc::new(store))
    }

    /// The folder of one owner's files of a table, relative to the base of the table's storage.
    ///
    /// # Errors
    /// `NOT_FOUND`.
    pub fn folder_of(&self, storage: &StorageId, table: &TableName, owner: &Owner) -> Result<String> {
        let known = self.known(storage)?;
        let template = match owner {
            Owner::Shared => &known.shared_template,
            Owner::User(_) => &known.user_template,
        };
        Ok(template.folder(table, owner))
    }

    /// May `meta` be a storage beside `others`? Two in one place would write into each other's folders.
    ///
    /// # Errors
    /// `INVALID_INPUT`: with whom it would meet.
    pub fn check_place<'m>(
        &self,
        meta: &StorageMeta,
        others: impl IntoIterator<Item = &'m Arc<StorageMeta>>,
    ) -> Result<()> {
        for other in others {
            if other.id != meta.id && self.meet(meta, other) {
                let message = format!(
                    "Storage '{}' would lie in the place of storage '{}' ({}), or around it; choose another place",
                    meta.id, other.id, other.base
                );
                return Err(Error::InvalidInput(message));
            }
        }
        if meta.kind != StorageKind::Filesystem || meta.id.is_local() {
            return Ok(());
        }
        let (data, folder) = (settled(&self.data), settled(&self.folder(meta)));
        if data.starts_with(&folder) || (is_own(&data, &folder)) {
            let message = format!("'{}' is the database's own folder, or lies around it; choose another", meta.base);
            return Err(Error::InvalidInput(message));
        }
        Ok(())
    }

    /// Is a filesystem storage's folder there?
    pub fn has_folder(&self, meta: &StorageMeta) -> bool {
        self.folder(meta).is_dir()
    }

    fn meet(&self, a: &StorageMeta, b: &StorageMeta) -> bool {
        let (a_place, b_place) = match (a.kind, b.kind) {
            (StorageKind::Filesystem, StorageKind::Filesystem) => (settled(&self.folder(a)), settled(&self.folder(b))),
            (a_kind, b_kind) if a_kind == b_kind && remote::server(a) == remote::server(b) => {
                (PathBuf::from(&a.base), PathBuf::from(&b.base))
            }
            _ => return false,
        };
        a_place.starts_with(&b_place) || b_place.starts_with(&a_place)
    }

    fn folder(&self, meta: &StorageMeta) -> PathBuf {
        self.data.join(&meta.base)
    }

    fn known(&self, id: &StorageId) -> Result<Arc<Known>> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(id).cloned().ok_or_else(|| Error::NotFound(format!("Storage '{id}' not found")))
    }
}

/// A base directory as people write it: a folder's path without `..`, a bucket's URI with its usual scheme.
///
/// # Errors
/// `INVALID_INPUT`.
pub fn parse_base(kind: StorageKind, text: &str) -> Result<String> {
    if kind != StorageKind::Filesystem {
        return remote::parse_base(kind, text);
    }
    let fault = |why: &str| Err(Error::InvalidInput(format!("Invalid folder of a storage: {why}")));
    if text.is_empty() || text.contains('\0') {
        return fault("it is empty or holds NUL");
    }
    if text.contains("://") {
        return fault("it is a URI; say TYPE s3, gcs or azure");
    }
    let path = Path::new(text);
    if path.components().any(|part| part == Component::ParentDir) {
        return fault("'..' is not allowed");
    }
    let path: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
    match path.to_str() {
        Some("") | None => fault("it names no folder"),
        Some(path) => Ok(path.to_owned()),
    }
}

/// The templates of SHARED and of USER tables, compiled.
fn templates(meta: &StorageMeta) -> Result<(PathTemplate, PathTemplate)> {
    let shared = PathTemplate::parse(&meta.shared_template, TableKind::Shared)?;
    Ok((shared, PathTemplate::parse(&meta.user_template, TableKind::User)?))
}

/// Is `folder` one that the database keeps for itself?
fn is_own(data: &Path, folder: &Path) -> bool {
    // Everything in the data folder is, but for folders that are beside ours there.
    let mut inside = match folder.strip_prefix(data) {
        Ok(inside) => inside.components(),
        Err(_) => return false,
    };
    let first = inside.next().map(Component::as_os_str).and_then(|name| name.to_str());
    matches!(first, None | Some("hot" | LOCAL_FOLDER | SPOOL_FOLDER | "commits.mark" | "jwt.secret" | "exports"))
        || first
            .is_some_and(|name| name.starts_with(REPLACED_PREFIX) || [RESTORE_FOLDER, INCOMING_FOLDER].contains(&name))
}

/// The path without symbolic links, as far as it is there.
pub(super) fn settled(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for there in absolute.ancestors() {
        if let (Ok(real), Ok(rest)) = (fs::canonicalize(there), absolute.strip_prefix(there)) {
            // Joining an empty path would leave a slash at the end.
            return if rest.as_os_str().is_empty() { real } else { real.join(rest) };
        }
    }
    absolute
}

/// A fault of opening a storage, without its secrets.
fn refused(meta: &StorageMeta, fault: &dyn std::fmt::Display) -> Error {
    unavailable(&meta.base, &masked::Mask::of(&meta.credentials).over(&fault.to_string()))
}

#[cfg(test)]
pub(crate) mod tests;
