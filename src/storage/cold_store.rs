//! One storage of cold files: a folder, or a bucket behind the same trait.
//!
//! Owns the way of a file to its place: written aside first, then published as a whole or not at all.
//! Never knows what is in a file, and never overwrites a segment: their names are used once.
//!
//! In a folder: `<name>.tmp` beside its place, fsync of the file, rename, fsync of the folder and of those above it. object_store's
//! own local writer does not fsync. Files that are put in their places together share most of what the disk does for one:
//! the file system's journal is committed for the first of them. In a bucket: the file is written to a local spool first, so that memory stays bounded whatever its
//! size, then uploaded; an object appears when its upload completes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};
use crate::failpoint;

/// The end of a file's name that is not in its place yet.
pub const TEMPORARY: &str = ".tmp";

/// Larger than the least that S3 takes (5 MiB), small enough to hold.
const UPLOAD_PART: u64 = 8 << 20;
/// Files of one call that are on their way to a bucket at the same time: each holds a part in memory.
const UPLOADS: usize = 4;

pub struct ColdStore {
    objects: Arc<dyn ObjectStore>,
    place: Place,
}

enum Place {
    Folder(PathBuf),
    Bucket { spool: PathBuf },
}

impl std::fmt::Debug for ColdStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ColdStore({})", self.objects)
    }
}

/// A file in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile {
    /// Relative to the store's base.
    pub path: String,
    pub bytes: u64,
}

impl ColdStore {
    /// A store in a local folder, made if it is not there.
    ///
    /// # Errors
    /// `COLD_STORAGE_UNAVAILABLE`.
    pub fn folder(base: &Path) -> Result<Self> {
        fs::create_dir_all(base).map_err(|e| unavailable(&base.display(), &e))?;
        Self::existing_folder(base)
    }

    /// The same in a folder that is there.
    ///
    /// # Errors
    /// `COLD_STORAGE_UNAVAILABLE`.
    pub fn existing_folder(base: &Path) -> Result<Self> {
        let fault = |e: &dyn std::fmt::Display| unavailable(&base.display(), e);
        let base = fs::canonicalize(base).map_err(|e| fault(&e))?;
        let objects = LocalFileSystem::new_with_prefix(&base).map_err(|e| fault(&e))?;
        Ok(Self { objects: Arc::new(objects), place: Place::Folder(base) })
    }

    /// A store behind `objects`. `spool` is a local folder for files on their way; what a crash left there may be removed.
    ///
    /// # Errors
    /// `COLD_STORAGE_UNAVAILABLE` where the spool can not be made.
    pub fn bucket(objects: Arc<dyn ObjectStore>, spool: &Path) -> Result<Self> {
        fs::create_dir_all(spool).map_err(|e| unavailable(&spool.display(), &e))?;
        Ok(Self::bucket_to_read(objects, spool))
    }

    /// The same without a spool: nothing can be written.
    pub fn bucket_to_read(objects: Arc<dyn ObjectStore>, spool: &Path) -> Self {
        Self { objects, place: Place::Bucket { spool: spool.to_owned() } }
    }

    /// Where it is, if it is a folder.
    pub(super) fn base(&self) -> Option<&Path> {
        match &self.place {
            Place::Folder(base) => Some(base),
            Place::Bucket { .. } => None,
        }
    }

    /// For reading. Writes go through [`ColdStore::draft`] and [`ColdStore::replace`].
    pub fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// Opens a file that is going to be at `path`. Blocks on the disk.
    ///
    /// # Errors
    /// `COLD_STORAGE_UNAVAILABLE`.
    pub fn draft(&self, path: &str) -> Result<Draft> {
        let aside = match &self.place {
            Place::Folder(base) => base.join(format!("{path}{TEMPORARY}")),
            Place::Bucket { spool } => spool.join(format!("{:016x}{TEMPORARY}", xxh3_64(path.as_bytes()))),
        };
        let open = || -> io::Result<File> {
            if let (Place::Folder(base), Some(folder)) = (&self.place, Path::new(path).parent()) {
                fs::create_dir_all(base.join(folder))?;
            }
            File::create(&aside)
        };
        let file = open().map_err(|e| unavailable(&path, &e))?;
        Ok(Draft { path: path.to_owned(), aside, file: Some(file), written: 0, begun: 0 })
    }

    /// Puts a finished draft in its place. Blocks on the disk where the store is a folder.
    ///
    /// When this returns, the file is durable and visible; before, a crash leaves at most the draft, which nobody reads.
    ///
    /// # Errors
    /// `COLD_STORAGE_UNAVAILABLE`: the file is not in its place, and may be tried again with a new draft.
    pub async fn publish(&self, draft: Draft) -> Result<()> {
        self.publish_all(vec![draft]).await.pop().unwrap_or(Ok(()))
    }

    /// The same for several; answers for each, in their order.
    pub async fn publish_all(&self, drafts: Vec<Draft>) -> Vec<Result<()>> {
        match &self.place {
            Place::Folder(base) => put_all(base, drafts),
            Place::Bucket { .. } => {
                let uploads = drafts.iter().map(|draft| self.upload(draft));
                futures_util::stream::iter(uploads).buffered(UPLOADS).collect().await
            }
        }
    }

    async fn upload(&self, draft: &Draft) -> Result<()> {
        let fault = |e: &dyn std::fmt::Display| unavailable(&draft.path, e);
        let place = object_path(&draft.path)?;
        let mut file = File::open(&draft.aside).map_err(|e| fault(&e))?;
        let mut next = || -> Result<Bytes> {
            let mut part = Vec::new();
            (&mut file).take(UPLOAD_PART).read_to_end(&mut part).map_err(|e| fault(&e))?;
            Ok(part.into())
        };
        let first = next()?;
        if (first.len() as u64) < UPLOAD_PART {
            return self.objects.put(&place, first.into()).await.map(|_| ()).map_err(|e| fault(&e));
        }
        let mut upload = self.objects.put_multipart(&place).await.map_err(|e| fault(&e))?;
        let mut part = first;
        while !part.is_empty() {
            if let Err(e) = upload.put_part(part.into()).await {
                // What was uploaded costs money until it is given up; that the store is away is what the caller is told.
                let _ = upload.abort().await;
                return Err(fault(&e));
            }
            part = next()?;
        }
        upload.complete().await.map(|_| ()).map_err(|e| fault(&e))
    }

    /// Writes a small file as a whole, in place of what was there: a reader sees the old one or the new one.
    ///
    /// # Errors
    /// `COLD_STORAGE_UNAVAILABLE`.
    pub async fn replace(&self, path: &str, content: &[u8]) -> Result<()> {
        let mut draft = self.draft(path)?;
        draft.write_all(content).map_err(|e| unavailable(&path, &e))?;
        self.publish(draft).await
    }

    /// The same, durable some time later: for a copy of what is durable elsewhere. After a power loss the old one may be there, or none.
    ///
    /// # Errors
    /// `COLD_STORAGE_UNAVAILABLE`.
    pub async fn replace_copy(&self, path: &str, content: &[u8]) -> Result<()> {
        let mut draft = self.draft(path)?;
        draft.write_all(content).map_err(|e| unavailable(&path, &e))?;
        match &self.place {
            Place::Folder(base) => fs::rename(&draft.aside, base.join(path)).map_err(|e| unavailable(&path, &e)),
            Place::Bucket { .. } => self.upload(&draft).await,
        }
    }

    /// Removes a file; one that is not there is removed already.
    ///
    /// # Errors
    /// `COLD_STORAGE_UNAVAILABLE`.
    pub async fn remove(&self, path: &str) -> Result<()> {
        match self.objects.delete(&object_path(path)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(unavailable(&path, &e)),
        }
    }

    /// Removes a folder and those above it, as far as they are empty. Only for a partition into which nothing is written.
    pub fn remove_empty_folders(&self, folder: &str) {
        if let Place::Folder(base) = &self.place {
            let mut folder = base.join(folder);
            while folder.starts_with(base) && folder != *base && fs::remove_dir(&folder).is_ok() {
                folder.pop();
            }
        }
    }

    /// A small file's content; `None` where there is none.
    ///
    /// # Errors
    /// `COLD_STORAGE_UNAVAILABLE`.
    pub async fn content(&self, path: &str) -> Result<Option<Bytes>> {
        let found = match self.objects.get(&object_path(path)?).await {
            Ok(found) => found.bytes().await,
            Err(e) => Err(e),
        };
        match found {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(unavailable(&path, &e)),
        }
    }

    /// The files in a folder and below it, drafts included.
    ///
    /// # Errors
    /// `COLD_STORAGE_UNAVAILABLE`, as an item.
    pub fn list(&self, folder: &str) -> BoxStream<'static, Result<StoredFile>> {
        let prefix = match object_path(folder) {
            Ok(prefix) => prefix,
            Err(e) => return futures_util::stream::iter([Err(e)]).boxed(),
        };
        let folder = folder.to_owned();
        let found = self.objects.list(Some(&prefix));
        let file = move |found: object_store::Result<object_store::ObjectMeta>| match found {
            Ok(meta) => Ok(StoredFile { path: meta.location.to_string(), bytes: meta.size }),
            Err(e) => Err(unavailable(&folder, &e)),
        };
        found.map(file).boxed()
    }
}

/// A file on its way. Dropped unpublished, it is removed.
#[derive(Debug)]
pub struct Draft {
    path: String,
    aside: PathBuf,
    file: Option<File>,
    /// Bytes written, and those of them that are on their way to the disk.
    written: u64,
    begun: u64,
}

/// Bytes that are sent on their way together.
const WRITE_OUT: u64 = 1 << 20;

impl Draft {
    /// Where it is going to be.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Has the system begin to write out what was written, and does not wait: at the end of a large file, an fsync of all of it at once
    /// would have the commits' fsyncs wait behind it. (What is not written yet is not dropped from memory by the advice.) It is
    /// only advice.
    fn begin_write_out(&mut self) {
        if let (Some(file), Some(bytes)) = (&self.file, NonZeroU64::new(self.written - self.begun)) {
            let _ = rustix::fs::fadvise(file, self.begun, Some(bytes), rustix::fs::Advice::DontNeed);
        }
        self.begun = self.written;
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.take().map_or(Ok(()), |file| file.sync_all())
    }
}

/// Puts drafts in their places in a folder, step by step for all of them.
fn put_all(base: &Path, mut drafts: Vec<Draft>) -> Vec<Result<()>> {
    // All are on their way before the first is waited for.
    drafts.iter_mut().for_each(Draft::begin_write_out);
    let synced = drafts.iter_mut().map(Draft::sync).collect::<Vec<_>>();
    failpoint::pass("cold_synced");
    let rename = |draft: &Draft| fs::rename(&draft.aside, base.join(&draft.path));
    let renamed =
        drafts.iter().zip(synced).map(|(draft, synced)| synced.and_then(|()| rename(draft))).collect::<Vec<_>>();
    failpoint::pass("cold_renamed");
    // Without this, a power loss could take the names away again, and those of folders that are new.
    let mut folders: BTreeMap<PathBuf, io::Result<()>> = BTreeMap::new();
    let mut sync_folders = |path: &str| {
        let mut above = Path::new(path).ancestors().skip(1).map(|folder| base.join(folder));
        above.try_for_each(|folder| {
            let synced = folders.entry(folder).or_insert_with_key(|folder| File::open(folder)?.sync_all());
            synced.as_ref().map_err(|e| unavailable(&path, e)).copied()
        })
    };
    let outcomes = drafts.iter().zip(renamed);
    let finish = |(draft, renamed): (&Draft, io::Result<()>)| match renamed {
        Ok(()) => sync_folders(&draft.path),
        Err(e) => Err(unavailable(&draft.path, &e)),
    };
    outcomes.map(finish).collect()
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.file {
            Some(file) => {
                let taken = file.write(bytes)?;
                self.written += taken as u64;
                if self.written - self.begun >= WRITE_OUT {
                    self.begin_write_out();
                }
                Ok(taken)
            }
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After a rename there is nothing by this name.
        let _ = fs::remove_file(&self.aside);
    }
}

pub(super) fn object_path(path: &str) -> Result<ObjectPath> {
    ObjectPath::parse(path).map_err(|e| unavailable(&path, &e))
}

pub(super) fn unavailable(path: &dyn std::fmt::Display, fault: &dyn std::fmt::Display) -> Error {
    Error::ColdUnavailable { path: path.to_string(), fault: fault.to_string() }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;
    use object_store::memory::InMemory;

    use super::*;

    fn stores(folder: &Path) -> [ColdStore; 2] {
        let bucket = ColdStore::bucket(Arc::new(InMemory::new()), &folder.join("spool")).unwrap();
        [ColdStore::folder(&folder.join("cold")).unwrap(), bucket]
    }

    async fn paths(store: &ColdStore, folder: &str) -> Vec<String> {
        let mut files: Vec<String> = store.list(folder).map_ok(|file| file.path).try_collect().await.unwrap();
        files.sort();
        files
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            names.push(entry.unwrap().file_name().into_string().unwrap());
        }
        names
    }

    #[tokio::test]
    async fn a_file_is_there_as_a_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        for store in stores(folder.path()) {
            let mut draft = store.draft("a/b/1.parquet").unwrap();
            draft.write_all(b"one").unwrap();
            assert_eq!(store.content("a/b/1.parquet").await.unwrap(), None, "a draft is not read");
            store.publish(draft).await.unwrap();
            let mut abandoned = store.draft("a/b/2.parquet").unwrap();
            abandoned.write_all(b"two").unwrap();
            drop(abandoned);
            assert_eq!(store.content("a/b/1.parquet").await.unwrap().as_deref(), Some(&b"one"[..]));
            assert_eq!(paths(&store, "a").await, ["a/b/1.parquet"]);
        }
        assert_eq!(names(&folder.path().join("cold/a/b")), ["1.parquet"]);
        assert!(names(&folder.path().join("spool")).is_empty());
    }

    #[tokio::test]
    async fn replaces_and_removes() {
        let folder = tempfile::tempdir().unwrap();
        for store in stores(folder.path()) {
            store.replace("a/manifest.json", b"{}").await.unwrap();
            store.replace("a/manifest.json", b"{\"x\":1}").await.unwrap();
            assert_eq!(store.content("a/manifest.json").await.unwrap().as_deref(), Some(&b"{\"x\":1}"[..]));
            store.remove("a/manifest.json").await.unwrap();
            store.remove("a/manifest.json").await.unwrap();
            assert!(paths(&store, "").await.is_empty());
            store.remove_empty_folders("a");
        }
        assert!(names(&folder.path().join("cold")).is_empty(), "the empty folder went, the base stayed");
    }

    #[tokio::test]
    async fn a_large_file_is_uploaded_in_parts() {
        let folder = tempfile::tempdir().unwrap();
        let [_, bucket] = stores(folder.path());
        let content: Vec<u8> = (0..UPLOAD_PART * 2 + 5).map(|i| (i % 251) as u8).collect();
        bucket.replace("big", &content).await.unwrap();
        assert!(bucket.content("big").await.unwrap().unwrap() == content);
    }

    #[tokio::test]
    async fn a_place_that_can_not_be_written_says_so() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "").unwrap();
        let error = ColdStore::folder(&folder.path().join("file")).unwrap_err();
        assert!(matches!(error, Error::ColdUnavailable { .. }), "{error}");
        let store = ColdStore::folder(&folder.path().join("cold")).unwrap();
        store.replace("a", b"a file where a folder should be").await.unwrap();
        let error = store.draft("a/1.parquet").unwrap_err();
        assert!(error.to_string().contains("a/1.parquet"), "{error}");
        let error = store.content("a/../../x").await.unwrap_err();
        assert!(matches!(error, Error::ColdUnavailable { .. }), "a path never leads out: {error}");
    }
}
