//! The data folder, before anything of the database is in it: there, writable, ours alone; and the server's own secret.
//!
//! Owns `<data>/inboxdb.lock` and `<data>/jwt.secret`. Everything else in the folder is storage's.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::StartError;
use crate::config::Secret;

const LOCK_FILE: &str = "inboxdb.lock";
const SECRET_FILE: &str = "jwt.secret";
const SECRET_BYTES: usize = 48;

/// The folder, held by this process until it is dropped. The kernel lets go of it when the process dies.
#[derive(Debug)]
pub(super) struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// # Errors
    /// The folder can not be made or written, or another process holds it.
    pub(super) fn open(path: &Path) -> Result<Self, StartError> {
        let unusable = |source| StartError::DataFolder { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(unusable)?;
        let path = path.canonicalize().map_err(unusable)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut lock = options.open(path.join(LOCK_FILE)).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Only for the message: the holder may be about to write it.
                let _ = lock.read_to_string(&mut holder);
                return Err(StartError::DataFolderInUse { path, holder: holder.trim().parse().ok() });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        note_process(&mut lock).map_err(unusable)?;
        Ok(Self { path, _lock: lock })
    }

    /// Absolute.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The secret of this folder's server: made once, readable by its owner only.
    ///
    /// # Errors
    /// The file can not be read or written.
    pub(super) fn jwt_secret(&self) -> Result<Secret, StartError> {
        let path = self.path.join(SECRET_FILE);
        let unusable = |source| StartError::SecretFile { path: path.clone(), source };
        match fs::read_to_string(&path) {
            Ok(text) if !text.trim().is_empty() => Ok(Secret::new(text.trim())),
            // Empty: we died between making and writing it, and it signed nothing.
            Ok(_) => make_secret(&path).map_err(unusable),
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_secret(&path).map_err(unusable),
            Err(error) => Err(unusable(error)),
        }
    }
}

fn note_process(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    write!(lock, "{}", std::process::id())
}

fn make_secret(path: &Path) -> io::Result<Secret> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let text = BASE64.encode(bytes);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_folder_has_one_holder_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("new/data");
        let first = DataFolder::open(&path).unwrap();
        let second = DataFolder::open(&path).unwrap_err().to_string();
        assert!(second.contains("is in use by another") && second.contains(&std::process::id().to_string()), "{second}");
        drop(first);
        DataFolder::open(&path).unwrap();
    }

    #[test]
    fn a_file_is_no_folder() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = DataFolder::open(file.path()).unwrap_err().to_string();
        assert!(text.contains("can not be used") && text.contains("--data"), "{text}");
    }

    #[test]
    fn the_secret_is_made_once_and_is_private() {
        let parent = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(parent.path()).unwrap();
        let first = folder.jwt_secret().unwrap();
        assert_eq!(first, folder.jwt_secret().unwrap());
        assert!(first.expose().len() >= 32);
        let mode = fs::metadata(folder.path().join(SECRET_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
