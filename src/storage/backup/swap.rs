//! Puts what a restore brought in the place of what a data folder holds, before anything is opened.
//!
//! Owns the mark that says it is to be done, and its order: for each path the old one goes aside, then the new one comes. Each
//! is one rename, and what is there says which of them were done, so that whoever is killed anywhere in it is followed by a
//! start that goes on. The mark goes last.
//! Never deletes what was there before: it is in `replaced-<UTC time>`.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::INCOMING_FOLDER;
use super::files;
use super::stage::NEW_FOLDER;
use crate::failpoint;

/// Under the data folder: what a restore brought.
pub const RESTORE_FOLDER: &str = "restore";
/// In it: what is to be done with it.
pub(super) const READY_FILE: &str = "ready.json";
const READY_ASIDE: &str = "ready.json.tmp";
/// What folders with replaced data begin with.
pub const REPLACED_PREFIX: &str = "replaced-";

/// What a database may have in its data folder beside the folders of storages. The secret of tokens goes, too: those made
/// for users who came after the backup must not be good for others of their names.
const OURS: &[&str] = &["hot", "commits.mark", "cold", "spool", "exports", INCOMING_FOLDER, "jwt.secret"];

/// Held by the process that has the store open.
const STORE_LOCK: &str = "hot/lock";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swapped {
    /// The backup, and of when it is.
    pub from: String,
    pub created_at: String,
    /// Where the data is that was there before, if there was any.
    pub replaced: Option<PathBuf>,
}

/// Why a restore is not finished. The next start tries again.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    #[error("the data folder {0} is in use by another process; stop that one first")]
    Locked(PathBuf),
    #[error(
        "a restore can not be finished: {path}: {source}; the next start goes on with it. What it brought is in the folder \
         'restore' of the data folder, what was there before in 'replaced-…'"
    )]
    Io { path: PathBuf, source: io::Error },
    #[error("a restore can not be finished: {0} is not readable: {1}")]
    Marker(PathBuf, String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marker {
    from: String,
    created_at: String,
    staged_at: String,
    /// A folder in the data folder.
    pub(super) replaced: String,
    /// Paths that go, if they are there.
    old: Vec<String>,
    /// Paths that come; all of them are in `old` as well.
    new: Vec<String>,
}

impl Marker {
    /// # Errors
    /// The data folder is spread over several file systems: nothing could be renamed.
    pub(super) fn new(
        from: &Path,
        created_at: String,
        staged_at: String,
        (used, new): (Vec<String>, Vec<String>),
        data: &Path,
        replaced: &str,
    ) -> io::Result<Self> {
        let mut old: Vec<String> = OURS.iter().map(|name| (*name).to_owned()).collect();
        old.extend(used.into_iter().filter(|path| files::goes_down(path)));
        old.extend(new.iter().cloned());
        old.sort();
        old.dedup();
        // Of two that lie in one another the inner one would go, or come, with the outer one.
        let inner = |path: &&String| old.iter().any(|outer| outer != *path && Path::new(path).starts_with(outer));
        if let Some(path) = old.iter().find(inner) {
            let fault = format!("the folder {path} lies in one of another storage; restore into another data folder");
            return Err(io::Error::other(fault));
        }
        let device = fs::metadata(data)?.dev();
        for path in &old {
            match fs::symlink_metadata(data.join(path)) {
                Ok(found) if found.dev() != device => {
                    let fault =
                        format!("{path} is a file system of its own in the data folder; restore into another folder");
                    return Err(io::Error::other(fault));
                }
                _ => {}
            }
        }
        let free = |name: &String| !data.join(name).exists();
        let names = std::iter::once(format!("{REPLACED_PREFIX}{replaced}"))
            .chain((2..).map(|n| format!("{REPLACED_PREFIX}{replaced}-{n}")));
        let replaced = names.into_iter().find(free).unwrap_or_default();
        Ok(Self { from: from.display().to_string(), created_at, staged_at, replaced, old, new })
    }

    pub(super) fn write(&self, data: &Path) -> io::Result<()> {
        let folder = data.join(RESTORE_FOLDER);
        let aside = folder.join(READY_ASIDE);
        files::write_file(&aside, &serde_json::to_vec_pretty(self)?)?;
        // The tree is on disk by now, and with it what the mark speaks of.
        files::sync_tree(&folder)?;
        fs::rename(&aside, folder.join(READY_FILE))?;
        files::sync_folder(&folder)?;
        files::sync_folder(data)
    }

    /// The renames that are still to be done, in their order.
    fn moves(&self, data: &Path) -> Vec<(PathBuf, PathBuf)> {
        let mut moves = Vec::new();
        for path in &self.old {
            let (here, aside) = (data.join(path), data.join(&self.replaced).join(path));
            let comes = data.join(RESTORE_FOLDER).join(NEW_FOLDER).join(path);
            let is_there = |path: &Path| fs::symlink_metadata(path).is_ok();
            // While the new one has not come, what is here is the old one; behind it, the new one.
            let is_old = !self.new.contains(path) || is_there(&comes);
            if is_old && is_there(&here) {
                moves.push((here.clone(), aside));
            }
            if self.new.contains(path) && is_there(&comes) {
                moves.push((comes, here));
            }
        }
        moves
    }
}

/// Finishes the restore that is ready in this data folder, if one is; removes what is left of one that is not. To be called
/// before the folder is opened.
///
/// # Errors
/// [`SwapError`].
pub fn swap_in(data: &Path) -> Result<Option<Swapped>, SwapError> {
    let restore = data.join(RESTORE_FOLDER);
    if !restore.exists() {
        return Ok(None);
    }
    let _held = hold(data)?;
    let path = restore.join(READY_FILE);
    let marker = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let removed = match is_ours(&restore) {
                Ok(true) => files::remove_tree(&restore),
                Ok(false) => Ok(()),
                Err(error) => Err(error),
            };
            removed.map_err(|source| SwapError::Io { path: restore, source })?;
            return Ok(None);
        }
        Err(source) => return Err(SwapError::Io { path, source }),
    };
    let marker: Marker =
        serde_json::from_slice(&marker).map_err(|error| SwapError::Marker(path.clone(), error.to_string()))?;
    for (from, to) in marker.moves(data) {
        rename(&from, &to).map_err(|source| SwapError::Io { path: from, source })?;
        failpoint::pass("swap_renamed");
    }
    clean_up(data).map_err(|source| SwapError::Io { path: restore, source })?;
    let replaced = data.join(&marker.replaced);
    let replaced = replaced.is_dir().then_some(replaced);
    Ok(Some(Swapped { from: marker.from, created_at: marker.created_at, replaced }))
}

/// Does no other process have this folder open, or a restore under way in it?
///
/// # Errors
/// [`SwapError::Locked`].
pub fn check_free(data: &Path) -> Result<(), SwapError> {
    hold(data).map(drop)
}

/// Nobody else has this folder open, or finishes its restore, while this is held.
fn hold(data: &Path) -> Result<Vec<File>, SwapError> {
    let mut held = Vec::new();
    for path in [data.join(RESTORE_FOLDER), data.join(STORE_LOCK)] {
        let file = match File::open(&path) {
            Ok(file) => file,
            // The store's own lock goes and comes with the store.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(SwapError::Io { path, source }),
        };
        match file.try_lock() {
            Ok(()) => held.push(file),
            Err(TryLockError::WouldBlock) => return Err(SwapError::Locked(data.to_owned())),
            Err(TryLockError::Error(source)) => return Err(SwapError::Io { path, source }),
        }
    }
    Ok(held)
}

/// Is there nothing in the folder but what a restore puts there? A storage of an older database may have its name.
pub(super) fn is_ours(restore: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(restore)? {
        let name = entry?.file_name();
        if ![NEW_FOLDER, READY_FILE, READY_ASIDE].iter().any(|ours| name == *ours) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn rename(from: &Path, to: &Path) -> io::Result<()> {
    if let Some(folder) = to.parent() {
        files::make_folders(folder)?;
    }
    fs::rename(from, to)?;
    // Each is on disk before the next, so that power loss leaves nothing that a kill would not.
    for folder in [from, to].into_iter().filter_map(Path::parent) {
        files::sync_folder(folder)?;
    }
    Ok(())
}

/// Everything is in its place: the mark goes, then the rest.
fn clean_up(data: &Path) -> io::Result<()> {
    let restore = data.join(RESTORE_FOLDER);
    files::sync_folder(data)?;
    fs::remove_file(restore.join(READY_FILE))?;
    files::sync_folder(&restore)?;
    files::remove_tree(&restore)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// A data folder with old data and a restore that is ready.
    fn folder(data: &Path) -> Marker {
        for path in
            ["hot/lock", "commits.mark", "cold/a", "archive/deep/b", "jwt.secret", "notes.txt", "exports/u/x.zip"]
        {
            put(&data.join(path), "old");
        }
        for path in ["hot/lock", "cold/c", "incoming/s/d"] {
            put(&data.join(RESTORE_FOLDER).join(NEW_FOLDER).join(path), "new");
        }
        let paths = (vec!["archive/deep".to_owned()], ["hot", "cold", "incoming"].map(str::to_owned).to_vec());
        let marker =
            Marker::new(Path::new("/b"), "then".to_owned(), "now".to_owned(), paths, data, "20260102T030405Z").unwrap();
        marker.write(data).unwrap();
        marker
    }

    fn check_swapped(data: &Path) {
        let text = |path: &str| fs::read_to_string(data.join(path)).ok();
        for path in ["hot/lock", "cold/c", "incoming/s/d"] {
            assert_eq!(text(path).as_deref(), Some("new"), "{path}");
        }
        for path in ["hot/lock", "commits.mark", "cold/a", "archive/deep/b", "jwt.secret", "exports/u/x.zip"] {
            assert_eq!(text(&format!("replaced-20260102T030405Z/{path}")).as_deref(), Some("old"), "{path}");
        }
        for path in ["cold/a", "commits.mark", "jwt.secret", "archive/deep", "exports", RESTORE_FOLDER] {
            assert!(!data.join(path).exists(), "{path}");
        }
        assert_eq!(text("notes.txt").as_deref(), Some("old"), "what is not ours stays");
        assert_eq!(swap_in(data).unwrap(), None, "it is done once");
    }

    #[test]
    fn a_swap_that_was_cut_off_anywhere_is_finished() {
        let count = {
            let folder = tempfile::tempdir().unwrap();
            self::folder(folder.path()).moves(folder.path()).len()
        };
        assert!(count >= 9, "{count}");
        for done in 0..=count {
            let folder = tempfile::tempdir().unwrap();
            let data = folder.path();
            let marker = self::folder(data);
            for (from, to) in marker.moves(data).into_iter().take(done) {
                rename(&from, &to).unwrap();
            }
            assert_eq!(marker.moves(data).len(), count - done, "what is there says what is to be done");
            let swapped = swap_in(data).unwrap().unwrap();
            assert_eq!((swapped.from.as_str(), swapped.created_at.as_str()), ("/b", "then"));
            check_swapped(data);
        }
    }

    #[test]
    fn behind_the_mark_the_rest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        for (from, to) in self::folder(data).moves(data) {
            rename(&from, &to).unwrap();
        }
        fs::remove_file(data.join(RESTORE_FOLDER).join(READY_FILE)).unwrap();
        assert_eq!(swap_in(data).unwrap(), None);
        check_swapped(data);
    }

    #[test]
    fn a_storage_of_that_name_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        put(&folder.path().join(RESTORE_FOLDER).join("chat/1.parquet"), "old");
        assert_eq!(swap_in(folder.path()).unwrap(), None);
        assert!(folder.path().join(RESTORE_FOLDER).join("chat/1.parquet").exists());
    }

    #[test]
    fn a_folder_in_use_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        self::folder(data);
        let held = File::open(data.join(STORE_LOCK)).unwrap();
        held.try_lock().unwrap();
        assert!(matches!(swap_in(data), Err(SwapError::Locked(_))));
        assert!(data.join("cold/a").exists());
        drop(held);
        swap_in(data).unwrap().unwrap();
        check_swapped(data);
    }

    #[test]
    fn an_unreadable_mark_is_told_and_a_time_is_not_used_twice() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        self::folder(data);
        fs::create_dir(data.join("replaced-20260102T030405Z")).unwrap();
        let marker = Marker::new(
            Path::new("/b"),
            String::new(),
            String::new(),
            (Vec::new(), Vec::new()),
            data,
            "20260102T030405Z",
        );
        assert_eq!(marker.unwrap().replaced, "replaced-20260102T030405Z-2");
        let nested = (vec!["shelf".to_owned()], vec!["shelf/new".to_owned()]);
        let error = Marker::new(Path::new("/b"), String::new(), String::new(), nested, data, "x").unwrap_err();
        assert!(error.to_string().contains("shelf/new lies in one of another storage"), "{error}");
        fs::write(data.join(RESTORE_FOLDER).join(READY_FILE), "{").unwrap();
        let error = swap_in(data).unwrap_err();
        assert!(error.to_string().contains("ready.json is not readable"), "{error}");
    }
}
