//! Which queries a change can concern at all: of those whose filter says `column = literal`, the ones whose literal is in it.
//!
//! Owns the way from a value to the queries that ask for it. Thousands of subscribers who follow one room each cost a change one
//! look-up, and not one evaluation each. What a query is told is decided by its whole filter, here only which are asked.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int16Type, Int32Type, Int64Type};

use super::ChangeBatch;
use crate::error::{Error, Result};
use crate::model::ChangeKind;

/// A part of a query's filter: rows with another value in this column, or NULL, never match.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Equality {
    pub column: String,
    pub value: EqualityValue,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EqualityValue {
    /// Of SMALLINT, INT, BIGINT.
    Int(i64),
    Text(Box<str>),
}

/// What queries are known by.
pub(super) type Identity = Arc<str>;

/// Queries by what their filters ask for. Empty, it owns no memory.
#[derive(Debug, Default)]
pub(super) struct EqualityIndex {
    /// Column → value → queries.
    columns: BTreeMap<String, HashMap<EqualityValue, Vec<Identity>>>,
}

impl EqualityIndex {
    pub fn insert(&mut self, equality: &Equality, query: Identity) {
        let values = self.columns.entry(equality.column.clone()).or_default();
        values.entry(equality.value.clone()).or_default().push(query);
    }

    pub fn remove(&mut self, equality: &Equality, query: &str) {
        let Some(values) = self.columns.get_mut(&equality.column) else { return };
        let Some(queries) = values.get_mut(&equality.value) else { return };
        queries.retain(|other| &**other != query);
        if queries.is_empty() {
            values.remove(&equality.value);
        }
        if values.is_empty() {
            self.columns.remove(&equality.column);
        }
    }

    /// The queries that the changes may concern: those that ask for the same value together, with the changes that have it.
    ///
    /// # Errors
    /// `INTERNAL` where rows have not the table's columns.
    pub fn concerned(&self, batch: &ChangeBatch) -> Result<Vec<(&[Identity], Vec<usize>)>> {
        let mut concerned = Vec::new();
        for (column, values) in &self.columns {
            let mut changes: HashMap<&EqualityValue, Vec<usize>> = HashMap::new();
            let mut old_row = 0;
            let new = Values::of(batch.rows(), column)?;
            let old = batch.replaced().map(|old| Values::of(old, column)).transpose()?;
            for (change, kind) in batch.kinds().iter().enumerate() {
                let mut note = |value: Option<EqualityValue>| {
                    let known = value.and_then(|value| values.get_key_value(&value));
                    if let Some((value, _)) = known {
                        let of_value = changes.entry(value).or_default();
                        if of_value.last() != Some(&change) {
                            of_value.push(change);
                        }
                    }
                };
                note(new.get(change));
                if *kind != ChangeKind::Insert {
                    note(old.as_ref().and_then(|old| old.get(old_row)));
                    old_row += 1;
                }
            }
            let of_value = |(value, changes)| values.get(value).map(|queries| (queries.as_slice(), changes));
            concerned.extend(changes.into_iter().filter_map(of_value));
        }
        Ok(concerned)
    }
}

/// One column of some rows.
struct Values<'a>(&'a dyn Array);

impl<'a> Values<'a> {
    fn of(rows: &'a RecordBatch, column: &str) -> Result<Self> {
        let column = rows.column_by_name(column);
        column.map(|column| Self(column.as_ref())).ok_or_else(|| Error::internal("a filter on a column that rows lack"))
    }

    fn get(&self, row: usize) -> Option<EqualityValue> {
        if self.0.is_null(row) {
            return None;
        }
        Some(match self.0.data_type() {
            DataType::Int16 => EqualityValue::Int(self.0.as_primitive::<Int16Type>().value(row).into()),
            DataType::Int32 => EqualityValue::Int(self.0.as_primitive::<Int32Type>().value(row).into()),
            DataType::Int64 => EqualityValue::Int(self.0.as_primitive::<Int64Type>().value(row)),
            DataType::Utf8 => EqualityValue::Text(self.0.as_string::<i32>().value(row).into()),
            _ => return None,
        })
    }
}
