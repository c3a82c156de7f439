//! A copy of the whole database in a folder, and its way back into a data folder.
//!
//! Owns the form of a backup (`docs/on-disk-format.md`), the order in which one is written, checked and brought back, and
//! the steps that put it in the place of what a data folder held. Each step is a function, so that a crash between two of
//! them can be tried.
//! Never decides which records are worth copying nor whose rows are on their way out: who asks says so.
//! Invariants: a backup is there as a whole or not at all; nothing of a damaged one is used; a data folder is either what it
//! was or what the backup holds.
//! Start at [`BackupWriter`] and [`StagedBackup`], then [`swap_in`].

mod entries;
mod files;
mod incoming;
mod index;
mod stage;
mod swap;
mod write;

use std::io;
use std::path::Path;

use crate::error::Error;

pub use incoming::put_back_incoming;
pub use index::{BACKUP_FORMAT, BackupIndex, INDEX_FILE};
pub use stage::{StagedBackup, check_backup};
pub use swap::{REPLACED_PREFIX, RESTORE_FOLDER, SwapError, Swapped, check_free, swap_in};
pub use write::{BackupMoment, BackupTarget, BackupWriter, Step};

/// A backup's folder of keyspaces.
const KEYSPACES: &str = "keyspaces";
/// A backup's folder of segments, by storage.
const SEGMENTS: &str = "segments";
/// Under the data folder: segments on their way into storages that lie elsewhere.
pub const INCOMING_FOLDER: &str = "incoming";

fn unwritable(path: &Path, fault: impl std::fmt::Display) -> Error {
    Error::Backup { what: "written", path: path.display().to_string(), fault: fault.to_string() }
}

fn unreadable(path: &Path, fault: impl std::fmt::Display) -> Error {
    Error::Backup { what: "restored", path: path.display().to_string(), fault: fault.to_string() }
}

/// A fault with the file that it is about.
fn at(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}
