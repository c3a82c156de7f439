//! Rows of all versions of a table that is altered again and again read as if they had been rewritten each time.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::super::tests::{table_with, value_of};
use super::super::{BatchBuilder, decode, encode, patch, todays};
use crate::error::Error;
use crate::model::{
    Assignment, ColumnMeta, ColumnName, DataType, Owner, RowBytes, RowPlace, SchemaChange, Seq, StoredRow, TableMeta,
    UserId, Value,
};

const TYPES: &[DataType] = &[
    DataType::SmallInt,
    DataType::Int,
    DataType::BigInt,
    DataType::Boolean,
    DataType::Float,
    DataType::Double,
    DataType::Decimal { precision: 20, scale: 2 },
    DataType::Text,
    DataType::Bytes,
    DataType::Date,
    DataType::Time,
    DataType::Timestamp,
    DataType::DateTime,
    DataType::Uuid,
    DataType::Json,
    DataType::File,
    DataType::Embedding(3),
];

const WIDER: &[DataType] = &[
    DataType::Int,
    DataType::BigInt,
    DataType::Float,
    DataType::Double,
    DataType::Decimal { precision: 30, scale: 4 },
    DataType::Decimal { precision: 38, scale: 10 },
    DataType::Text,
];

/// One step of a table's life. Numbers choose among what there is at that moment.
#[derive(Debug, Clone)]
enum Step {
    Write(Vec<Value>),
    Patch(usize, usize, Vec<Value>),
    Add(usize, Vec<Value>),
    Drop(usize),
    Widen(usize, usize),
    /// Changes nothing about cells.
    Rename(usize),
}

/// A value, or NULL, for each of [`TYPES`].
fn any_values() -> impl Strategy<Value = Vec<Value>> {
    TYPES.iter().map(|ty| prop_oneof![1 => Just(Value::Null), 3 => value_of(*ty)].boxed()).collect::<Vec<_>>()
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any_values().prop_map(Step::Write),
        1 => (any::<usize>(), any::<usize>(), any_values()).prop_map(|(row, column, values)| Step::Patch(row, column, values)),
        3 => (any::<usize>(), any_values()).prop_map(|(ty, values)| Step::Add(ty, values)),
        1 => any::<usize>().prop_map(Step::Drop),
        3 => (any::<usize>(), any::<usize>()).prop_map(|(column, to)| Step::Widen(column, to)),
        1 => any::<usize>().prop_map(Step::Rename),
    ]
}

/// The given value for a type; of a wider one the value of a type that widens to it.
fn pick(values: &[Value], ty: DataType) -> Value {
    let from = TYPES.iter().position(|own| own.widens_to(ty)).unwrap();
    values[from].clone().widened(TYPES[from], ty).unwrap()
}

/// By column id.
type Cells = BTreeMap<u32, Value>;

struct Life {
    table: TableMeta,
    rows: Vec<(RowBytes, Cells)>,
    names: usize,
}

impl Life {
    fn step(&mut self, step: Step) {
        let own = self.table.columns.len();
        // The first column is the key.
        let other = |n: usize| (own > 1).then(|| 1 + n % (own - 1));
        match step {
            Step::Write(values) => {
                let mut values: Vec<Value> = self.table.columns.iter().map(|c| pick(&values, c.data_type)).collect();
                if values[0].is_null() {
                    values[0] = Value::Int(0);
                }
                let cells = self.table.columns.iter().map(|c| c.id).zip(values.iter().cloned()).collect();
                self.rows.push((encode(&self.table, &values), cells));
            }
            Step::Patch(row, column, values) => {
                let Some(count) = (!self.rows.is_empty()).then_some(self.rows.len()) else { return };
                let Some(column) = other(column) else { return };
                let (bytes, cells) = &mut self.rows[row % count];
                let value = pick(&values, self.table.columns[column].data_type);
                *bytes = patch(&self.table, bytes, &[Assignment { column, value: value.clone() }]).unwrap();
                cells.insert(self.table.columns[column].id, value);
            }
            Step::Add(ty, values) => {
                let data_type = TYPES[ty % TYPES.len()];
                self.names += 1;
                let name = ColumnName::parse(&format!("a{}", self.names)).unwrap();
                let column = ColumnMeta { id: 0, name, data_type, nullable: true, default: None };
                let missing = pick(&values, data_type);
                self.alter(SchemaChange::AddColumn { column, missing: missing.clone() });
                let id = self.table.columns.last().unwrap().id;
                for (_, cells) in &mut self.rows {
                    assert!(cells.insert(id, missing.clone()).is_none(), "column {id} was there before");
                }
            }
            Step::Drop(column) => {
                let Some(position) = other(column) else { return };
                // The id stays in the model's rows: it must never be given again.
                self.alter(SchemaChange::DropColumn { position });
            }
            Step::Widen(column, to) => {
                let Some(position) = other(column) else { return };
                let before = self.table.columns[position].clone();
                let wider: Vec<DataType> = WIDER
                    .iter()
                    .copied()
                    .filter(|to| *to != before.data_type && before.data_type.widens_to(*to))
                    .collect();
                if wider.is_empty() {
                    return;
                }
                let data_type = wider[to % wider.len()];
                self.alter(SchemaChange::ChangeColumn { position, column: ColumnMeta { data_type, ..before.clone() } });
                for (_, cells) in &mut self.rows {
                    let value = cells.remove(&before.id).unwrap();
                    cells.insert(before.id, value.widened(before.data_type, data_type).unwrap());
                }
            }
            Step::Rename(column) => {
                let Some(position) = other(column) else { return };
                self.names += 1;
                let name = ColumnName::parse(&format!("r{}", self.names)).unwrap();
                let column = ColumnMeta { name, ..self.table.columns[position].clone() };
                self.alter(SchemaChange::ChangeColumn { position, column });
            }
        }
    }

    fn alter(&mut self, change: SchemaChange) {
        let altered = self.table.altered(change, 1);
        // Through its record, as after a restart.
        self.table = serde_json::from_str(&serde_json::to_string(&altered).unwrap()).unwrap();
        assert_eq!(self.table, altered);
    }

    fn check(&self, projection: &[usize]) {
        let table = Arc::new(self.table.clone());
        let full = table.columns.len() + 2;
        let projection: Vec<usize> = projection.iter().map(|position| position % full).collect();
        let mut stored = BatchBuilder::new(table.clone(), Some(&projection));
        let mut rewritten = BatchBuilder::new(table.clone(), Some(&projection));
        for (bytes, cells) in &self.rows {
            let expected: Vec<Value> = table.columns.iter().map(|column| cells[&column.id].clone()).collect();
            assert_eq!(decode(&table, bytes).unwrap(), expected);
            let today = encode(&table, &expected);
            assert_eq!(todays(&table, bytes).unwrap(), today);
            let row = |row: RowBytes| StoredRow {
                seq: Seq::ZERO,
                created: Seq::ZERO,
                deleted: false,
                row,
                place: RowPlace::Own,
            };
            stored.push(&Owner::Shared, &row(bytes.clone())).unwrap();
            rewritten.push(&Owner::Shared, &row(today)).unwrap();
        }
        assert_eq!(stored.finish().unwrap(), rewritten.finish().unwrap());
    }
}

proptest! {
    #[test]
    fn mixed_versions_read_as_if_rewritten(
        steps in proptest::collection::vec(any_step(), 1..40),
        projection in proptest::collection::vec(any::<usize>(), 0..6),
    ) {
        let table = table_with(&[DataType::BigInt, DataType::Text, DataType::SmallInt, DataType::Float], &[0]);
        let mut life = Life { table, rows: Vec::new(), names: 0 };
        for step in steps {
            life.step(step);
        }
        life.check(&projection);
    }

    #[test]
    fn damaged_rows_of_an_older_version_are_an_error_not_a_panic(
        steps in proptest::collection::vec(any_step(), 1..12),
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let table = table_with(&[DataType::BigInt, DataType::Text], &[0]);
        let mut life = Life { table, rows: Vec::new(), names: 0 };
        for step in steps {
            life.step(step);
        }
        let mut row = vec![1];
        row.extend(bytes);
        let _ = decode(&life.table, &RowBytes(Bytes::from(row)));
    }
}

#[test]
fn a_row_of_a_newer_version_is_for_another_reader() {
    let table = table_with(&[DataType::BigInt, DataType::Int], &[0]);
    let newer = table.altered(SchemaChange::DropColumn { position: 1 }, 1);
    let row = encode(&newer, &[Value::Int(7)]);
    assert!(matches!(decode(&table, &row), Err(Error::TableAltered(_))));
    let mut batch = BatchBuilder::new(Arc::new(table), None);
    let stored = StoredRow { seq: Seq::ZERO, created: Seq::ZERO, deleted: false, row, place: RowPlace::Own };
    let owner = Owner::User(UserId::parse("alice").unwrap());
    assert!(matches!(batch.push(&owner, &stored), Err(Error::TableAltered(_))));
}

/// The bytes that version 1 of `t(id BIGINT, s SMALLINT, a TEXT)` wrote before there was an ALTER TABLE.
#[test]
fn a_row_written_before_there_were_versions_is_one_of_version_1() {
    let old: &[u8] = &[1, 0b010, 7, 0, 0, 0, 0, 0, 0, 0, 2, b'h', b'i'];
    let row = RowBytes(Bytes::from_static(old));
    let table = table_with(&[DataType::BigInt, DataType::SmallInt, DataType::Text], &[0]);
    assert_eq!(decode(&table, &row).unwrap(), [Value::Int(7), Value::Null, Value::Text("hi".into())]);
    let name = ColumnName::parse("late").unwrap();
    let column = ColumnMeta { id: 0, name, data_type: DataType::Int, nullable: true, default: None };
    let table = table.altered(SchemaChange::AddColumn { column, missing: Value::Int(3) }, 1);
    let table = table.altered(SchemaChange::DropColumn { position: 1 }, 1);
    assert_eq!(decode(&table, &row).unwrap(), [Value::Int(7), Value::Text("hi".into()), Value::Int(3)]);
}
