//! The files of exports: `<data>/exports/<user>/<export>.zip`.
//!
//! Owns their names and folders. A name says for which holder of the user's name it was made: whoever has the name next
//! finds none of it, even where a file was left.
//! Never decides who may have one. Blocks on the disk.
//! Start at [`ExportFolder`].

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use uuid::Uuid;

use super::path_template::escaped;
use crate::error::{Error, Result};
use crate::model::UserId;

/// Under the data folder.
const FOLDER: &str = "exports";
const ENDING: &str = ".zip";
/// The end of a file's name that is not whole yet.
const PARTIAL: &str = ".partial";

/// For which holder of a name, and which of their exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExportId {
    /// When the user came to be: microseconds since the Unix epoch.
    pub user_since: i64,
    /// That of its job: of version 7, so it tells when that was submitted.
    pub job: Uuid,
}

impl ExportId {
    /// When it was asked for, in microseconds since the Unix epoch.
    pub fn created_at(&self) -> i64 {
        let time = self.job.get_timestamp().map(|time| time.to_unix()).unwrap_or_default();
        i64::try_from(time.0).unwrap_or_default().saturating_mul(1_000_000) + i64::from(time.1 / 1_000)
    }
}

impl fmt::Display for ExportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.user_since, self.job)
    }
}

impl FromStr for ExportId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = text.split_once('-').and_then(|(since, job)| {
            let id = Self { user_since: i64::from_str_radix(since, 16).ok()?, job: Uuid::parse_str(job).ok()? };
            // One spelling each: what is not ours word for word names no file.
            (id.to_string() == text).then_some(id)
        });
        parsed.ok_or(Error::ExportNotFound)
    }
}

#[derive(Debug, Clone)]
pub struct ExportFolder(PathBuf);

impl ExportFolder {
    pub fn of(data: &Path) -> Self {
        Self(data.join(FOLDER))
    }

    /// A file for an export that is being written; what an earlier try left of it goes.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub(super) fn begin(&self, user: &UserId, id: &ExportId) -> Result<(File, PathBuf)> {
        let partial = self.partial(user, id);
        let make = || -> io::Result<File> {
            DirBuilder::new().recursive(true).mode(0o700).create(self.user(user))?;
            remove(&partial)?;
            private(&partial)
        };
        Ok((make().map_err(Error::internal)?, partial))
    }

    /// Gives a whole file its name. Durable.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub(super) fn publish(&self, user: &UserId, id: &ExportId, file: &File) -> Result<()> {
        let publish = || -> io::Result<()> {
            file.sync_all()?;
            fs::rename(self.partial(user, id), self.path(user, id))?;
            File::open(self.user(user))?.sync_all()
        };
        publish().map_err(Error::internal)
    }

    /// The file of an export and its length; `None` where there is none (any more).
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn open(&self, user: &UserId, id: &ExportId) -> Result<Option<(File, u64)>> {
        let open = || -> io::Result<_> {
            let file = File::open(self.path(user, id))?;
            let bytes = file.metadata()?.len();
            Ok((file, bytes))
        };
        match open() {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::internal(error)),
        }
    }

    /// The exports of one holder of a name, oldest first.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn list(&self, user: &UserId, user_since: i64) -> Result<Vec<ExportId>> {
        let mut found = Vec::new();
        for path in files_in(&self.user(user)).map_err(Error::internal)? {
            found.extend(id_of(&path).filter(|id| id.user_since == user_since));
        }
        found.sort_by_key(|id| (id.created_at(), *id));
        Ok(found)
    }

    /// # Errors
    /// `INTERNAL`.
    pub fn remove(&self, user: &UserId, id: &ExportId) -> Result<()> {
        remove(&self.path(user, id)).map_err(Error::internal)
    }

    /// Removes all exports of a name, unfinished ones included.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn remove_user(&self, user: &UserId) -> Result<()> {
        let remove_all = || -> io::Result<()> {
            for path in files_in(&self.user(user))? {
                remove(&path)?;
            }
            Ok(())
        };
        remove_all().map_err(Error::internal)
    }

    /// Removes exports that were asked for up to `until_us`; answers with how many.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn remove_older(&self, until_us: i64) -> Result<usize> {
        self.remove_where(|path| id_of(path).is_some_and(|id| id.created_at() <= until_us))
    }

    /// Removes what exports left that were cut off. Nobody writes one meanwhile.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn remove_unfinished(&self) -> Result<usize> {
        self.remove_where(|path| path.to_string_lossy().ends_with(PARTIAL))
    }

    fn remove_where(&self, goes: impl Fn(&Path) -> bool) -> Result<usize> {
        let mut removed = 0;
        let mut folders = vec![self.0.clone()];
        while let Some(folder) = folders.pop() {
            for path in files_in(&folder).map_err(Error::internal)? {
                // A long name goes on in a folder below.
                if path.is_dir() {
                    folders.push(path);
                } else if goes(&path) {
                    remove(&path).map_err(Error::internal)?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }

    fn user(&self, user: &UserId) -> PathBuf {
        self.0.join(escaped(user.as_str()))
    }

    fn path(&self, user: &UserId, id: &ExportId) -> PathBuf {
        self.user(user).join(format!("{id}{ENDING}"))
    }

    fn partial(&self, user: &UserId, id: &ExportId) -> PathBuf {
        self.user(user).join(format!("{id}{ENDING}{PARTIAL}"))
    }
}

fn id_of(path: &Path) -> Option<ExportId> {
    path.file_name()?.to_str()?.strip_suffix(ENDING)?.parse().ok()
}

fn files_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(found) => found.map(|entry| entry.map(|entry| entry.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // The folder of a longer name.
        Err(_) if path.is_dir() => Ok(()),
        outcome => outcome,
    }
}

fn private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserId {
        UserId::parse(name).unwrap()
    }

    fn id(user_since: i64, ms: u64) -> ExportId {
        let time = uuid::Timestamp::from_unix(uuid::NoContext, ms / 1_000, (ms % 1_000) as u32 * 1_000_000);
        ExportId { user_since, job: Uuid::new_v7(time) }
    }

    fn make(folder: &ExportFolder, user: &UserId, id: &ExportId) {
        let (file, _) = folder.begin(user, id).unwrap();
        folder.publish(user, id, &file).unwrap();
    }

    #[test]
    fn an_id_is_what_it_prints_and_nothing_else() {
        let id = id(0x1234, 1_700_000_000_123);
        assert_eq!(id.to_string().parse::<ExportId>().unwrap(), id);
        assert_eq!(id.created_at(), 1_700_000_000_123_000);
        for wrong in ["", "x", "../../etc/passwd", "1234", "1234-x", "01234-0197aaaa-0000-7000-8000-000000000000"] {
            assert!(matches!(wrong.parse::<ExportId>(), Err(Error::ExportNotFound)), "{wrong}");
        }
        assert!(id.to_string().to_uppercase().parse::<ExportId>().is_err());
    }

    #[test]
    fn who_has_the_name_next_finds_nothing() {
        let data = tempfile::tempdir().unwrap();
        let folder = ExportFolder::of(data.path());
        let (ann, old, new) = (user("ann"), id(1, 5_000), id(2, 6_000));
        make(&folder, &ann, &old);
        make(&folder, &ann, &new);
        assert_eq!(folder.list(&ann, 2).unwrap(), [new]);
        assert!(folder.open(&user("ben"), &new).unwrap().is_none());
        folder.remove_user(&ann).unwrap();
        assert_eq!(folder.list(&ann, 1).unwrap(), []);
    }

    #[test]
    fn old_and_unfinished_ones_go() {
        let data = tempfile::tempdir().unwrap();
        let folder = ExportFolder::of(data.path());
        let long = user(&"é".repeat(60));
        let (first, second) = (id(1, 5_000), id(1, 6_000));
        make(&folder, &long, &first);
        make(&folder, &long, &second);
        folder.begin(&long, &id(1, 7_000)).unwrap();
        assert_eq!(folder.remove_unfinished().unwrap(), 1);
        assert_eq!(folder.remove_older(5_000_000).unwrap(), 1);
        assert_eq!(folder.list(&long, 1).unwrap(), [second]);
        folder.remove(&long, &second).unwrap();
        folder.remove(&long, &second).unwrap();
        assert!(folder.open(&long, &second).unwrap().is_none());
        assert_eq!(ExportFolder::of(&data.path().join("none")).remove_older(i64::MAX).unwrap(), 0);
    }
}
