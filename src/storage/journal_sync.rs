//! Syncing the journal beside the commits.
//!
//! Owns the fdatasync that buffered commits are waiting for. fjall's own holds the journal's lock while the disk works:
//! nobody could commit meanwhile, and under load that was every fourth moment. So this one syncs the same file through
//! a descriptor of its own, without the lock ([ADR 26](../../docs/adr/0026-sync-beside-commits.md)).
//! Knows of fjall that its journals are `<number>.jnl`, that the newest is the one written to, and that each was synced
//! as a whole before its successor was made.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Makes buffered appends as durable as [`Durability::Sync`](crate::model::Durability) ones, on a thread of its own.
pub trait LogSync: Send {
    /// When this returns, every append that had returned when it was called is durable.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`: nothing may be appended any more, as [`super::CommitLog::append`].
    fn sync(&mut self) -> Result<()>;
}

/// How far the commits have come: written by the log, read by its sync.
#[derive(Debug)]
pub(super) struct Progress {
    appended: AtomicU64,
    durable: AtomicU64,
    /// Holds the number of a commit known to be durable. A hint: it is written without fsync, always late.
    mark: Option<File>,
}

impl Progress {
    pub(super) fn new(commits: u64, mark: &Path) -> Self {
        let mark = OpenOptions::new().create(true).truncate(false).write(true).open(mark);
        let mark = mark.inspect_err(|error| tracing::warn!(%error, "commits.mark can not be written")).ok();
        Self { appended: AtomicU64::new(commits), durable: AtomicU64::new(commits), mark }
    }

    pub(super) fn append(&self, commit: u64) {
        self.appended.store(commit, Ordering::SeqCst);
    }

    /// `commit` and all before it are durable.
    pub(super) fn sync(&self, commit: u64) {
        self.durable.fetch_max(commit, Ordering::SeqCst);
    }

    pub(super) fn write_mark(&self) -> bool {
        let durable = self.durable.load(Ordering::SeqCst);
        self.mark.as_ref().is_some_and(|mark| mark.write_all_at(&durable.to_be_bytes(), 0).is_ok())
    }
}

/// [`LogSync`] for fjall's journal.
pub struct JournalSync {
    folder: PathBuf,
    progress: Arc<Progress>,
    open: Option<(u64, File)>,
}

impl JournalSync {
    pub(super) fn new(folder: PathBuf, progress: Arc<Progress>) -> Self {
        Self { folder, progress, open: None }
    }

    /// The journal that is written to. One that was newest a moment ago may be gone; then a newer one is there.
    fn newest(&mut self) -> io::Result<&File> {
        let number = newest_journal(&self.folder)?;
        if self.open.as_ref().is_none_or(|(open, _)| *open != number) {
            self.open = Some((number, open(&self.folder, number)?));
        }
        match &self.open {
            Some((_, file)) => Ok(file),
            None => Err(ErrorKind::NotFound.into()),
        }
    }
}

fn open(folder: &Path, mut number: u64) -> io::Result<File> {
    loop {
        match File::open(folder.join(format!("{number}.jnl"))) {
            Err(error) if error.kind() == ErrorKind::NotFound && newest_journal(folder)? > number => {
                number = newest_journal(folder)?;
            }
            outcome => return outcome,
        }
    }
}

fn newest_journal(folder: &Path) -> io::Result<u64> {
    let mut newest = None;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".jnl")).and_then(|number| number.parse().ok());
        newest = newest.max(number);
    }
    newest.ok_or_else(|| io::Error::new(ErrorKind::NotFound, "no journal"))
}

impl LogSync for JournalSync {
    fn sync(&mut self) -> Result<()> {
        let progress = self.progress.clone();
        let appended = progress.appended.load(Ordering::SeqCst);
        if appended > progress.durable.load(Ordering::SeqCst) {
            self.newest().and_then(File::sync_data).map_err(|error| {
                tracing::error!(%error, "fdatasync failed");
                Error::StorageUnavailable
            })?;
            progress.sync(appended);
        }
        progress.write_mark();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journals(numbers: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for number in numbers {
            fs::write(folder.path().join(number), "").unwrap();
        }
        folder
    }

    #[test]
    fn the_newest_journal_is_the_one_with_the_greatest_number() {
        let folder = journals(&["9.jnl", "10.jnl", "x.jnl", "12", "lock"]);
        assert_eq!(newest_journal(folder.path()).unwrap(), 10);
        let mut sync = JournalSync::new(folder.path().to_owned(), progress(&folder));
        sync.newest().unwrap();
        fs::write(folder.path().join("11.jnl"), "").unwrap();
        sync.newest().unwrap();
        assert_eq!(sync.open.map(|(number, _)| number), Some(11));
    }

    fn progress(folder: &tempfile::TempDir) -> Arc<Progress> {
        Arc::new(Progress::new(0, &folder.path().join("commits.mark")))
    }

    #[test]
    fn a_sync_marks_what_was_appended_before_it_and_fails_without_a_journal() {
        let folder = journals(&["0.jnl"]);
        let progress = progress(&folder);
        let mark = || fs::read(folder.path().join("commits.mark")).unwrap();
        let mut sync = JournalSync::new(folder.path().to_owned(), progress.clone());
        progress.append(7);
        sync.sync().unwrap();
        assert_eq!(mark(), 7u64.to_be_bytes());
        fs::remove_file(folder.path().join("0.jnl")).unwrap();
        sync.sync().unwrap();
        progress.append(8);
        assert!(matches!(sync.sync(), Err(Error::StorageUnavailable)));
        assert_eq!(mark(), 7u64.to_be_bytes());
    }
}
