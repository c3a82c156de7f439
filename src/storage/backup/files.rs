//! Private files and folders, summed up as they are written and read.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path};

use xxhash_rust::xxh3::Xxh3;

use crate::storage::segment::Checksum;

/// Bytes read or written at once.
pub(super) const PIECE: usize = 1 << 20;

/// Passwords' hashes and the credentials of storages are in what lies here.
pub(super) fn make_folders(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// A new private file. There is none of its name.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// A whole small file, durable; its name is so once its folder is synced.
pub(super) fn write_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Everything that was written to the file system of this folder is on disk: thousands of small files at once.
pub(super) fn sync_tree(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(path)?)?)
}

/// Is it a path of plain names, going down only?
pub(super) fn goes_down(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// A file under way: how long it is, and its checksum.
pub(super) struct SummedFile {
    file: File,
    sums: Xxh3,
    bytes: u64,
}

impl SummedFile {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: create(path)?, sums: Xxh3::new(), bytes: 0 })
    }

    /// Its length and checksum. Durable.
    pub(super) fn finish(self) -> io::Result<(u64, Checksum)> {
        self.file.sync_all()?;
        Ok((self.bytes, Checksum(self.sums.digest())))
    }

    /// The same, where the whole tree is synced later.
    pub(super) fn finish_unsynced(self) -> (u64, Checksum) {
        (self.bytes, Checksum(self.sums.digest()))
    }
}

impl Write for SummedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sums.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a whole file, piece by piece; answers with its length and checksum. `check` is asked between two pieces.
pub(super) fn sum_up<E: From<io::Error>>(
    path: &Path,
    mut each: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(u64, Checksum), E> {
    let mut file = File::open(path)?;
    let mut piece = vec![0; PIECE.min(usize::try_from(file.metadata()?.len()).unwrap_or(PIECE)).max(1)];
    let (mut sums, mut bytes) = (Xxh3::new(), 0);
    loop {
        let read = match file.read(&mut piece) {
            Ok(0) => return Ok((bytes, Checksum(sums.digest()))),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        sums.update(&piece[..read]);
        bytes += read as u64;
        each(&piece[..read])?;
    }
}

/// Removes a folder and what is in it; one that is not there is removed already.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
