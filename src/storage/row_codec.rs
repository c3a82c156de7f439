//! The one row encoding: a row's cells to bytes and back, to values and to Arrow.
//!
//! Form (`docs/on-disk-format.md`): schema version (LEB128) ∥ null bitmap (bit set = NULL, one per column) ∥ the cells
//! that are not NULL, in column order: fixed width little-endian, or LEB128 length ∥ bytes.
//! A row keeps the version that it was written under: one of an older version is read by that version's columns and
//! brought to today's ([`older`]), one of a newer version is for a reader with a newer definition.
//! Never stores `_seq`: it is the key. Never rewrites a row because its table was altered.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, FixedSizeBinaryBuilder,
    FixedSizeListBuilder, Float32Builder, Float64Builder, Int16Builder, Int32Builder, Int64Builder, RecordBatch,
    RecordBatchOptions, StringBuilder, Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{Field, Schema, SchemaRef};
use bytes::Bytes;

use super::homes::Homes;
use super::varint;
use crate::error::{Error, Result};
use crate::model::schema::RowLayout;
use crate::model::{Assignment, ColumnMeta, DataType, Owner, RowBytes, StoredRow, TableMeta, Value, ValueRef};

mod older;

mod arrow_cells;

pub(super) use arrow_cells::{ArrowCells, encode_rows, repeat};

/// Encodes one row: `values` are one per column of `table`, in order, each of which [`Value::fits`] its column.
pub fn encode(table: &TableMeta, values: &[Value]) -> RowBytes {
    debug_assert!(values.len() == table.columns.len());
    let mut out = Vec::with_capacity(16 + values.iter().map(size_hint).sum::<usize>());
    varint::put(&mut out, u64::from(table.schema_version));
    let bitmap = out.len();
    out.resize(bitmap + table.columns.len().div_ceil(8), 0);
    for (i, (value, column)) in values.iter().zip(&table.columns).enumerate() {
        debug_assert!(value.fits(column.data_type), "{value:?} in {} {}", column.name, column.data_type);
        if value.is_null() {
            out[bitmap + i / 8] |= 1 << (i % 8);
        } else {
            match value {
                Value::Vector(v) => v.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes())),
                value => put_cell(&mut out, column.data_type, value.as_cell()),
            }
        }
    }
    RowBytes(Bytes::from(out))
}

fn size_hint(value: &Value) -> usize {
    match value {
        Value::Text(v) => v.len() + 3,
        Value::Bytes(v) => v.len() + 3,
        Value::Vector(v) => v.len() * 4,
        Value::Uuid(_) | Value::Decimal(_) => 16,
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => 8,
    }
}

fn put_cell(out: &mut Vec<u8>, ty: DataType, cell: ValueRef<'_>) {
    match cell {
        ValueRef::Null => {}
        ValueRef::Bool(v) => out.push(u8::from(v)),
        ValueRef::Int(v) => {
            let width = ty.fixed_width().unwrap_or(8);
            out.extend_from_slice(&v.to_le_bytes()[..width]);
        }
        ValueRef::Float(v) if ty == DataType::Float => out.extend_from_slice(&(v as f32).to_le_bytes()),
        ValueRef::Float(v) => out.extend_from_slice(&v.to_le_bytes()),
        ValueRef::Text(v) => put_bytes(out, v.as_bytes()),
        ValueRef::Bytes(v) => put_bytes(out, v),
        ValueRef::Uuid(v) => out.extend_from_slice(v),
        ValueRef::Decimal(v) => out.extend_from_slice(&v.to_le_bytes()),
        ValueRef::Vector(v) => out.extend_from_slice(v),
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Walks the cells of one row in column order.
struct Cells<'a> {
    bitmap: &'a [u8],
    rest: &'a [u8],
    column: usize,
}

impl<'a> Cells<'a> {
    /// The row's cells; where they are not those of today's columns, how they are read.
    ///
    /// # Errors
    /// `INTERNAL` where the bytes are no row of `table`, `TABLE_ALTERED` where `table` is older than the row.
    fn open<'t>(table: &'t TableMeta, row: &'a RowBytes) -> Result<(Self, Option<&'t RowLayout>)> {
        let mut rest: &[u8] = &row.0;
        let version = varint::take(&mut rest).and_then(|version| u32::try_from(version).ok());
        let version = version.ok_or_else(|| damaged(table))?;
        let layout = match version.cmp(&table.schema_version) {
            Ordering::Equal => None,
            Ordering::Greater => return Err(Error::TableAltered(table.name.clone())),
            Ordering::Less => Some(table.layout(version).ok_or_else(|| damaged(table))?),
        };
        let layout = layout.filter(|layout| !layout.is_todays);
        let columns = layout.map_or(table.columns.len(), |layout| layout.cells.len());
        let (bitmap, rest) = rest.split_at_checked(columns.div_ceil(8)).ok_or_else(|| damaged(table))?;
        Ok((Self { bitmap, rest, column: 0 }, layout))
    }

    fn next(&mut self, ty: DataType) -> Option<ValueRef<'a>> {
        let i = self.column;
        self.column += 1;
        if self.bitmap.get(i / 8)? >> (i % 8) & 1 == 1 {
            return Some(ValueRef::Null);
        }
        let width = match ty.fixed_width() {
            Some(width) => width,
            None => usize::try_from(varint::take(&mut self.rest)?).ok()?,
        };
        let (cell, rest) = self.rest.split_at_checked(width)?;
        self.rest = rest;
        Some(match ty {
            DataType::Boolean => ValueRef::Bool(cell[0] != 0),
            DataType::SmallInt => ValueRef::Int(i64::from(i16::from_le_bytes(cell.try_into().ok()?))),
            DataType::Int | DataType::Date => ValueRef::Int(i64::from(i32::from_le_bytes(cell.try_into().ok()?))),
            DataType::BigInt | DataType::Time | DataType::Timestamp | DataType::DateTime => {
                ValueRef::Int(i64::from_le_bytes(cell.try_into().ok()?))
            }
            DataType::Float => ValueRef::Float(f64::from(f32::from_le_bytes(cell.try_into().ok()?))),
            DataType::Double => ValueRef::Float(f64::from_le_bytes(cell.try_into().ok()?)),
            DataType::Text | DataType::Json | DataType::File => ValueRef::Text(std::str::from_utf8(cell).ok()?),
            DataType::Bytes => ValueRef::Bytes(cell),
            DataType::Uuid => ValueRef::Uuid(cell.try_into().ok()?),
            DataType::Decimal { .. } => ValueRef::Decimal(i128::from_le_bytes(cell.try_into().ok()?)),
            DataType::Embedding(_) => ValueRef::Vector(cell),
        })
    }
}

fn damaged(table: &TableMeta) -> Error {
    Error::internal(format!("a stored row of table {} ({}) is damaged or of another schema", table.name, table.id))
}

/// The row's values, one per column of `table`.
///
/// # Errors
/// `INTERNAL` where the bytes are no row of `table`, `TABLE_ALTERED` where `table` is older than the row.
pub fn decode(table: &TableMeta, row: &RowBytes) -> Result<Vec<Value>> {
    let (mut cells, layout) = Cells::open(table, row)?;
    if let Some(layout) = layout {
        return older::values(layout, cells, table.columns.len()).ok_or_else(|| damaged(table));
    }
    table
        .columns
        .iter()
        .map(|c| cells.next(c.data_type).map(ValueRef::to_owned).ok_or_else(|| damaged(table)))
        .collect()
}

/// The row with some cells replaced.
///
/// # Errors
/// As [`decode`].
pub fn patch(table: &TableMeta, row: &RowBytes, assignments: &[Assignment]) -> Result<RowBytes> {
    let mut values = decode(table, row)?;
    for assignment in assignments {
        values[assignment.column] = assignment.value.clone();
    }
    Ok(encode(table, &values))
}

/// The row as it would be written today: two rows that are equal so hold the same.
///
/// # Errors
/// As [`decode`].
pub fn todays(table: &TableMeta, row: &RowBytes) -> Result<RowBytes> {
    let mut rest: &[u8] = &row.0;
    if varint::take(&mut rest) == Some(u64::from(table.schema_version)) {
        return Ok(row.clone());
    }
    decode(table, row).map(|values| encode(table, &values))
}

/// Where a stored row's cell goes.
enum Column {
    Cell(CellBuilder),
    Seq(Int64Builder),
    Deleted(BooleanBuilder),
    UserId(StringBuilder),
    StorageId(StringBuilder),
}

enum CellBuilder {
    Bool(BooleanBuilder),
    I16(Int16Builder),
    I32(Int32Builder),
    I64(Int64Builder),
    F32(Float32Builder),
    F64(Float64Builder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Uuid(FixedSizeBinaryBuilder),
    Decimal(Decimal128Builder),
    Vector(FixedSizeListBuilder<Float32Builder>),
}

impl CellBuilder {
    fn new(ty: DataType) -> Self {
        match ty {
            DataType::Boolean => Self::Bool(BooleanBuilder::new()),
            DataType::SmallInt => Self::I16(Int16Builder::new()),
            DataType::Int => Self::I32(Int32Builder::new()),
            DataType::BigInt => Self::I64(Int64Builder::new()),
            DataType::Float => Self::F32(Float32Builder::new()),
            DataType::Double => Self::F64(Float64Builder::new()),
            DataType::Text | DataType::Json | DataType::File => Self::Text(StringBuilder::new()),
            DataType::Bytes => Self::Bytes(BinaryBuilder::new()),
            DataType::Date => Self::Date(Date32Builder::new()),
            DataType::Time => Self::Time(Time64MicrosecondBuilder::new()),
            DataType::Timestamp => Self::Timestamp(TimestampMicrosecondBuilder::new()),
            DataType::DateTime => {
                Self::Timestamp(TimestampMicrosecondBuilder::new().with_data_type(DataType::DateTime.arrow()))
            }
            DataType::Uuid => Self::Uuid(FixedSizeBinaryBuilder::new(16)),
            DataType::Decimal { .. } => Self::Decimal(Decimal128Builder::new().with_data_type(ty.arrow())),
            DataType::Embedding(n) => {
                let item = Field::new("item", arrow::datatypes::DataType::Float32, false);
                let width = i32::try_from(n).unwrap_or(i32::MAX);
                Self::Vector(FixedSizeListBuilder::new(Float32Builder::new(), width).with_field(item))
            }
        }
    }

    /// `None` where the value is not of the builder's type: a damaged row.
    fn push(&mut self, value: ValueRef<'_>) -> Option<()> {
        match (self, value) {
            (Self::Bool(b), ValueRef::Bool(v)) => b.append_value(v),
            (Self::I16(b), ValueRef::Int(v)) => b.append_value(v as i16),
            (Self::I32(b), ValueRef::Int(v)) => b.append_value(v as i32),
            (Self::I64(b), ValueRef::Int(v)) => b.append_value(v),
            (Self::F32(b), ValueRef::Float(v)) => b.append_value(v as f32),
            (Self::F64(b), ValueRef::Float(v)) => b.append_value(v),
            (Self::Text(b), ValueRef::Text(v)) => b.append_value(v),
            (Self::Bytes(b), ValueRef::Bytes(v)) => b.append_value(v),
            (Self::Date(b), ValueRef::Int(v)) => b.append_value(v as i32),
            (Self::Time(b), ValueRef::Int(v)) => b.append_value(v),
            (Self::Timestamp(b), ValueRef::Int(v)) => b.append_value(v),
            (Self::Uuid(b), ValueRef::Uuid(v)) => b.append_value(v).ok()?,
            (Self::Decimal(b), ValueRef::Decimal(v)) => b.append_value(v),
            (Self::Vector(b), ValueRef::Vector(v)) => {
                for x in v.chunks_exact(4) {
                    b.values().append_value(f32::from_le_bytes([x[0], x[1], x[2], x[3]]));
                }
                b.append(true);
            }
            (builder, ValueRef::Null) => builder.push_null(),
            _ => return None,
        }
        Some(())
    }

    fn push_null(&mut self) {
        match self {
            Self::Bool(b) => b.append_null(),
            Self::I16(b) => b.append_null(),
            Self::I32(b) => b.append_null(),
            Self::I64(b) => b.append_null(),
            Self::F32(b) => b.append_null(),
            Self::F64(b) => b.append_null(),
            Self::Text(b) => b.append_null(),
            Self::Bytes(b) => b.append_null(),
            Self::Date(b) => b.append_null(),
            Self::Time(b) => b.append_null(),
            Self::Timestamp(b) => b.append_null(),
            Self::Uuid(b) => b.append_null(),
            Self::Decimal(b) => b.append_null(),
            Self::Vector(b) => {
                // A null list still takes its width of items, and our items are never null.
                for _ in 0..b.value_length() {
                    b.values().append_value(0.0);
                }
                b.append(false);
            }
        }
    }

    fn finish(&mut self) -> ArrayRef {
        let builder: &mut dyn ArrayBuilder = match self {
            Self::Bool(b) => b,
            Self::I16(b) => b,
            Self::I32(b) => b,
            Self::I64(b) => b,
            Self::F32(b) => b,
            Self::F64(b) => b,
            Self::Text(b) => b,
            Self::Bytes(b) => b,
            Self::Date(b) => b,
            Self::Time(b) => b,
            Self::Timestamp(b) => b,
            Self::Uuid(b) => b,
            Self::Decimal(b) => b,
            Self::Vector(b) => b,
        };
        builder.finish()
    }
}

/// Collects stored rows into a record batch whose full schema is [`TableMeta::arrow_schema`], or
/// [`TableMeta::arrow_schema_all_owners`] when made with [`BatchBuilder::all_owners`].
pub struct BatchBuilder {
    table: Arc<TableMeta>,
    homes: Arc<Homes>,
    schema: SchemaRef,
    /// The distinct columns to build.
    columns: Vec<Column>,
    /// For each column of the output: which of `columns` it is.
    outputs: Vec<usize>,
    /// For each column of the table: which of `columns` takes its cell.
    targets: Vec<Option<usize>>,
    /// Cells behind the last target need not be walked.
    walk: usize,
    len: usize,
}

impl BatchBuilder {
    /// `projection`: positions in the full schema, in output order; `None` is all of them.
    pub fn new(table: Arc<TableMeta>, projection: Option<&[usize]>) -> Self {
        let schema = table.arrow_schema();
        Self::with_schema(table, schema, projection)
    }

    /// Like [`BatchBuilder::new`], with `_user_id` and `_storage_id` behind; the latter as `homes` says.
    pub fn all_owners(table: Arc<TableMeta>, homes: Arc<Homes>, projection: Option<&[usize]>) -> Self {
        let schema = table.arrow_schema_all_owners();
        Self { homes, ..Self::with_schema(table, schema, projection) }
    }

    fn with_schema(table: Arc<TableMeta>, full: SchemaRef, projection: Option<&[usize]>) -> Self {
        let own = table.columns.len();
        let all: Vec<usize>;
        let positions = match projection {
            Some(positions) => positions,
            None => {
                all = (0..full.fields().len()).collect();
                &all
            }
        };
        let mut columns = Vec::with_capacity(positions.len());
        let mut built: Vec<Option<usize>> = vec![None; full.fields().len()];
        let mut outputs = Vec::with_capacity(positions.len());
        for position in positions {
            let index = *built[*position].get_or_insert_with(|| {
                columns.push(match position.checked_sub(own) {
                    None => {
                        let ty = table.columns[*position].data_type;
                        Column::Cell(CellBuilder::new(ty))
                    }
                    Some(0) => Column::Seq(Int64Builder::new()),
                    Some(1) => Column::Deleted(BooleanBuilder::new()),
                    Some(2) => Column::UserId(StringBuilder::new()),
                    Some(_) => Column::StorageId(StringBuilder::new()),
                });
                columns.len() - 1
            });
            outputs.push(index);
        }
        let targets: Vec<Option<usize>> = built[..own].to_vec();
        let walk = targets.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let schema = match projection {
            None => full,
            Some(positions) => {
                Arc::new(Schema::new(positions.iter().map(|p| full.field(*p).clone()).collect::<Vec<_>>()))
            }
        };
        Self { table, homes: Arc::default(), schema, columns, outputs, targets, walk, len: 0 }
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Appends a row. `owner` is read only for the all-owners schema.
    ///
    /// # Errors
    /// As [`decode`].
    pub fn push(&mut self, owner: &Owner, stored: &StoredRow) -> Result<()> {
        self.push_cells(&stored.row)?;
        for column in &mut self.columns {
            match column {
                Column::Cell(..) => {}
                Column::Seq(b) => b.append_value(stored.seq.get()),
                Column::Deleted(b) => b.append_value(stored.deleted),
                Column::UserId(b) => b.append_value(owner.as_str()),
                Column::StorageId(b) => b.append_value(self.homes.of(&self.table, owner).as_str()),
            }
        }
        self.len += 1;
        Ok(())
    }

    fn push_cells(&mut self, row: &RowBytes) -> Result<()> {
        if self.walk == 0 {
            return Ok(());
        }
        let Self { table, columns, targets, walk, .. } = self;
        let (mut cells, layout) = Cells::open(table, row)?;
        let mut builders = Builders { columns, targets };
        let pushed = match layout {
            None => builders.push_todays(&table.columns[..*walk], &mut cells),
            Some(layout) => builders.push_older(layout, cells),
        };
        pushed.ok_or_else(|| damaged(table))
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The rows pushed since the last call, and starts anew.
    ///
    /// # Errors
    /// `INTERNAL` where a damaged row broke the columns' lengths.
    pub fn finish(&mut self) -> Result<RecordBatch> {
        let arrays: Vec<ArrayRef> = self
            .columns
            .iter_mut()
            .map(|column| match column {
                Column::Cell(builder) => builder.finish(),
                Column::Seq(b) => Arc::new(b.finish()),
                Column::Deleted(b) => Arc::new(b.finish()),
                Column::UserId(b) => Arc::new(b.finish()),
                Column::StorageId(b) => Arc::new(b.finish()),
            })
            .collect();
        let outputs = self.outputs.iter().map(|i| arrays[*i].clone()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.len)));
        RecordBatch::try_new_with_options(self.schema.clone(), outputs, &options).map_err(Error::internal)
    }
}

/// Where the cells of a row go.
struct Builders<'b> {
    columns: &'b mut [Column],
    /// As in [`BatchBuilder`].
    targets: &'b [Option<usize>],
}

impl Builders<'_> {
    /// For a column of the table by its position; `None` where it is not built.
    fn of(&mut self, position: usize) -> Option<&mut CellBuilder> {
        match &mut self.columns[self.targets[position]?] {
            Column::Cell(builder) => Some(builder),
            _ => None,
        }
    }

    /// `None` where the bytes are no row of these columns.
    fn push_todays(&mut self, columns: &[ColumnMeta], cells: &mut Cells<'_>) -> Option<()> {
        for (position, column) in columns.iter().enumerate() {
            let value = cells.next(column.data_type)?;
            if let Some(builder) = self.of(position) {
                builder.push(value)?;
            }
        }
        Some(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
    use proptest::prelude::*;

    use super::*;
    use crate::model::{
        AccessLevel, ColumnMeta, ColumnName, NamespaceName, RowPlace, SchemaHistory, Seq, TableId, TableKind,
        TableName, UserId,
    };

    /// A table `t.t` with columns `c0`, `c1`, … of these types.
    pub(crate) fn table_with(types: &[DataType], primary_key: &[usize]) -> TableMeta {
        let columns = types.iter().enumerate().map(|(i, ty)| ColumnMeta {
            id: u32::try_from(i).unwrap() + 1,
            name: ColumnName::parse(&format!("c{i}")).unwrap(),
            data_type: *ty,
            nullable: !primary_key.contains(&i),
            default: None,
        });
        TableMeta {
            id: TableId(1),
            name: TableName::new(NamespaceName::parse("t").unwrap(), "t").unwrap(),
            kind: TableKind::User,
            columns: columns.collect(),
            primary_key: primary_key.to_vec(),
            access: AccessLevel::Private,
            durability: None,
            flush: Default::default(),
            compression: Default::default(),
            storage: crate::model::StorageId::local(),
            use_user_storage: false,
            deleted_retention_hours: None,
            ttl: None,
            unnamed_storage: None,
            checks: Vec::new(),
            comments: Default::default(),
            schema_version: 1,
            created_at: 0,
            updated_at: 0,
            history: SchemaHistory::default(),
        }
    }

    /// Any value that fits the type.
    pub(crate) fn value_of(ty: DataType) -> BoxedStrategy<Value> {
        match ty {
            DataType::Boolean => any::<bool>().prop_map(Value::Bool).boxed(),
            DataType::SmallInt => any::<i16>().prop_map(|v| Value::Int(v.into())).boxed(),
            DataType::Int | DataType::Date => any::<i32>().prop_map(|v| Value::Int(v.into())).boxed(),
            DataType::BigInt | DataType::Time | DataType::Timestamp | DataType::DateTime => {
                any::<i64>().prop_map(Value::Int).boxed()
            }
            DataType::Float => {
                any::<f32>().prop_filter("finite", |v| v.is_finite()).prop_map(|v| Value::Float(v.into())).boxed()
            }
            DataType::Double => any::<f64>().prop_filter("finite", |v| v.is_finite()).prop_map(Value::Float).boxed(),
            DataType::Text => "\\PC{0,12}|[\\x00-\\x02]{0,4}".prop_map(Value::Text).boxed(),
            DataType::Json | DataType::File => "[0-9]{1,5}".prop_map(Value::Text).boxed(),
            DataType::Bytes => proptest::collection::vec(any::<u8>(), 0..12).prop_map(Value::Bytes).boxed(),
            DataType::Uuid => any::<[u8; 16]>().prop_map(Value::Uuid).boxed(),
            DataType::Decimal { .. } => any::<i64>().prop_map(|v| Value::Decimal(v.into())).boxed(),
            DataType::Embedding(n) => {
                proptest::collection::vec(-1e6f32..1e6, n as usize).prop_map(Value::Vector).boxed()
            }
        }
    }

    /// One column of each type, and a second DECIMAL.
    pub(crate) const ALL: &[DataType] = &[
        DataType::BigInt,
        DataType::Boolean,
        DataType::SmallInt,
        DataType::Int,
        DataType::Float,
        DataType::Double,
        DataType::Text,
        DataType::Bytes,
        DataType::Date,
        DataType::Time,
        DataType::Timestamp,
        DataType::DateTime,
        DataType::Uuid,
        DataType::Decimal { precision: 20, scale: 2 },
        DataType::Decimal { precision: 38, scale: 0 },
        DataType::Json,
        DataType::Embedding(3),
        DataType::File,
    ];

    fn any_row() -> impl Strategy<Value = Vec<Value>> {
        ALL.iter()
            .enumerate()
            .map(
                |(i, ty)| {
                    if i == 0 { value_of(*ty) } else { prop_oneof![1 => Just(Value::Null), 3 => value_of(*ty)].boxed() }
                },
            )
            .collect::<Vec<_>>()
    }

    proptest! {
        #[test]
        fn a_row_comes_back(values in any_row()) {
            let table = table_with(ALL, &[0]);
            let row = encode(&table, &values);
            prop_assert_eq!(decode(&table, &row).unwrap(), values.clone());
            let stored = StoredRow { seq: Seq::ZERO, created: Seq::ZERO, deleted: false, row, place: RowPlace::Own };
            let mut builder = BatchBuilder::new(Arc::new(table), None);
            builder.push(&Owner::Shared, &stored).unwrap();
            let batch = builder.finish().unwrap();
            for (i, value) in values.iter().enumerate() {
                prop_assert_eq!(batch.column(i).is_null(0), value.is_null());
            }
        }

        #[test]
        fn damaged_bytes_are_an_error_not_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let table = table_with(ALL, &[0]);
            let _ = decode(&table, &RowBytes(Bytes::from(bytes)));
        }
    }

    #[test]
    fn projects_repeats_and_adds_the_system_columns() {
        let table = Arc::new(table_with(&[DataType::BigInt, DataType::Text, DataType::Timestamp], &[0]));
        let row = encode(&table, &[Value::Int(7), Value::Text("hi".into()), Value::Int(99)]);
        let stored = StoredRow {
            seq: Seq::new(5).unwrap(),
            created: Seq::new(5).unwrap(),
            deleted: true,
            row,
            place: RowPlace::Own,
        };
        let owner = Owner::User(UserId::parse("alice").unwrap());

        // c2, _seq, c0, c0, _user_id
        let mut builder = BatchBuilder::all_owners(table.clone(), Arc::default(), Some(&[2, 3, 0, 0, 5]));
        builder.push(&owner, &stored).unwrap();
        let batch = builder.finish().unwrap();
        assert_eq!(batch.column(0).as_primitive::<TimestampMicrosecondType>().value(0), 99);
        assert_eq!(batch.column(1).as_primitive::<Int64Type>().value(0), 5);
        assert_eq!(batch.column(3).as_primitive::<Int64Type>().value(0), 7);
        assert_eq!(batch.column(4).as_string::<i32>().value(0), "alice");
        assert!(builder.is_empty(), "finish starts anew");

        let mut none = BatchBuilder::new(table, Some(&[]));
        none.push(&owner, &stored).unwrap();
        assert_eq!(none.finish().unwrap().num_rows(), 1, "COUNT(*) needs the number of rows and no column");
    }
}
