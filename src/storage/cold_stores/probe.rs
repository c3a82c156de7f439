//! Whether a storage works: a small file written, read, listed and removed.
//!
//! Owns what counts as working. Never waits longer than the store's own timeouts; whoever asks may give up before.

use bytes::Bytes;
use futures_util::TryStreamExt;
use rustix::fs::statvfs;

use crate::error::{Error, Result};
use crate::storage::cold_store::{ColdStore, unavailable};

/// Folder of the small files. No namespace is called so.
const CHECK_FOLDER: &str = "inboxdb-check";
const CONTENT: &[u8] = b"InboxDB looks whether it can write here. This file may be removed.";

/// What a storage can do, as was found out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreCheck {
    pub writable: bool,
    pub readable: bool,
    pub listable: bool,
    pub deletable: bool,
    /// The first thing that failed.
    pub error: Option<String>,
}

/// Of the file system that a folder is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskSpace {
    pub total_bytes: u64,
    pub used_bytes: u64,
}

impl StoreCheck {
    /// What is known of one that does not answer.
    pub fn unanswered(error: String) -> Self {
        Self { error: Some(error), ..Self::default() }
    }

    /// `healthy`: everything works; `unreachable`: nothing does.
    pub fn status(&self) -> &'static str {
        match (self.writable, self.readable, self.listable, self.deletable) {
            (true, true, true, true) => "healthy",
            (false, false, false, _) => "unreachable",
            _ => "degraded",
        }
    }

    fn note<T>(&mut self, what: &str, outcome: Result<T>) -> bool {
        if let Err(error) = &outcome {
            let fault = match error {
                Error::ColdUnavailable { fault, .. } => fault.clone(),
                other => other.to_string(),
            };
            self.error.get_or_insert(format!("{what}: {fault}"));
        }
        outcome.is_ok()
    }
}

impl ColdStore {
    /// Writes a small file and reads, lists and removes it. `name` is one that nobody has used.
    pub async fn check(&self, name: &str) -> StoreCheck {
        let path = format!("{CHECK_FOLDER}/{name}");
        let mut check = StoreCheck::default();
        let written = self.replace(&path, CONTENT).await;
        check.writable = check.note("write", written);
        // One that cannot be written may be read all the same; one that is away is asked both at once.
        let (read, listed) =
            futures_util::join!(self.reads_back(&path, check.writable), self.lists(&path, check.writable));
        check.readable = check.note("read", read);
        check.listable = check.note("list", listed);
        if check.writable {
            let removed = self.remove(&path).await;
            check.deletable = check.note("delete", removed);
            self.remove_empty_folders(CHECK_FOLDER);
        }
        check
    }

    /// How full the disk is; `None` for a bucket.
    pub fn disk_space(&self) -> Option<DiskSpace> {
        let space = statvfs(self.base()?).ok()?;
        let total_bytes = space.f_blocks.saturating_mul(space.f_frsize);
        let free = space.f_bfree.saturating_mul(space.f_frsize);
        Some(DiskSpace { total_bytes, used_bytes: total_bytes.saturating_sub(free) })
    }

    async fn reads_back(&self, path: &str, written: bool) -> Result<()> {
        let expected = written.then(|| Bytes::from_static(CONTENT));
        match self.content(path).await? == expected {
            true => Ok(()),
            false => Err(unavailable(&path, &"what was written is not what is read")),
        }
    }

    async fn lists(&self, path: &str, written: bool) -> Result<()> {
        let found: Vec<_> = self.list(CHECK_FOLDER).try_collect().await?;
        match found.iter().any(|file| file.path == path) == written {
            true => Ok(()),
            false => Err(unavailable(&path, &"the file that was written is not in the list")),
        }
    }
}
