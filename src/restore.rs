//! `inboxdb restore`: a backup into a data folder, without a server.
//!
//! Owns the order: is the folder free → what an earlier restore left → bring the backup in → put it in its place. The steps
//! are those of RESTORE DATABASE and of the start behind it.
//! Start at [`run`].

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tracing::Level;

use crate::cli::RestoreArgs;
use crate::config::LoggingConfig;
use crate::database::restore;
use crate::error::Error;
use crate::logging;
use crate::model::StorageMeta;
use crate::storage::backup::{SwapError, check_free};
use crate::storage::{RecordKind, Store};
use crate::time::Clock;

/// A look at the records of the folder that is replaced.
const CACHE_BYTES: u64 = 1 << 20;

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Refused(#[from] Error),
    #[error(transparent)]
    Swap(#[from] SwapError),
    #[error("the data folder {} can not be made: {source}", path.display())]
    Folder { path: PathBuf, source: io::Error },
}

/// # Errors
/// [`RestoreError`]: the data folder is what it was, or the next start or try finishes.
pub fn run(args: &RestoreArgs) -> Result<(), RestoreError> {
    logging::start(&LoggingConfig { level: Level::ERROR.to_string(), ..LoggingConfig::default() }, || 0);
    let data = &args.data;
    fs::create_dir_all(data).map_err(|source| RestoreError::Folder { path: data.clone(), source })?;
    check_free(data)?;
    restore::finish(data)?;
    let from = std::path::absolute(&args.from).unwrap_or_else(|_| args.from.clone());
    let staged = restore::stage(&from, data, used_folders(data), Clock::system().now_us(), &|_| Ok(()))?;
    restore::finish(data)?;
    let index = staged.index;
    println!("restored the backup of {} from {} into {}", index.created_at, from.display(), data.display());
    println!("{} tables, {} bytes, {} segments", index.tables.len(), index.bytes(), index.segments().count());
    if staged.replaced.is_dir() {
        println!("what was there before is in {}", staged.replaced.display());
    }
    Ok(())
}

/// Folders of storages in the data folder, as far as it can be read: it may be what is broken.
fn used_folders(data: &Path) -> Vec<String> {
    let Ok((store, _)) = Store::open_as_is(data, CACHE_BYTES) else { return Vec::new() };
    let records = store.records(RecordKind::Storage).unwrap_or_default();
    let metas = records.iter().filter_map(|(_, json)| serde_json::from_slice::<StorageMeta>(json).ok());
    metas.map(|meta| meta.base).filter(|base| Path::new(base).is_relative() && !base.contains("://")).collect()
}
