//! Whole segments: what comes back, in any order, by any selection, after any damage.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray};
use arrow::datatypes::Int64Type;
use futures_util::TryStreamExt;
use object_store::memory::InMemory;
use proptest::prelude::*;

use super::stats::compare;
use super::testing::{ALL, Away, Fixture, alice, any_rows, rows, rows_of, run, seq, small};
use super::{RowPredicate, SegmentCache, SegmentReader, SegmentScan, SegmentTarget};
use crate::error::{Error, ErrorCode};
use crate::model::{
    ColumnDefault, ColumnMeta, ColumnName, Compression, DataType, Owner, RowPlace, StoredRow, TableMeta, UserId, Value,
};
use crate::storage::Order;
use crate::storage::cold_store::ColdStore;
use crate::storage::row_codec::{self, tests::table_with};
use crate::storage::segment::{DraftSegment, SegmentId, SegmentWriter};

fn compression() -> impl Strategy<Value = Compression> {
    prop_oneof![Just(Compression::Zstd), Just(Compression::Snappy), Just(Compression::None)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any rows of any types come back as they were, in order, over as many segments as it takes; what the manifest says of
    /// each segment is true of its rows.
    #[test]
    fn rows_come_back(values in any_rows(ALL, &[0], 0..100), split in 1u32..60, compression in compression()) {
        let fixture = Fixture::new(table_with(ALL, &[0]));
        let stored = rows_of(&fixture.table, values.clone());
        let spec = super::SegmentSpec { compression, ..fixture.spec(small(split)) };
        let readers = fixture.write(spec, &stored).unwrap();
        let mut back = Vec::new();
        for reader in &readers {
            let meta = reader.entry().meta.clone();
            run(reader.verify()).unwrap();
            let read = rows(reader, SegmentScan::default()).unwrap();
            prop_assert_eq!(read.len() as u32, meta.rows);
            prop_assert!(meta.rows <= split);
            prop_assert!(read.iter().enumerate().all(|(i, (position, _))| *position == i as u32));
            let read: Vec<StoredRow> = read.into_iter().map(|(_, row)| row).collect();
            prop_assert_eq!((meta.first_seq, meta.last_seq), (read[0].seq, read[read.len() - 1].seq));
            prop_assert_eq!(meta.tombstones as usize, read.iter().filter(|row| row.deleted).count());
            prop_assert_eq!(meta.oldest_tombstone, read.iter().find(|row| row.deleted).map(|row| row.seq));
            check_stats(reader, &values[back.len()..back.len() + read.len()]);
            back.extend(read);
        }
        prop_assert_eq!(back, stored);
    }

    /// A scan gives the rows of the range that are not deleted and that the predicates want, in its order, up to its limit.
    #[test]
    fn scans_select(
        values in any_rows(&[DataType::BigInt, DataType::SmallInt, DataType::Text], &[0], 1..150),
        from in 0i64..400, length in 0i64..400,
        deleted in proptest::collection::btree_set(0u32..150, 0..80),
        least in proptest::option::of(-20_000i64..20_000),
        limit in proptest::option::of(0usize..60),
        descending in any::<bool>(),
        batch_rows in 1usize..40,
    ) {
        let fixture = Fixture::new(table_with(&[DataType::BigInt, DataType::SmallInt, DataType::Text], &[0]));
        let stored = rows_of(&fixture.table, values.clone());
        let reader = &fixture.write(fixture.spec(small(1_000)), &stored).unwrap()[0];
        let range = seq(from)..=seq(from + length);
        let wanted = |row: usize| match (&values[row].0[1], least) {
            (_, None) => true,
            (Value::Int(v), Some(least)) => *v >= least,
            _ => false,
        };
        let mut expected: Vec<(u32, StoredRow)> = (0..stored.len())
            .filter(|row| range.contains(&stored[*row].seq) && !deleted.contains(&(*row as u32)) && wanted(*row))
            .map(|row| (row as u32, stored[row].clone()))
            .collect();
        if descending {
            expected.reverse();
        }
        expected.truncate(limit.unwrap_or(usize::MAX));
        let scan = SegmentScan {
            range,
            deleted: deleted.into_iter().collect(),
            predicates: least.map(at_least).into_iter().collect(),
            limit,
            order: if descending { Order::Descending } else { Order::Ascending },
            batch_rows,
            ..SegmentScan::default()
        };
        prop_assert_eq!(&rows(reader, scan.clone()).unwrap(), &expected);
        // Projected: `_seq` first, a column twice, no position asked for.
        let projected = SegmentScan { projection: Some(vec![3, 1, 1]), ..scan.clone() };
        let batches = batches(reader, projected);
        let seqs: Vec<i64> =
            batches.iter().flat_map(|b| b.batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        prop_assert_eq!(seqs, expected.iter().map(|(_, row)| row.seq.get()).collect::<Vec<_>>());
        prop_assert!(batches.iter().all(|b| b.created.is_none() && b.positions.is_none() && b.batch.num_columns() == 3));
        let counted = SegmentScan { projection: Some(vec![]), ..scan };
        let count: usize = self::batches(reader, counted).iter().map(|b| b.batch.num_rows()).sum();
        prop_assert_eq!(count, expected.len());
    }
}

/// `c1 >= least`.
fn at_least(least: i64) -> RowPredicate {
    let evaluate = move |batch: &arrow::array::RecordBatch| {
        let values = batch.column(0).as_primitive::<arrow::datatypes::Int16Type>();
        Ok(BooleanArray::from_iter(values.iter().map(|v| v.map(|v| i64::from(v) >= least))))
    };
    RowPredicate { columns: vec![1], evaluate: Arc::new(evaluate) }
}

fn batches(reader: &SegmentReader, scan: SegmentScan) -> Vec<super::SegmentBatch> {
    run(async { reader.scan(scan).await.unwrap().try_collect().await.unwrap() })
}

fn check_stats(reader: &SegmentReader, values: &[(Vec<Value>, i64, bool, bool)]) {
    let meta = &reader.entry().meta;
    for (i, column) in reader.table.columns.iter().enumerate() {
        let stats = &meta.stats[&column.id];
        let of_column = || values.iter().map(|(values, ..)| &values[i]);
        assert_eq!(stats.nulls as usize, of_column().filter(|value| value.is_null()).count());
        for value in of_column().filter(|value| !value.is_null()) {
            for (bound, beyond) in [(&stats.min, std::cmp::Ordering::Greater), (&stats.max, std::cmp::Ordering::Less)] {
                if let Some(bound) = bound {
                    assert_ne!(
                        compare(bound, value),
                        beyond,
                        "{bound:?} does not bound {value:?} of {}",
                        column.data_type
                    );
                }
            }
            let bounded = stats.min.is_some() && stats.max.is_some();
            let unbounded = matches!(
                column.data_type,
                DataType::Text | DataType::Bytes | DataType::Json | DataType::File | DataType::Embedding(_)
            );
            assert!(bounded || unbounded, "{} has no bounds", column.data_type);
        }
    }
    let keys = values.iter().map(|(values, ..)| crate::storage::keys::encode_pk(&reader.table, values, 1).unwrap());
    let keys: BTreeSet<_> = keys.collect();
    assert_eq!((Some(&meta.key_min), Some(&meta.key_max)), (keys.first(), keys.last()));
    assert!(keys.iter().all(|key| reader.entry().may_hold(key)));
    let json = serde_json::to_string(meta).unwrap();
    assert_eq!(serde_json::from_str::<super::SegmentMeta>(&json).unwrap(), *meta, "{json}");
}

fn numbered(table: &TableMeta, count: i64) -> Vec<StoredRow> {
    let row = |i: i64| {
        let values = [Value::Int(i), Value::Text(format!("row {i}"))];
        StoredRow {
            seq: seq(i * 3),
            created: seq(i * 3),
            deleted: false,
            row: row_codec::encode(table, &values),
            place: RowPlace::Own,
        }
    };
    (1..=count).map(row).collect()
}

fn bodies() -> TableMeta {
    table_with(&[DataType::BigInt, DataType::Text], &[0])
}

/// Pages, row groups and stretches of the real size.
#[test]
fn a_long_segment_reads_both_ways() {
    let fixture = Fixture::new(bodies());
    let stored = numbered(&fixture.table, 150_000);
    let reader = &fixture.write(fixture.spec(SegmentTarget::default()), &stored).unwrap()[0];
    assert_eq!(run(reader.footer()).unwrap().row_groups(), [0..131_072, 131_072..150_000]);
    let deleted: Arc<[u32]> = (0..150_000).filter(|i| i % 7 == 3).collect();
    for (order, from, to) in
        [(Order::Descending, 0, i64::MAX), (Order::Descending, 1_000, 400_001), (Order::Ascending, 12_001, 399_999)]
    {
        let range = seq(from)..=seq(to);
        let mut expected: Vec<i64> = stored.iter().map(|row| row.seq.get()).collect();
        let mut at = 0;
        expected.retain(|raw| {
            at += 1;
            (from..=to).contains(raw) && (at - 1) % 7 != 3
        });
        if order == Order::Descending {
            expected.reverse();
        }
        let scan =
            SegmentScan { range, order, deleted: deleted.clone(), projection: Some(vec![2]), ..SegmentScan::default() };
        let read = batches(reader, scan.clone());
        let seqs: Vec<i64> =
            read.iter().flat_map(|b| b.batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        assert!(seqs == expected, "{order:?} {from} {to}: {} rows", seqs.len());
        let few = batches(reader, SegmentScan { limit: Some(20), ..scan });
        assert_eq!(few[0].batch.column(0).as_primitive::<Int64Type>().values(), &expected[..20]);
    }
    // The last twenty rows take one page of each column, not the file.
    let anew = SegmentReader::new(
        &fixture.store,
        &SegmentCache::new(1 << 20, 1 << 20),
        fixture.table.clone(),
        alice(),
        reader.entry().clone(),
    );
    let last = SegmentScan { limit: Some(20), order: Order::Descending, ..SegmentScan::default() };
    assert_eq!(rows(&anew, last).unwrap().len(), 20);
    let read = anew.input.cache.read();
    assert!(read.footers == 1 && read.bytes < anew.entry().meta.bytes / 2, "{read:?} of {}", anew.entry().meta.bytes);
    run(reader.verify()).unwrap();
}

#[test]
fn segments_end_at_their_bytes() {
    let fixture = Fixture::new(bodies());
    let stored = numbered(&fixture.table, 20_000);
    let target = SegmentTarget { bytes: 1, ..SegmentTarget::default() };
    let readers = fixture.write(fixture.spec(target), &stored).unwrap();
    assert_eq!(readers.iter().map(|r| r.entry().meta.rows).collect::<Vec<_>>(), [8_192, 8_192, 3_616]);
    let ids: Vec<u64> = readers.iter().map(|r| r.entry().meta.id.0).collect();
    assert_eq!(ids, [1, 2, 3]);
}

#[test]
fn a_decimal_beyond_its_column_is_refused_rather_than_cut() {
    let types = [DataType::BigInt, DataType::Decimal { precision: 5, scale: 2 }];
    let fixture = Fixture::new(table_with(&types, &[0]));
    let row = |unscaled| {
        let row = row_codec::encode(&fixture.table, &[Value::Int(1), Value::Decimal(unscaled)]);
        StoredRow { seq: seq(1), created: seq(1), deleted: false, row, place: RowPlace::Own }
    };
    assert_eq!(fixture.write(fixture.spec(small(1)), &[row(99_999)]).unwrap().len(), 1);
    let error = fixture.write(fixture.spec(small(1)), &[row(100_000)]).err().unwrap();
    assert_eq!(error.code(), ErrorCode::Internal);
}

#[test]
fn rows_out_of_order_are_refused_and_leave_nothing() {
    let fixture = Fixture::new(bodies());
    let mut stored = numbered(&fixture.table, 3);
    stored.swap(0, 1);
    let error = fixture.write(fixture.spec(small(1)), &stored).err().unwrap();
    assert_eq!(error.code(), ErrorCode::Internal);
    let left: Vec<_> = run(fixture.store.list("").try_collect()).unwrap();
    assert!(left.is_empty(), "{left:?}");
    assert!(fixture.write(fixture.spec(small(1)), &[]).unwrap().is_empty(), "no rows, no segment");
}

/// Any engine reads the file: plain column names, ids, and what it says of itself.
#[test]
fn the_file_says_what_it_is() {
    let fixture = Fixture::new(table_with(&[DataType::BigInt, DataType::SmallInt, DataType::Text], &[0]));
    let value = |i: i64| [Value::Int(i), Value::Int(i % 3), Value::Text(format!("unique {i}"))];
    let row = |i: i64| StoredRow {
        seq: seq(i),
        created: seq(i),
        deleted: false,
        row: row_codec::encode(&fixture.table, &value(i)),
        place: RowPlace::Own,
    };
    let stored: Vec<StoredRow> = (1..=100).map(row).collect();
    let reader = &fixture.write(fixture.spec(small(1_000)), &stored).unwrap()[0];
    let footer = run(reader.footer()).unwrap();
    let file = footer.file();
    let mut schema = Vec::new();
    parquet::schema::printer::print_schema(&mut schema, file.file_metadata().schema());
    let schema = String::from_utf8(schema).unwrap();
    let expected = "message arrow_schema {
  REQUIRED INT64 c0 [1];
  OPTIONAL INT32 c1 [2] (INTEGER(16,true));
  OPTIONAL BYTE_ARRAY c2 [3] (STRING);
  REQUIRED INT64 _seq;
  REQUIRED BOOLEAN _deleted;
  REQUIRED INT64 _created;
}
";
    assert_eq!(schema, expected);
    let pairs = file.file_metadata().key_value_metadata().unwrap().iter();
    let pairs: Vec<String> = pairs
        .filter(|pair| pair.key.starts_with("inboxdb."))
        .map(|pair| format!("{} = {}", pair.key, pair.value.as_deref().unwrap()))
        .collect();
    let expected = [
        r#"inboxdb.table = {"id":1,"name":"t.t"}"#,
        "inboxdb.owner = alice",
        "inboxdb.schema_version = 1",
        r#"inboxdb.column_ids = {"c0":1,"c1":2,"c2":3}"#,
        "inboxdb.first_seq = 1",
        "inboxdb.last_seq = 100",
        "inboxdb.checksum = xxh3:5f15ea3128d5c7f7",
    ];
    assert_eq!(pairs, expected);
    let columns = file.row_group(0).columns().iter().map(|column| {
        let dictionary = if column.dictionary_page_offset().is_some() { " dictionary" } else { "" };
        let bloom = if column.bloom_filter_offset().is_some() { " bloom" } else { "" };
        format!("{}{dictionary}{bloom}", column.column_path().string())
    });
    assert_eq!(columns.collect::<Vec<_>>(), ["c0 bloom", "c1 dictionary", "c2", "_seq", "_deleted", "_created"]);
    let mut meta = serde_json::to_value(&reader.entry().meta).unwrap();
    for differs_by_codec in ["bytes", "checksum"] {
        assert!(meta.as_object_mut().unwrap().remove(differs_by_codec).is_some());
    }
    let expected = serde_json::json!({
        "id": 1, "storage": "local", "path": "t/t/alice/1-0000000000000001.parquet", "first_seq": 1, "last_seq": 100, "rows": 100,
        "schema_version": 1, "created_at": 1_700_000_000_000i64, "deleted_rows": 0, "tombstones": 0,
        "key_min": "gAAAAAAAAAE=", "key_max": "gAAAAAAAAGQ=",
        "stats": {
            "1": { "type": "BigInt", "min": "1", "max": "100", "nulls": 0 },
            "2": { "type": "SmallInt", "min": 0, "max": 2, "nulls": 0 },
            "3": { "type": "Text", "min": "unique 1", "max": "unique 99", "nulls": 0 },
        },
    });
    assert_eq!(meta, expected);
}

#[test]
fn an_altered_table_reads_its_old_segments() {
    let types = [DataType::BigInt, DataType::Int, DataType::Text, DataType::Boolean];
    let fixture = Fixture::new(table_with(&types, &[0]));
    let values = [Value::Int(1), Value::Int(-7), Value::Text("hi".into()), Value::Bool(true)];
    let stored = StoredRow {
        seq: seq(5),
        created: seq(2),
        deleted: true,
        row: row_codec::encode(&fixture.table, &values),
        place: RowPlace::Own,
    };
    let reader = &fixture.write(fixture.spec(small(10)), &[stored]).unwrap()[0];
    // c0 renamed, c1 widened, c2 dropped, one column added with and one without a default, and all in another order.
    let column = |id: u32, name: &str, data_type: DataType, default: Option<&str>| ColumnMeta {
        id,
        name: ColumnName::parse(name).unwrap(),
        data_type,
        nullable: name != "id" && name != "added",
        default: default.map(|text| ColumnDefault::Literal(text.to_owned())),
    };
    let mut altered = TableMeta::clone(&fixture.table);
    altered.schema_version = 4;
    altered.columns = vec![
        column(9, "added", DataType::Text, Some("'it''s'")),
        column(2, "c1", DataType::BigInt, None),
        column(1, "id", DataType::BigInt, None),
        column(4, "c3", DataType::Boolean, None),
        column(10, "c2", DataType::Embedding(2), None),
    ];
    altered.primary_key = vec![2];
    let altered = Arc::new(altered);
    let today = SegmentReader::new(&fixture.store, &fixture.cache, altered.clone(), alice(), reader.entry().clone());
    let read = rows(&today, SegmentScan::default()).unwrap();
    let expected = [Value::Text("it's".into()), Value::Int(-7), Value::Int(1), Value::Bool(true), Value::Null];
    assert_eq!(row_codec::decode(&altered, &read[0].1.row).unwrap(), expected);
    assert_eq!((read[0].1.seq, read[0].1.created, read[0].1.deleted), (seq(5), seq(2), true));
    let only_added = batches(&today, SegmentScan { projection: Some(vec![0]), ..SegmentScan::default() });
    assert_eq!(only_added[0].batch.column(0).as_string::<i32>().value(0), "it's");
    let predicate = RowPredicate {
        columns: vec![0],
        evaluate: Arc::new(|batch| Ok(BooleanArray::from(vec![batch.column(0).as_string::<i32>().value(0) == "x"]))),
    };
    assert!(batches(&today, SegmentScan { predicates: vec![predicate], ..SegmentScan::default() }).is_empty());
    let wrong = SegmentScan { projection: Some(vec![7]), ..SegmentScan::default() };
    assert!(run(today.scan(wrong)).is_err(), "there is no such column");
}

/// A file and an entry of format 1, as they were written when it was new.
#[test]
fn segments_of_the_first_form_are_read() {
    let table = table_with(ALL, &[0, 6]);
    let fixture = Fixture::new(table);
    let stored = first_rows(&fixture.table);
    let entry = super::SegmentEntry::from_bytes(include_bytes!("fixtures/segment-1.entry")).unwrap();
    let path = fixture.folder.path().join(&entry.meta.path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, include_bytes!("fixtures/segment-1.parquet")).unwrap();
    let reader = SegmentReader::new(&fixture.store, &fixture.cache, fixture.table.clone(), alice(), Arc::new(entry));
    run(reader.verify()).unwrap();
    let read: Vec<StoredRow> = rows(&reader, SegmentScan::default()).unwrap().into_iter().map(|(_, row)| row).collect();
    assert_eq!(read, stored);
    let keys: Vec<_> = stored
        .iter()
        .map(|row| {
            let values = row_codec::decode(&fixture.table, &row.row).unwrap();
            crate::storage::keys::encode_pk(&fixture.table, &values, 1).unwrap()
        })
        .collect();
    let live = stored.iter().filter(|row| !row.deleted).count();
    assert_eq!(run(reader.find(&keys, &[])).unwrap().len(), live);
}

/// Fifty rows of all types.
fn first_rows(table: &TableMeta) -> Vec<StoredRow> {
    let value = |ty: DataType, i: i64| match ty {
        DataType::Boolean => Value::Bool(i % 3 == 0),
        DataType::SmallInt | DataType::Int | DataType::Date => Value::Int(i * 37 - 900),
        DataType::BigInt | DataType::Time | DataType::Timestamp | DataType::DateTime => Value::Int(i * 1_000_003),
        DataType::Float | DataType::Double => Value::Float((i - 25) as f64 / 4.0),
        DataType::Text => Value::Text(format!("text {i} \u{e9}").repeat(1 + (i % 12) as usize)),
        DataType::Bytes => Value::Bytes(vec![i as u8; (i % 5) as usize]),
        DataType::Uuid => Value::Uuid([i as u8; 16]),
        DataType::Decimal { .. } => Value::Decimal(i128::from(i - 25) * 1_000_000_007),
        DataType::Json | DataType::File => Value::Text(format!("{{\"i\":{i}}}")),
        DataType::Embedding(n) => Value::Vector((0..n).map(|k| (i * i64::from(k)) as f32 / 2.0).collect()),
    };
    let row = |i: i64| {
        let cell = |(column, ty): (usize, &DataType)| {
            let null = !table.is_key(column) && (i + column as i64) % 6 == 0;
            if null { Value::Null } else { value(*ty, i) }
        };
        let values: Vec<Value> = ALL.iter().enumerate().map(cell).collect();
        let created = if i % 4 == 0 { i } else { i * 10 };
        StoredRow {
            seq: seq(i * 10),
            created: seq(created),
            deleted: i % 9 == 0,
            row: row_codec::encode(table, &values),
            place: RowPlace::Own,
        }
    };
    (1..=50).map(row).collect()
}

#[test]
fn a_predicates_error_ends_the_scan_as_it_is() {
    let fixture = Fixture::new(bodies());
    let reader = &fixture.write(fixture.spec(small(10)), &numbered(&fixture.table, 5)).unwrap()[0];
    let predicate =
        RowPredicate { columns: vec![0], evaluate: Arc::new(|_| Err(Error::Execution("divide by zero".to_owned()))) };
    let error = rows(reader, SegmentScan { predicates: vec![predicate], ..SegmentScan::default() }).unwrap_err();
    assert_eq!(error.to_string(), "Execution error: divide by zero");
}

/// Every way in which a file can be wrong is told with its name, and nothing is answered from it.
#[test]
fn damage_is_told() {
    let fixture = Fixture::new(bodies());
    let reader = &fixture.write(fixture.spec(small(1_000)), &numbered(&fixture.table, 200)).unwrap()[0];
    let path = fixture.folder.path().join(&reader.entry().meta.path);
    let sound = std::fs::read(&path).unwrap();
    let read_anew = |table: &Arc<TableMeta>, owner: Owner| {
        let cache = SegmentCache::new(1 << 20, 1 << 20);
        let anew = SegmentReader::new(&fixture.store, &cache, table.clone(), owner, reader.entry().clone());
        let read = rows(&anew, SegmentScan::default());
        assert_eq!(read.is_ok(), run(anew.verify()).is_ok());
        read
    };
    let told = |expected: &str, table: &Arc<TableMeta>, owner: Owner| {
        let error = read_anew(table, owner).unwrap_err();
        assert_eq!(error.code(), ErrorCode::SegmentDamaged);
        let text = error.to_string();
        assert!(text.contains("t/t/alice/1-0000000000000001.parquet") && text.contains(expected), "{text}: {expected}");
    };
    assert_eq!(read_anew(&fixture.table, alice()).unwrap().len(), 200);
    told("another owner", &fixture.table, Owner::User(UserId::parse("bob").unwrap()));
    let mut other = TableMeta::clone(&fixture.table);
    other.id = crate::model::TableId(2);
    told("of table t.t (1), not of 2", &Arc::new(other), alice());
    for at in [0, 5, sound.len() / 2, sound.len() - 40, sound.len() - 1] {
        let mut flipped = sound.clone();
        flipped[at] ^= 4;
        std::fs::write(&path, flipped).unwrap();
        told("are not what was written", &fixture.table, alice());
    }
    std::fs::write(&path, &sound[..sound.len() / 2]).unwrap();
    told(&format!("of {} bytes", sound.len()), &fixture.table, alice());
    std::fs::write(&path, []).unwrap();
    told("bytes", &fixture.table, alice());
    std::fs::remove_file(&path).unwrap();
    told("the file is missing", &fixture.table, alice());
    std::fs::write(&path, &sound).unwrap();
    assert_eq!(read_anew(&fixture.table, alice()).unwrap().len(), 200);
}

/// A file that is whole and another one's: its own checksums are right, the entry's are not.
#[test]
fn another_segments_file_is_not_taken() {
    let fixture = Fixture::new(bodies());
    let stored = numbered(&fixture.table, 200);
    let readers = fixture.write(fixture.spec(small(100)), &stored).unwrap();
    let file = |reader: &SegmentReader| fixture.folder.path().join(&reader.entry().meta.path);
    std::fs::copy(file(&readers[0]), file(&readers[1])).unwrap();
    let error = rows(&readers[1], SegmentScan::default()).unwrap_err();
    assert_eq!(error.code(), ErrorCode::SegmentDamaged, "{error}");
    // An entry that means another range than the file it names, checksums and all.
    let mut entry = super::SegmentEntry::clone(readers[0].entry());
    entry.meta.first_seq = seq(1);
    let reader = SegmentReader::new(&fixture.store, &fixture.cache, fixture.table.clone(), alice(), Arc::new(entry));
    let error = rows(&reader, SegmentScan::default()).unwrap_err();
    assert!(error.to_string().contains("it holds 100 rows, 3 to 300; the manifest says 100, 1 to 300"), "{error}");
}

/// Not damage: the same may work later.
#[test]
fn a_storage_that_is_away_is_told() {
    let fixture = Fixture::new(bodies());
    let reader = &fixture.write(fixture.spec(small(10)), &numbered(&fixture.table, 5)).unwrap()[0];
    let spool = tempfile::tempdir().unwrap();
    let away = ColdStore::bucket(Arc::new(Away), spool.path()).unwrap();
    let anew = SegmentReader::new(&away, &fixture.cache, fixture.table.clone(), alice(), reader.entry().clone());
    let large = vec![0; 9 << 20];
    let errors = [
        rows(&anew, SegmentScan::default()).unwrap_err(),
        run(anew.verify()).unwrap_err(),
        run(away.replace("a", b"small")).unwrap_err(),
        run(away.replace("a", &large)).unwrap_err(),
        run(away.content("a")).unwrap_err(),
        run(away.remove("a")).unwrap_err(),
        run(away.list("a").try_collect::<Vec<_>>()).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.code(), ErrorCode::ColdUnavailable);
        assert!(error.to_string().contains("connection refused"), "{error}");
    }
    assert_eq!(std::fs::read_dir(spool.path()).unwrap().count(), 0, "nothing is left of what was not taken");
}

#[test]
fn a_bucket_serves_like_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Fixture::new(bodies());
    let store = ColdStore::bucket(Arc::new(InMemory::new()), folder.path()).unwrap();
    let stored = numbered(&fixture.table, 300);
    let mut next_id = || SegmentId(7);
    let mut writer = SegmentWriter::new(&store, fixture.spec(small(1_000)), &mut next_id);
    stored.iter().for_each(|row| writer.push(row).unwrap());
    let drafts: Vec<DraftSegment> = writer.finish().unwrap();
    for draft in drafts {
        let entry = draft.entry().clone();
        let reader = SegmentReader::new(&store, &fixture.cache, fixture.table.clone(), alice(), Arc::new(entry));
        let missing = rows(&reader, SegmentScan::default()).unwrap_err();
        assert!(missing.to_string().contains("missing"), "a draft is not there yet: {missing}");
        run(DraftSegment::publish_all(vec![draft], &store)).pop().unwrap().unwrap();
        assert_eq!(rows(&reader, SegmentScan::default()).unwrap().len(), 300);
        run(reader.verify()).unwrap();
        run(store.remove(&reader.entry().meta.path)).unwrap();
        assert!(run(reader.verify()).unwrap_err().to_string().contains("missing"));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the spool is empty");
}
