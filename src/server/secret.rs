//! The server's own secret: made once, kept in the data folder, for servers that only this machine reaches.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::config::Secret;

const FILE: &str = "jwt.secret";
const BYTES: usize = 48;

/// The secret in this folder; both are made where they are missing.
///
/// # Errors
/// Folder or file can not be made, read or written.
pub(super) fn load_or_make(data: &Path) -> io::Result<Secret> {
    fs::create_dir_all(data)?;
    let path = data.join(FILE);
    match fs::read_to_string(&path) {
        // Empty: we died between making and writing it, and it signed nothing.
        Ok(text) if text.trim().is_empty() => make(&path),
        Ok(text) => Ok(Secret::new(text.trim())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(&path),
        Err(error) => Err(error),
    }
}

fn make(path: &Path) -> io::Result<Secret> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let text = BASE64.encode(bytes);
    let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_secret_is_made_once_and_is_private() {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("new/data");
        let first = load_or_make(&data).unwrap();
        assert_eq!(first, load_or_make(&data).unwrap());
        assert!(first.expose().len() >= 32);
        let mode = fs::metadata(data.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn an_empty_file_is_no_secret() {
        let data = tempfile::tempdir().unwrap();
        fs::write(data.path().join(FILE), "\n").unwrap();
        assert!(!load_or_make(data.path()).unwrap().expose().is_empty());
    }
}
