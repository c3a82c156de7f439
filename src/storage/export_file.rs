//! Writes an export: a zip of Parquet files, one or more a table, and `index.json`, which says what they are.
//!
//! Owns the form of the file and the bound on memory: a batch of rows and one encoded row group, whatever the number of rows.
//! What is in the zip is stored as it is: Parquet is compressed already.
//! Never chooses rows but for live ones: who calls brings one user's. Blocks on the disk.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::exports::{ExportFolder, ExportId};
use super::row_codec::BatchBuilder;
use super::segment::{Checksum, check_decimals};
use crate::error::{Error, Result};
use crate::model::schema::SEQ_COLUMN;
use crate::model::{Owner, StoredRow, TableMeta, UserId};

const INDEX: &str = "index.json";

/// Rows that are encoded together, and stored bytes of them where rows are large.
const BATCH_ROWS: usize = 8_192;
const BATCH_BYTES: usize = 4 << 20;
/// A file ends behind the batch that reaches one of these.
const FILE_ROWS: u64 = 1 << 20;
const FILE_BYTES: u64 = 256 << 20;
const ROW_GROUP_BYTES: usize = 64 << 20;

pub struct ExportWriter {
    folder: ExportFolder,
    user: UserId,
    id: ExportId,
    zip: ZipWriter<File>,
    index: Index,
    _partial: Partial,
}

#[derive(Serialize)]
struct Index {
    user: String,
    created_at: String,
    server_version: &'static str,
    tables: Vec<ExportedTable>,
}

#[derive(Serialize)]
struct ExportedTable {
    table: String,
    schema_version: u32,
    columns: Vec<ExportedColumn>,
    rows: u64,
    files: Vec<ExportedFile>,
}

#[derive(Serialize)]
struct ExportedColumn {
    name: String,
    #[serde(rename = "type")]
    data_type: String,
    nullable: bool,
    primary_key: bool,
}

#[derive(Serialize)]
struct ExportedFile {
    path: String,
    rows: u64,
    bytes: u64,
    checksum: Checksum,
}

impl ExportWriter {
    /// # Errors
    /// `INTERNAL`.
    pub fn begin(folder: ExportFolder, user: UserId, id: ExportId, created_at: String) -> Result<Self> {
        let (file, partial) = folder.begin(&user, &id)?;
        let index =
            Index { user: user.to_string(), created_at, server_version: env!("CARGO_PKG_VERSION"), tables: Vec::new() };
        Ok(Self { folder, user, id, zip: ZipWriter::new(file), index, _partial: Partial(partial) })
    }

    /// Writes the live ones of a table's rows, which come in `_seq` order until there are no more; answers with how many.
    ///
    /// # Errors
    /// `INTERNAL`, and those of `next`.
    pub fn write_table(
        &mut self,
        table: &Arc<TableMeta>,
        mut next: impl FnMut() -> Result<Option<Vec<StoredRow>>>,
    ) -> Result<u64> {
        let mut exported = ExportedTable {
            table: table.name.to_string(),
            schema_version: table.schema_version,
            columns: columns(table),
            rows: 0,
            files: Vec::new(),
        };
        let mut is_more = true;
        while is_more {
            let number = exported.files.len() + 1;
            let name = match number {
                1 => format!("{}/{}.parquet", table.name.namespace(), table.name.table()),
                _ => format!("{}/{}-{number}.parquet", table.name.namespace(), table.name.table()),
            };
            let file;
            (file, is_more) = self.write_file(table, name, &mut next)?;
            exported.rows += file.as_ref().map_or(0, |file| file.rows);
            exported.files.extend(file);
        }
        let rows = exported.rows;
        self.index.tables.push(exported);
        Ok(rows)
    }

    /// One file; none where no row comes. Whether there may be more.
    fn write_file(
        &mut self,
        table: &Arc<TableMeta>,
        path: String,
        next: &mut impl FnMut() -> Result<Option<Vec<StoredRow>>>,
    ) -> Result<(Option<ExportedFile>, bool)> {
        let own = table.columns.len();
        let projection: Vec<usize> = (0..=own).collect();
        let mut builder = BatchBuilder::new(table.clone(), Some(&projection));
        debug_assert_eq!(builder.schema().field(own).name(), SEQ_COLUMN);
        let mut file: Option<ArrowWriter<Entry<'_>>> = None;
        let (mut rows, mut bytes, mut ended, mut full) = (0, 0, false, false);
        let mut zip = Some(&mut self.zip);
        while !ended && !full {
            match next()? {
                Some(found) => {
                    for row in found.iter().filter(|row| !row.deleted) {
                        builder.push(&Owner::Shared, row)?;
                        bytes += row.row.0.len();
                    }
                }
                None => ended = true,
            }
            let due = builder.len() >= BATCH_ROWS || bytes >= BATCH_BYTES || ended;
            if !due || builder.is_empty() {
                continue;
            }
            bytes = 0;
            let batch = builder.finish()?;
            check_decimals(table, &batch)?;
            rows += batch.num_rows() as u64;
            if let Some(zip) = zip.take() {
                let entry = Entry::begin(zip, &path).map_err(Error::internal)?;
                let writer = ArrowWriter::try_new(entry, batch.schema(), Some(properties()));
                file = Some(writer.map_err(Error::internal)?);
            }
            if let Some(file) = &mut file {
                file.write(&batch).map_err(Error::internal)?;
                full = rows >= FILE_ROWS || file.inner().bytes >= FILE_BYTES;
            }
        }
        let Some(mut file) = file else { return Ok((None, false)) };
        file.finish().map_err(Error::internal)?;
        let (bytes, checksum) = (file.inner().bytes, Checksum(file.inner().sums.digest()));
        Ok((Some(ExportedFile { path, rows, bytes, checksum }), !ended))
    }

    /// Writes the index and gives the file its name. Durable. Answers with its length.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn finish(mut self) -> Result<u64> {
        let text = serde_json::to_vec_pretty(&self.index).map_err(Error::internal)?;
        let mut entry = Entry::begin(&mut self.zip, INDEX).map_err(Error::internal)?;
        entry.write_all(&text).map_err(Error::internal)?;
        entry.write_all(b"\n").map_err(Error::internal)?;
        let comment = format!("Rows of user '{}', exported by InboxDB", self.user);
        self.zip.set_comment(comment).map_err(Error::internal)?;
        let file = self.zip.finish().map_err(Error::internal)?;
        let bytes = file.metadata().map_err(Error::internal)?.len();
        self.folder.publish(&self.user, &self.id, &file)?;
        Ok(bytes)
    }
}

/// Given up before its end, nothing of it stays.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // Behind `finish` there is none; else the next start removes it.
        let _ = fs::remove_file(&self.0);
    }
}

/// A file in the zip.
struct Entry<'a> {
    zip: &'a mut ZipWriter<File>,
    sums: Xxh3,
    bytes: u64,
}

impl<'a> Entry<'a> {
    fn begin(zip: &'a mut ZipWriter<File>, path: &str) -> zip::result::ZipResult<Self> {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        zip.start_file(path, options.large_file(true).unix_permissions(0o600))?;
        Ok(Self { zip, sums: Xxh3::new(), bytes: 0 })
    }
}

impl Write for Entry<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.zip.write(bytes)?;
        self.sums.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_created_by(format!("inboxdb {}", env!("CARGO_PKG_VERSION")))
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .build()
}

fn columns(table: &TableMeta) -> Vec<ExportedColumn> {
    let own = table.columns.iter().enumerate().map(|(i, column)| ExportedColumn {
        name: column.name.to_string(),
        data_type: column.data_type.to_string(),
        nullable: column.nullable,
        primary_key: table.is_key(i),
    });
    let seq = ExportedColumn {
        name: SEQ_COLUMN.to_owned(),
        data_type: crate::model::DataType::BigInt.to_string(),
        nullable: false,
        primary_key: false,
    };
    own.chain([seq]).collect()
}
