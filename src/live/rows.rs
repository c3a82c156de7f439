//! Rows as a subscriber sees them: the selected columns, and what every live row carries beside them.
//!
//! Owns which columns that is: `_seq` always, the owner's columns where the query addresses all owners, `_deleted` where
//! it is selected, the query sees tombstones, or the row is gone.
//! Never evaluates anything itself: the query does.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Int64Type, Schema};

use super::LiveQuery;
use crate::error::{Error, Result};
use crate::model::Seq;
use crate::model::result::{CellEncoders, RowObject};
use crate::model::schema::{DELETED_COLUMN, SEQ_COLUMN, STORAGE_ID_COLUMN, USER_ID_COLUMN};

/// Names a row of a STREAM table, which has no key.
const ROW_ID: &str = "row_id";

/// Projected rows, ready to be written.
#[derive(Debug)]
pub(crate) struct LiveRows {
    batch: RecordBatch,
    cells: CellEncoders,
    /// Columns of a row that is there.
    shown: Vec<usize>,
    /// Columns of a row that is gone: also `_deleted`.
    gone: Vec<usize>,
    /// The primary key, selected or not.
    key: Vec<usize>,
    seq: usize,
}

impl LiveRows {
    /// Projects `rows` (full schema), all of which match.
    pub(crate) fn project(query: &dyn LiveQuery, rows: &RecordBatch) -> Result<Self> {
        let projected = query.project(rows)?;
        let selected = projected.num_columns();
        let mut fields: Vec<_> = projected.schema().fields().iter().cloned().collect();
        let mut columns = projected.columns().to_vec();
        let mut shown: Vec<usize> = (0..selected).collect();
        let mut add = |name: &str| -> Result<usize> {
            if let Some(at) = fields.iter().position(|field| field.name() == name) {
                return Ok(at);
            }
            let at = rows.schema().index_of(name).map_err(Error::internal)?;
            fields.push(Arc::new(rows.schema().field(at).clone()));
            columns.push(rows.column(at).clone());
            Ok(fields.len() - 1)
        };
        let mut always = vec![SEQ_COLUMN];
        if query.all_owners() {
            always.extend([USER_ID_COLUMN, STORAGE_ID_COLUMN]);
        }
        if query.sees_tombstones() {
            always.push(DELETED_COLUMN);
        }
        for name in always {
            let at = add(name)?;
            if at >= selected {
                shown.push(at);
            }
        }
        let seq = add(SEQ_COLUMN)?;
        let deleted = add(DELETED_COLUMN)?;
        let mut gone = shown.clone();
        if !gone.contains(&deleted) {
            gone.push(deleted);
        }
        let key = key_columns(query, &projected, &mut add)?;
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(Error::internal)?;
        let cells = CellEncoders::new(&batch)?;
        Ok(Self { batch, cells, shown, gone, key, seq })
    }

    /// What is told of rows of a STREAM table that are gone: their names, `<owner>:<position of the row>`, and where each went.
    /// `rows` with their owners' columns.
    pub(crate) fn names(query: &dyn LiveQuery, rows: &RecordBatch, created: &[Seq], seqs: Vec<Seq>) -> Result<Self> {
        let owners = column(rows, USER_ID_COLUMN)?.clone();
        let users = owners.as_string_opt::<i32>().ok_or_else(|| Error::internal("_user_id is no column of texts"))?;
        let names = created.iter().enumerate().map(|(row, seq)| format!("{}:{seq}", users.value(row)));
        let names: ArrayRef = Arc::new(StringArray::from_iter_values(names));
        let seqs: ArrayRef = Arc::new(Int64Array::from_iter_values(seqs.into_iter().map(Seq::get)));
        let mut columns = vec![(ROW_ID, names), (SEQ_COLUMN, seqs)];
        if query.all_owners() {
            columns.push((USER_ID_COLUMN, owners));
            columns.push((STORAGE_ID_COLUMN, column(rows, STORAGE_ID_COLUMN)?.clone()));
        }
        let gone: Vec<usize> = (0..columns.len()).collect();
        let batch = RecordBatch::try_from_iter(columns).map_err(Error::internal)?;
        let cells = CellEncoders::new(&batch)?;
        Ok(Self { batch, cells, shown: Vec::new(), gone, key: Vec::new(), seq: 1 })
    }

    pub(crate) fn shown(&self, row: usize) -> RowObject<'_> {
        self.cells.object_of(row, &self.shown)
    }

    pub(crate) fn gone(&self, row: usize) -> RowObject<'_> {
        self.cells.object_of(row, &self.gone)
    }

    pub(crate) fn of_columns<'a>(&'a self, row: usize, columns: &'a [usize]) -> RowObject<'a> {
        self.cells.object_of(row, columns)
    }

    pub(crate) fn key(&self) -> &[usize] {
        &self.key
    }

    /// The columns of `old_values`: primary key, `_seq`, and what differs between row `row` here and row `other_row`
    /// of `other`.
    pub(crate) fn key_and_changed(&self, row: usize, other: &LiveRows, other_row: usize) -> Vec<usize> {
        let differs = |at: usize| {
            let (here, there) = (self.batch.column(at).slice(row, 1), other.batch.column(at).slice(other_row, 1));
            here.as_ref() != there.as_ref()
        };
        let told = |at: &usize| *at == self.seq || self.key.contains(at) || differs(*at);
        let unseen_key = self.key.iter().copied().filter(|at| !self.shown.contains(at));
        unseen_key.chain(self.shown.iter().copied().filter(told)).collect()
    }
}

/// The columns of the primary key. Those that are not selected are added under their own names, unless another column
/// has taken the name: a row can not have two of them.
fn key_columns(
    query: &dyn LiveQuery,
    projected: &RecordBatch,
    add: &mut impl FnMut(&str) -> Result<usize>,
) -> Result<Vec<usize>> {
    let table = query.table();
    let mut key = Vec::with_capacity(table.primary_key.len());
    for (column, selected) in table.primary_key.iter().zip(query.key_positions()) {
        let name = table.columns[*column].name.as_str();
        match selected {
            Some(at) => key.push(*at),
            None if projected.schema().field_with_name(name).is_ok() => {}
            None => key.push(add(name)?),
        }
    }
    Ok(key)
}

/// `_seq` of each row.
pub(crate) fn seqs(rows: &RecordBatch) -> Result<Vec<Seq>> {
    let column = column(rows, SEQ_COLUMN)?;
    let column = column
        .as_primitive_opt::<Int64Type>()
        .ok_or_else(|| Error::internal("_seq is no column of 64-bit integers"))?;
    column.values().iter().map(|raw| Seq::new(*raw).ok_or_else(|| Error::internal("a negative _seq"))).collect()
}

/// Whether each row is a tombstone.
pub(crate) fn tombstones(rows: &RecordBatch) -> Result<BooleanArray> {
    let column = column(rows, DELETED_COLUMN)?;
    column.as_boolean_opt().cloned().ok_or_else(|| Error::internal("_deleted is no column of booleans"))
}

/// Is row `row` true in a filter's answer?
pub(crate) fn holds(answer: &BooleanArray, row: usize) -> bool {
    answer.is_valid(row) && answer.value(row)
}

/// The rows at these positions, in this order.
pub(crate) fn take(rows: &RecordBatch, positions: &[u32]) -> Result<RecordBatch> {
    let all = positions.len() == rows.num_rows() && positions.iter().zip(0..).all(|(at, nth)| *at == nth);
    if all {
        return Ok(rows.clone());
    }
    take_record_batch(rows, &UInt32Array::from(positions.to_vec())).map_err(Error::internal)
}

/// `rows` as tombstones: gone at `seqs`.
pub(crate) fn as_tombstones(rows: &RecordBatch, seqs: Vec<Seq>) -> Result<RecordBatch> {
    let deleted: ArrayRef = Arc::new(BooleanArray::from(vec![true; rows.num_rows()]));
    let seqs: ArrayRef = Arc::new(Int64Array::from_iter_values(seqs.into_iter().map(Seq::get)));
    let schema = rows.schema();
    let columns = schema.fields().iter().zip(rows.columns()).map(|(field, column)| match field.name().as_str() {
        SEQ_COLUMN => seqs.clone(),
        DELETED_COLUMN => deleted.clone(),
        _ => column.clone(),
    });
    RecordBatch::try_new(schema.clone(), columns.collect()).map_err(Error::internal)
}

fn column<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    rows.column_by_name(name).ok_or_else(|| Error::internal(format!("rows without {name}")))
}
