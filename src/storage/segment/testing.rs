//! Segments made of any rows, for tests.

use std::sync::Arc;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};
use proptest::prelude::*;

use super::{
    DraftSegment, SegmentCache, SegmentId, SegmentReader, SegmentScan, SegmentSpec, SegmentTarget, SegmentWriter,
};
use crate::error::Result;
use crate::model::{Compression, DataType, Owner, RowPlace, Seq, StoredRow, TableMeta, UserId, Value};
use crate::storage::cold_store::ColdStore;
use crate::storage::row_codec::{self, tests::value_of};

pub(crate) use crate::storage::row_codec::tests::ALL;

/// A storage that does not answer.
#[derive(Debug)]
pub struct Away;

impl std::fmt::Display for Away {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Away")
    }
}

fn away<T>() -> object_store::Result<T> {
    Err(object_store::Error::Generic { store: "Away", source: "connection refused".into() })
}

#[async_trait::async_trait]
impl ObjectStore for Away {
    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> object_store::Result<PutResult> {
        away()
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        away()
    }

    async fn get_opts(&self, _: &Path, _: GetOptions) -> object_store::Result<GetResult> {
        away()
    }

    fn delete_stream(
        &self,
        _: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        futures_util::stream::iter([away()]).boxed()
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        futures_util::stream::iter([away()]).boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> object_store::Result<ListResult> {
        away()
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> object_store::Result<()> {
        away()
    }
}

pub fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

pub fn seq(raw: i64) -> Seq {
    Seq::new(raw).unwrap()
}

pub fn alice() -> Owner {
    Owner::User(UserId::parse("alice").unwrap())
}

/// Small segments: four pages a row group.
pub fn small(rows: u32) -> SegmentTarget {
    SegmentTarget { rows, bytes: u64::MAX, row_group_rows: 32, page_rows: 8 }
}

/// Values of any row of a table, with NULLs where they may be.
pub fn any_values(types: &[DataType], primary_key: &[usize]) -> impl Strategy<Value = Vec<Value>> + use<> {
    let of = |(i, ty): (usize, &DataType)| match primary_key.contains(&i) {
        true => column_value(*ty),
        false => prop_oneof![1 => Just(Value::Null), 3 => long(*ty)].boxed(),
    };
    types.iter().enumerate().map(of).collect::<Vec<_>>()
}

/// Any value that a column can hold: a decimal within its precision.
pub fn column_value(ty: DataType) -> BoxedStrategy<Value> {
    match ty {
        DataType::Decimal { precision, .. } => {
            let least = 10i128.pow(precision.into());
            (1 - least..least).prop_map(Value::Decimal).boxed()
        }
        ty => value_of(ty),
    }
}

/// Now and then a text that no bound can hold.
fn long(ty: DataType) -> BoxedStrategy<Value> {
    match ty {
        DataType::Text => prop_oneof![
            4 => value_of(ty),
            1 => "(é|ab|\u{10FFFF}){50,90}".prop_map(Value::Text),
            1 => "\u{10FFFF}{17,30}".prop_map(Value::Text),
        ]
        .boxed(),
        DataType::Bytes => prop_oneof![
            4 => value_of(ty),
            1 => proptest::collection::vec(250u8.., 60..70).prop_map(Value::Bytes),
            1 => proptest::collection::vec(Just(255u8), 60..70).prop_map(Value::Bytes),
        ]
        .boxed(),
        ty => column_value(ty),
    }
}

/// Rows of these values at increasing positions, some of them tombstones, some not at their first version.
pub fn rows_of(table: &TableMeta, values: Vec<(Vec<Value>, i64, bool, bool)>) -> Vec<StoredRow> {
    let mut at = 0;
    let mut rows = Vec::new();
    for (values, gap, deleted, inserted) in values {
        at += gap.max(1);
        let created = if inserted { seq(at) } else { seq(at / 2) };
        rows.push(StoredRow {
            seq: seq(at),
            created,
            deleted,
            row: row_codec::encode(table, &values),
            place: RowPlace::Own,
        });
    }
    rows
}

pub fn any_rows(
    types: &[DataType],
    primary_key: &[usize],
    count: std::ops::Range<usize>,
) -> impl Strategy<Value = Vec<(Vec<Value>, i64, bool, bool)>> + use<> {
    let row = (any_values(types, primary_key), 1i64..5, proptest::bool::weighted(0.2), any::<bool>());
    proptest::collection::vec(row, count)
}

pub struct Fixture {
    pub folder: tempfile::TempDir,
    pub store: ColdStore,
    pub cache: Arc<SegmentCache>,
    pub table: Arc<TableMeta>,
}

impl Fixture {
    pub fn new(table: TableMeta) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = ColdStore::folder(folder.path()).unwrap();
        Self { folder, store, cache: SegmentCache::new(1 << 20, 1 << 20), table: Arc::new(table) }
    }

    pub fn spec(&self, target: SegmentTarget) -> SegmentSpec {
        SegmentSpec {
            table: self.table.clone(),
            owner: alice(),
            storage: self.table.storage.clone(),
            folder: "t/t/alice".to_owned(),
            compression: Compression::Zstd,
            target,
            now_ms: 1_700_000_000_000,
        }
    }

    /// Writes and publishes.
    pub fn write(&self, spec: SegmentSpec, rows: &[StoredRow]) -> Result<Vec<SegmentReader>> {
        let mut id = 0;
        let mut next_id = || {
            id += 1;
            SegmentId(id)
        };
        let (table, owner) = (spec.table.clone(), spec.owner.clone());
        let mut writer = SegmentWriter::new(&self.store, spec, &mut next_id);
        for row in rows {
            writer.push(row)?;
        }
        let mut readers = Vec::new();
        for entry in run(DraftSegment::publish_all(writer.finish()?, &self.store)) {
            let entry = Arc::new(entry?);
            readers.push(SegmentReader::new(&self.store, &self.cache, table.clone(), owner.clone(), entry));
        }
        Ok(readers)
    }
}

/// All that a scan gives, each row with its position, and as it was before it was written.
pub fn rows(reader: &SegmentReader, scan: SegmentScan) -> Result<Vec<(u32, StoredRow)>> {
    let segment = reader.entry().meta.id.0;
    let read: Vec<(u32, StoredRow)> = run(async { reader.rows(scan).await?.try_concat().await })?;
    let as_written = |(position, row): (u32, StoredRow)| {
        assert_eq!(row.place, RowPlace::Segment { segment, position });
        (position, StoredRow { place: RowPlace::Own, ..row })
    };
    Ok(read.into_iter().map(as_written).collect())
}
