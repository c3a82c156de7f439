use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::model::{RowPlace, Value};
use crate::storage::keys::encode_pk;
use crate::storage::row_codec::{self, tests::table_with};
use crate::storage::segment::testing::{Fixture, alice, any_values, column_value, rows_of, run, small};
use crate::storage::segment::{SegmentReader, SegmentTarget};

const TYPES: &[DataType] = &[
    DataType::BigInt,
    DataType::Boolean,
    DataType::SmallInt,
    DataType::Float,
    DataType::Double,
    DataType::Text,
    DataType::Bytes,
    DataType::Date,
    DataType::DateTime,
    DataType::Uuid,
    DataType::Decimal { precision: 9, scale: 2 },
    DataType::Decimal { precision: 38, scale: 4 },
    DataType::Json,
];

/// Positions in `TYPES` of one to three key columns.
fn key() -> impl Strategy<Value = Vec<usize>> {
    proptest::sample::subsequence((0..TYPES.len() - 1).collect::<Vec<_>>(), 1..=3).prop_shuffle()
}

#[derive(Debug, Clone)]
struct Case {
    /// The key's columns.
    key: Vec<usize>,
    /// Values of which the rows are made.
    pool: Vec<Vec<Value>>,
    /// Each one's values, and whether it is a tombstone.
    rows: Vec<(usize, bool)>,
    /// Values whose keys are asked for.
    asked: Vec<usize>,
    deleted: Vec<u32>,
}

fn case() -> impl Strategy<Value = Case> {
    key().prop_flat_map(|key| {
        let pool = proptest::collection::vec(any_values(TYPES, &key), 1..40);
        let rows = proptest::collection::vec((any::<proptest::sample::Index>(), proptest::bool::weighted(0.2)), 1..120);
        let asked = proptest::collection::vec(any::<proptest::sample::Index>(), 0..6);
        let deleted = proptest::collection::btree_set(0u32..120, 0..40);
        (Just(key), pool, rows, asked, deleted).prop_map(|(key, pool, rows, asked, deleted)| Case {
            rows: rows.into_iter().map(|(row, deleted)| (row.index(pool.len()), deleted)).collect(),
            asked: asked.into_iter().map(|key| key.index(pool.len())).collect(),
            deleted: deleted.into_iter().collect(),
            key,
            pool,
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn finds_what_a_linear_search_finds(case in case(), sorted in any::<bool>()) {
        let Case { key, pool, mut rows, asked, deleted } = case;
        let fixture = Fixture::new(table_with(TYPES, &key));
        let pk = |row: usize| encode_pk(&fixture.table, &pool[row], 1).unwrap();
        if sorted {
            rows.sort_by_key(|(row, _)| pk(*row));
        }
        let values = rows.iter().map(|(row, deleted)| (pool[*row].clone(), 2, *deleted, false)).collect();
        let stored = rows_of(&fixture.table, values);
        let reader = &fixture.write(fixture.spec(small(1_000)), &stored).unwrap()[0];
        let keys: Vec<PkBytes> = asked.iter().map(|row| pk(*row)).collect();
        let mut expected = Vec::new();
        for (position, (row, stored)) in rows.iter().zip(&stored).enumerate() {
            let position = position as u32;
            if keys.contains(&pk(row.0)) && !stored.deleted && !deleted.contains(&position) {
                let place = RowPlace::Segment { segment: reader.entry().meta.id.0, position };
                expected.push(FoundRow { key: pk(row.0), position, row: StoredRow { place, ..stored.clone() } });
            }
        }
        prop_assert_eq!(run(reader.find(&keys, &deleted)).unwrap(), expected);
    }

    #[test]
    fn parquets_filter_knows_every_value(
        (ty, values) in proptest::sample::select(&TYPES[..TYPES.len() - 1])
            .prop_flat_map(|ty| (Just(ty), proptest::collection::vec(column_value(ty), 1..60)))
    ) {
        let fixture = Fixture::new(table_with(&[ty], &[0]));
        let rows = rows_of(&fixture.table, values.iter().map(|v| (vec![v.clone()], 1, false, true)).collect());
        let reader = &fixture.write(fixture.spec(small(1_000)), &rows).unwrap()[0];
        let footer = run(reader.footer()).unwrap();
        for (row, value) in values.iter().enumerate() {
            let key = encode_pk(&fixture.table, std::slice::from_ref(value), 1).unwrap();
            let held = run(reader.bloom_holds(&footer, ty, (row / 32, 0), &[&key])).unwrap();
            prop_assert!(held, "{value:?} of {ty}");
        }
    }
}

fn increasing(rows: i64) -> (Fixture, SegmentReader) {
    let fixture = Fixture::new(table_with(&[DataType::BigInt, DataType::Text], &[0]));
    let values = |i: i64| vec![Value::Int(i * 2), Value::Text(format!("body {i}"))];
    let stored = rows_of(&fixture.table, (0..rows).map(|i| (values(i), 1, false, true)).collect());
    let reader = fixture.write(fixture.spec(SegmentTarget::default()), &stored).unwrap().remove(0);
    (fixture, reader)
}

fn number(fixture: &Fixture, i: i64) -> PkBytes {
    encode_pk(&fixture.table, &[Value::Int(i), Value::Null], 1).unwrap()
}

#[test]
fn a_key_that_is_nowhere_opens_nothing() {
    let (fixture, reader) = increasing(3_000);
    let above: Vec<PkBytes> = (6_000..6_100).map(|i| number(&fixture, i)).collect();
    assert!(run(reader.find(&above, &[])).unwrap().is_empty());
    assert_eq!(fixture.cache.read().footers, 0, "increasing keys are above every segment's");
    let between: Vec<PkBytes> = (0..3_000).map(|i| number(&fixture, i * 2 + 1)).collect();
    let seems = between.iter().filter(|key| reader.entry().may_hold(key)).count();
    assert!(seems < 90, "{seems} of 3,000 keys that are not there seem to be");
}

#[test]
fn a_key_is_read_from_one_page_of_each_column() {
    let (fixture, reader) = increasing(20_000);
    let found = run(reader.find(&[number(&fixture, 24_000)], &[])).unwrap();
    assert_eq!((found.len(), found[0].position), (1, 12_000));
    let body = &row_codec::decode(&fixture.table, &found[0].row.row).unwrap()[1];
    assert_eq!(*body, Value::Text("body 12000".to_owned()));
    let footer = run(reader.footer()).unwrap();
    let key = number(&fixture, 24_000);
    let pages = key_pages(&footer, DataType::BigInt, (0, 0), &[&key], 0..20_000).unwrap();
    assert_eq!((pages.len(), pages[0].clone()), (1, 10_240..12_288));
    let reads = fixture.cache.read();
    run(reader.find(&[key], &[])).unwrap();
    assert_eq!(fixture.cache.read(), reads, "the second time from memory");
    assert!(run(reader.find(&[number(&fixture, 24_000)], &[12_000])).unwrap().is_empty(), "deleted");
}

#[test]
fn a_segment_without_the_key_column_is_damaged() {
    let (fixture, reader) = increasing(10);
    let mut other = crate::model::TableMeta::clone(&fixture.table);
    other.columns[0].id = 77;
    let table = Arc::new(other);
    let reader = SegmentReader::new(&fixture.store, &fixture.cache, table, alice(), reader.entry().clone());
    let error = run(reader.find(&[number(&fixture, 2)], &[])).unwrap_err();
    assert!(error.to_string().contains("no column of the key column c0"), "{error}");
}
