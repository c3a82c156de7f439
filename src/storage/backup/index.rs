//! `backup.json`: what a backup holds, for people, tools and the restore.
//!
//! Owns its form, and its last line, the checksum of all lines before. Written last: a folder without it is no backup.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::files::{goes_down, write_file};
use super::{at, unreadable};
use crate::error::{Error, Result};
use crate::model::{Seq, StorageId, TableId};
use crate::storage::segment::Checksum;
use crate::storage::store::FORMAT_VERSION;

/// The form of backups that this program writes.
pub const BACKUP_FORMAT: u32 = 1;

pub const INDEX_FILE: &str = "backup.json";

/// Before the checksum's digits, on the last line but one.
const SUM_KEY: &str = ",\n  \"checksum\": ";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupIndex {
    pub backup_format: u32,
    /// The format of the data folder that it was made of.
    pub data_format: u32,
    pub server_version: String,
    /// RFC 3339: the moment whose state this is.
    pub created_at: String,
    /// The job that wrote it.
    #[serde(default)]
    pub made_by: String,
    /// Commits of the database up to then.
    pub commits: u64,
    pub tables: Vec<TableHead>,
    /// All files but this one, keyspaces first.
    pub files: Vec<BackupFile>,
}

/// How far a table was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableHead {
    pub id: TableId,
    pub table: String,
    pub last_seq: Seq,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFile {
    /// In the backup.
    pub path: String,
    pub bytes: u64,
    pub checksum: Checksum,
    #[serde(flatten)]
    pub content: Content,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Content {
    Keyspace {
        keyspace: String,
        entries: u64,
    },
    /// `file`: its path in the storage.
    Segment {
        storage: StorageId,
        file: String,
    },
}

impl BackupIndex {
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        write_file(&folder.join(INDEX_FILE), &self.to_text()?)
    }

    /// What is in `folder`, by its index.
    ///
    /// # Errors
    /// `BACKUP_FAILED`: no backup, a damaged one, or one of a newer program.
    pub fn read(folder: &Path) -> Result<Self> {
        if !folder.is_dir() {
            return Err(unreadable(folder, "there is no such folder"));
        }
        let path = folder.join(INDEX_FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(unreadable(
                    folder,
                    format!("it has no {INDEX_FILE}, so it is no backup or not a whole one"),
                ));
            }
            Err(error) => return Err(unreadable(folder, at(&path, &error))),
        };
        Self::from_text(&text).map_err(|fault| unreadable(folder, fault))
    }

    fn to_text(&self) -> io::Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self)?;
        // Without the newline and the bracket that end it.
        text.truncate(text.len().saturating_sub(2));
        let end = ending(&text);
        text.extend_from_slice(end.as_bytes());
        Ok(text)
    }

    fn from_text(text: &[u8]) -> Result<Self, String> {
        let damaged = format!("{INDEX_FILE} is damaged");
        // First: a newer program may have another idea of everything else.
        #[derive(Deserialize)]
        struct Formats {
            backup_format: u32,
            data_format: u32,
        }
        let formats: Formats = serde_json::from_slice(text).map_err(|fault| format!("{damaged}: {fault}"))?;
        for (what, found, known) in [
            ("backup format", formats.backup_format, BACKUP_FORMAT),
            ("data format", formats.data_format, FORMAT_VERSION),
        ] {
            if found > known {
                return Err(format!(
                    "it has {what} {found}; this program knows up to {known}: use a newer inboxdb, or the backup is damaged"
                ));
            }
        }
        let sum = text.windows(SUM_KEY.len()).rposition(|found| found == SUM_KEY.as_bytes());
        let body = &text[..sum.ok_or_else(|| format!("{damaged}: it has no checksum"))?];
        if text[body.len()..] != *ending(body).as_bytes() {
            return Err(format!("{damaged}: its checksum is another"));
        }
        let index: Self = serde_json::from_slice(text).map_err(|fault| format!("{damaged}: {fault}"))?;
        let out = |file: &&BackupFile| {
            !goes_down(&file.path) || matches!(&file.content, Content::Segment { file, .. } if !goes_down(file))
        };
        match index.files.iter().find(out) {
            Some(file) => Err(format!("{damaged}: the path {:?} leads out of it", file.path)),
            None => Ok(index),
        }
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    pub fn segments(&self) -> impl Iterator<Item = (&BackupFile, &StorageId, &str)> {
        self.files.iter().filter_map(|found| match &found.content {
            Content::Segment { storage, file } => Some((found, storage, file.as_str())),
            Content::Keyspace { .. } => None,
        })
    }

    pub(super) fn keyspaces(&self) -> impl Iterator<Item = (&BackupFile, &str, u64)> {
        self.files.iter().filter_map(|found| match &found.content {
            Content::Keyspace { keyspace, entries } => Some((found, keyspace.as_str(), *entries)),
            Content::Segment { .. } => None,
        })
    }
}

fn ending(body: &[u8]) -> String {
    format!("{SUM_KEY}\"{}\"\n}}\n", Checksum(xxh3_64(body)))
}

/// As an error that a client is told.
impl BackupFile {
    pub(super) fn fault(&self, folder: &Path, fault: impl std::fmt::Display) -> Error {
        unreadable(folder, format!("{}: {fault}", self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> BackupIndex {
        BackupIndex {
            backup_format: 1,
            data_format: 3,
            server_version: "0.1.0".to_owned(),
            created_at: "2026-01-02T03:04:05Z".to_owned(),
            made_by: "BK-1".to_owned(),
            commits: 7,
            tables: vec![TableHead { id: TableId(1), table: "chat.mail".to_owned(), last_seq: Seq::ZERO }],
            files: vec![
                BackupFile {
                    path: "keyspaces/rows".to_owned(),
                    bytes: 10,
                    checksum: Checksum(1),
                    content: Content::Keyspace { keyspace: "rows".to_owned(), entries: 2 },
                },
                BackupFile {
                    path: "segments/local/a.parquet".to_owned(),
                    bytes: 20,
                    checksum: Checksum(2),
                    content: Content::Segment { storage: StorageId::local(), file: "a.parquet".to_owned() },
                },
            ],
        }
    }

    #[test]
    fn is_json_that_knows_its_own_checksum() {
        let text = index().to_text().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(json["files"][1]["storage"], "local");
        assert!(json["checksum"].as_str().unwrap().starts_with("xxh3:"));
        assert_eq!(BackupIndex::from_text(&text).unwrap(), index());
    }

    #[test]
    fn any_flipped_bit_is_found() {
        let text = index().to_text().unwrap();
        for bit in 0..text.len() * 8 {
            let mut flipped = text.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(BackupIndex::from_text(&flipped).is_err(), "bit {bit}: {}", String::from_utf8_lossy(&flipped));
        }
    }

    #[test]
    fn newer_formats_and_paths_that_lead_out_are_refused() {
        let newer = BackupIndex { backup_format: 2, ..index() }.to_text().unwrap();
        let fault = BackupIndex::from_text(&newer).unwrap_err();
        assert!(fault.contains("it has backup format 2; this program knows up to 1"), "{fault}");
        let newer = BackupIndex { data_format: 99, ..index() }.to_text().unwrap();
        let fault = BackupIndex::from_text(&newer).unwrap_err();
        assert!(fault.contains("it has data format 99"), "{fault}");
        for out in ["../x", "/etc/passwd", "a/../../x", ""] {
            let mut index = index();
            index.files[1].content = Content::Segment { storage: StorageId::local(), file: out.to_owned() };
            let fault = BackupIndex::from_text(&index.to_text().unwrap()).unwrap_err();
            assert!(fault.contains("leads out of it"), "{fault}");
        }
    }
}
