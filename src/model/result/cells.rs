//! Cells of Arrow arrays as the wire writes them, for any serde serializer: JSON and MessagePack, HTTP and WebSocket.
//!
//! Owns the one cell encoding (protocol §4.3, A4). Columns are downcast once, in [`CellEncoders::new`], which also
//! finds what can not be written (NaN, infinity) before the first byte is.

use std::ops::Range;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryViewArray, BooleanArray, FixedSizeBinaryArray, Float32Array,
    Float64Array, Int64Array, LargeBinaryArray, LargeStringArray, RecordBatch, StringArray, StringViewArray,
    StructArray, UInt64Array,
};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType as ArrowType, Date32Type, Float32Type, Float64Type, Int32Type, Int64Type, SchemaRef, TimeUnit, UInt64Type,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use crate::error::{Error, Result};

/// A record batch, ready to be written.
#[derive(Debug)]
pub struct CellEncoders {
    schema: SchemaRef,
    columns: Vec<Column>,
    rows: usize,
}

impl CellEncoders {
    /// # Errors
    /// `Execution` where a number is not finite: JSON has no such number.
    pub fn new(batch: &RecordBatch) -> Result<Self> {
        let schema = batch.schema();
        let mut columns = Vec::with_capacity(batch.num_columns());
        for (field, array) in schema.fields().iter().zip(batch.columns()) {
            columns.push(Column::new(field.name(), array)?);
        }
        Ok(Self { schema, columns, rows: batch.num_rows() })
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Rows as arrays of cells. `rows` lies within the batch.
    pub fn arrays(&self, rows: Range<usize>) -> RowArrays<'_> {
        RowArrays { encoders: self, rows }
    }

    pub fn array(&self, row: usize) -> RowArray<'_> {
        RowArray { encoders: self, row }
    }

    /// Rows as objects, column name → cell. `rows` lies within the batch.
    pub fn objects(&self, rows: Range<usize>) -> RowObjects<'_> {
        RowObjects { encoders: self, rows }
    }

    pub fn object(&self, row: usize) -> RowObject<'_> {
        RowObject { encoders: self, columns: None, row }
    }

    /// Only the cells of `columns`, in that order.
    pub fn object_of<'a>(&'a self, row: usize, columns: &'a [usize]) -> RowObject<'a> {
        RowObject { encoders: self, columns: Some(columns), row }
    }

    pub fn cell(&self, column: usize, row: usize) -> Cell<'_> {
        Cell { column: &self.columns[column], row }
    }
}

/// `[[cell, …], …]`
#[derive(Debug)]
pub struct RowArrays<'a> {
    encoders: &'a CellEncoders,
    rows: Range<usize>,
}

impl Serialize for RowArrays<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.rows.clone().map(|row| self.encoders.array(row)))
    }
}

/// `[cell, …]`
#[derive(Debug)]
pub struct RowArray<'a> {
    encoders: &'a CellEncoders,
    row: usize,
}

impl Serialize for RowArray<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let columns = &self.encoders.columns;
        let mut list = serializer.serialize_seq(Some(columns.len()))?;
        for column in columns {
            list.serialize_element(&Cell { column, row: self.row })?;
        }
        list.end()
    }
}

/// `[{"name": cell, …}, …]`
#[derive(Debug)]
pub struct RowObjects<'a> {
    encoders: &'a CellEncoders,
    rows: Range<usize>,
}

impl Serialize for RowObjects<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.rows.clone().map(|row| self.encoders.object(row)))
    }
}

/// `{"name": cell, …}`
#[derive(Debug)]
pub struct RowObject<'a> {
    encoders: &'a CellEncoders,
    columns: Option<&'a [usize]>,
    row: usize,
}

impl RowObject<'_> {
    fn entry<M: SerializeMap>(&self, map: &mut M, column: usize) -> Result<(), M::Error> {
        map.serialize_entry(self.encoders.schema.field(column).name(), &self.encoders.cell(column, self.row))
    }
}

impl Serialize for RowObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let all = self.encoders.columns.len();
        let mut map = serializer.serialize_map(Some(self.columns.map_or(all, <[usize]>::len)))?;
        match self.columns {
            Some(columns) => {
                for column in columns {
                    self.entry(&mut map, *column)?;
                }
            }
            None => {
                for column in 0..all {
                    self.entry(&mut map, column)?;
                }
            }
        }
        map.end()
    }
}

/// One value.
#[derive(Debug)]
pub struct Cell<'a> {
    column: &'a Column,
    row: usize,
}

/// A column, downcast to what its cells are written from.
#[derive(Debug)]
enum Column {
    Null,
    Bool(BooleanArray),
    /// Integers that every JSON reader keeps exact; dates in days, times and timestamps in microseconds.
    Number(Int64Array),
    /// 64-bit integers, which JavaScript would round: written as text.
    Int64(Int64Array),
    UInt64(UInt64Array),
    Float32(Float32Array),
    Float64(Float64Array),
    Text(StringArray),
    LargeText(LargeStringArray),
    TextView(StringViewArray),
    Bytes(BinaryArray),
    LargeBytes(LargeBinaryArray),
    BytesView(BinaryViewArray),
    FixedBytes(FixedSizeBinaryArray),
    Uuid(FixedSizeBinaryArray),
    List {
        lists: ArrayRef,
        /// Of row n: where its items lie in `items`.
        ranges: Vec<Range<usize>>,
        items: Box<Column>,
    },
    Struct {
        structs: StructArray,
        fields: Vec<Column>,
    },
}

impl Column {
    fn new(name: &str, array: &ArrayRef) -> Result<Column> {
        let ty = array.data_type();
        Ok(match ty {
            ArrowType::Null => Column::Null,
            ArrowType::Boolean => Column::Bool(array.as_boolean().clone()),
            ArrowType::Int8
            | ArrowType::Int16
            | ArrowType::Int32
            | ArrowType::UInt8
            | ArrowType::UInt16
            | ArrowType::UInt32 => Self::number(array)?,
            ArrowType::Int64 => Column::Int64(array.as_primitive::<Int64Type>().clone()),
            ArrowType::UInt64 => Column::UInt64(array.as_primitive::<UInt64Type>().clone()),
            ArrowType::Float16 => Self::new(name, &converted(array, &ArrowType::Float32)?)?,
            ArrowType::Float32 => {
                let floats = array.as_primitive::<Float32Type>().clone();
                check_finite(name, floats.iter().flatten().all(f32::is_finite))?;
                Column::Float32(floats)
            }
            ArrowType::Float64 => {
                let floats = array.as_primitive::<Float64Type>().clone();
                check_finite(name, floats.iter().flatten().all(f64::is_finite))?;
                Column::Float64(floats)
            }
            ArrowType::Utf8 => Column::Text(array.as_string::<i32>().clone()),
            ArrowType::LargeUtf8 => Column::LargeText(array.as_string::<i64>().clone()),
            ArrowType::Utf8View => Column::TextView(array.as_string_view().clone()),
            ArrowType::Binary => Column::Bytes(array.as_binary::<i32>().clone()),
            ArrowType::LargeBinary => Column::LargeBytes(array.as_binary::<i64>().clone()),
            ArrowType::BinaryView => Column::BytesView(array.as_binary_view().clone()),
            ArrowType::FixedSizeBinary(16) => Column::Uuid(array.as_fixed_size_binary().clone()),
            ArrowType::FixedSizeBinary(_) => Column::FixedBytes(array.as_fixed_size_binary().clone()),
            ArrowType::Date32 => Self::days(array)?,
            ArrowType::Date64 => Self::days(&converted(array, &ArrowType::Date32)?)?,
            ArrowType::Time32(_) | ArrowType::Time64(_) => {
                Self::number(&converted(array, &ArrowType::Time64(TimeUnit::Microsecond))?)?
            }
            ArrowType::Timestamp(_, zone) => {
                Self::number(&converted(array, &ArrowType::Timestamp(TimeUnit::Microsecond, zone.clone()))?)?
            }
            ArrowType::Dictionary(_, values) => Self::new(name, &converted(array, values)?)?,
            ArrowType::List(_) => {
                let lists = array.as_list::<i32>();
                let ranges = lists.offsets().windows(2).map(|w| w[0] as usize..w[1] as usize).collect();
                Self::list(name, array, ranges, lists.values())?
            }
            ArrowType::LargeList(_) => {
                let lists = array.as_list::<i64>();
                let ranges = lists.offsets().windows(2).map(|w| w[0] as usize..w[1] as usize).collect();
                Self::list(name, array, ranges, lists.values())?
            }
            ArrowType::FixedSizeList(_, size) => {
                let lists = array.as_fixed_size_list();
                let size = usize::try_from(*size).unwrap_or(0);
                let ranges = (0..lists.len()).map(|row| row * size..(row + 1) * size).collect();
                Self::list(name, array, ranges, lists.values())?
            }
            ArrowType::Struct(_) => {
                let structs = array.as_struct().clone();
                let fields = structs.columns().iter().map(|field| Self::new(name, field)).collect::<Result<_>>()?;
                Column::Struct { structs, fields }
            }
            // Decimals exactly; maps, intervals, unions and whatever else Arrow knows as Arrow prints them.
            _ => Column::Text(printed(array)?),
        })
    }

    /// Anything that Arrow casts to a 64-bit integer without loss.
    fn number(array: &ArrayRef) -> Result<Column> {
        Ok(Column::Number(converted(array, &ArrowType::Int64)?.as_primitive::<Int64Type>().clone()))
    }

    fn days(array: &ArrayRef) -> Result<Column> {
        let days = array.as_primitive::<Date32Type>().reinterpret_cast::<Int32Type>();
        Self::number(&(std::sync::Arc::new(days) as ArrayRef))
    }

    fn list(name: &str, lists: &ArrayRef, ranges: Vec<Range<usize>>, items: &ArrayRef) -> Result<Column> {
        Ok(Column::List { lists: lists.clone(), ranges, items: Box::new(Self::new(name, items)?) })
    }
}

fn check_finite(column: &str, finite: bool) -> Result<()> {
    if finite {
        return Ok(());
    }
    Err(Error::Execution(format!("a value of column '{column}' is not finite (NaN or infinity)")))
}

fn converted(array: &ArrayRef, to: &ArrowType) -> Result<ArrayRef> {
    if array.data_type() == to {
        return Ok(array.clone());
    }
    cast(array, to).map_err(|error| Error::Execution(error.to_string()))
}

fn printed(array: &ArrayRef) -> Result<StringArray> {
    let options = FormatOptions::default();
    let formatter = ArrayFormatter::try_new(array, &options).map_err(|error| Error::Execution(error.to_string()))?;
    let texts = (0..array.len()).map(|row| (!array.is_null(row)).then(|| formatter.value(row).to_string()));
    Ok(texts.collect())
}

impl Serialize for Cell<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let row = self.row;
        // One line a type: NULL, or its value written by `$write`.
        macro_rules! cell {
            ($array:expr, |$value:ident| $write:expr) => {{
                if $array.is_null(row) {
                    return serializer.serialize_none();
                }
                let $value = $array.value(row);
                $write
            }};
        }
        match self.column {
            Column::Null => serializer.serialize_none(),
            Column::Bool(array) => cell!(array, |v| serializer.serialize_bool(v)),
            Column::Number(array) => cell!(array, |v| serializer.serialize_i64(v)),
            Column::Int64(array) => cell!(array, |v| serializer.serialize_str(itoa::Buffer::new().format(v))),
            Column::UInt64(array) => cell!(array, |v| serializer.serialize_str(itoa::Buffer::new().format(v))),
            Column::Float32(array) => cell!(array, |v| serializer.serialize_f32(v)),
            Column::Float64(array) => cell!(array, |v| serializer.serialize_f64(v)),
            Column::Text(array) => cell!(array, |v| serializer.serialize_str(v)),
            Column::LargeText(array) => cell!(array, |v| serializer.serialize_str(v)),
            Column::TextView(array) => cell!(array, |v| serializer.serialize_str(v)),
            Column::Bytes(array) => cell!(array, |v| serializer.collect_str(&Base64Display::new(v, &BASE64))),
            Column::LargeBytes(array) => cell!(array, |v| serializer.collect_str(&Base64Display::new(v, &BASE64))),
            Column::BytesView(array) => cell!(array, |v| serializer.collect_str(&Base64Display::new(v, &BASE64))),
            Column::FixedBytes(array) => cell!(array, |v| serializer.collect_str(&Base64Display::new(v, &BASE64))),
            Column::Uuid(array) => cell!(array, |v| {
                let mut text = uuid::Uuid::encode_buffer();
                let id = uuid::Uuid::from_slice(v).unwrap_or_default();
                serializer.serialize_str(id.hyphenated().encode_lower(&mut text))
            }),
            Column::List { lists, ranges, items } => {
                if lists.is_null(row) {
                    return serializer.serialize_none();
                }
                serializer.collect_seq(ranges[row].clone().map(|item| Cell { column: items, row: item }))
            }
            Column::Struct { structs, fields } => {
                if structs.is_null(row) {
                    return serializer.serialize_none();
                }
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (field, column) in structs.fields().iter().zip(fields) {
                    map.serialize_entry(field.name(), &Cell { column, row })?;
                }
                map.end()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        Date32Array, Date64Array, Decimal128Array, DictionaryArray, DurationSecondArray, FixedSizeListArray, Int8Array,
        Int16Array, Int32Array, ListArray, NullArray, Time32SecondArray, Time64MicrosecondArray,
        TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, UInt8Array, UInt16Array,
        UInt32Array,
    };
    use arrow::datatypes::{Field, Int32Type, Schema};

    use super::*;

    fn encoders(array: ArrayRef) -> Result<CellEncoders> {
        let schema = Schema::new(vec![Field::new("c", array.data_type().clone(), true)]);
        CellEncoders::new(&RecordBatch::try_new(Arc::new(schema), vec![array]).unwrap())
    }

    /// Each row has one value, then NULL; the JSON text of the value's cell.
    fn table() -> Vec<(&'static str, ArrayRef, &'static str)> {
        let embedding =
            FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>([Some(vec![Some(0.5), Some(-1.25)]), None], 2);
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None]);
        let dictionary: DictionaryArray<Int32Type> = [Some("red"), None].into_iter().collect();
        let uuid = [
            Some([0x01u8, 0x90, 0xa3, 0xc4, 0x7b, 0x1e, 0x7c, 0xc3, 0x98, 0xc4, 0xdc, 0x0c, 0x0c, 7, 0x39, 0x8f]),
            None,
        ];
        let uuid = FixedSizeBinaryArray::try_from_sparse_iter_with_size(uuid.into_iter(), 16).unwrap();
        let fixed =
            FixedSizeBinaryArray::try_from_sparse_iter_with_size([Some([1u8, 2]), None].into_iter(), 2).unwrap();
        let decimal = Decimal128Array::from(vec![Some(-1_050), None]).with_precision_and_scale(10, 2).unwrap();
        let inner = Arc::new(Int64Array::from(vec![Some(7), Some(8)])) as ArrayRef;
        let pair = StructArray::new(
            vec![Field::new("n", ArrowType::Int64, true)].into(),
            vec![inner],
            Some(vec![true, false].into()),
        );
        let zoned = TimestampMicrosecondArray::from(vec![Some(1_777_000_000_000_001), None]).with_timezone("UTC");
        let day_ms = 86_400_000;
        vec![
            ("Boolean", Arc::new(BooleanArray::from(vec![Some(true), None])), "true"),
            ("Int8", Arc::new(Int8Array::from(vec![Some(-8), None])), "-8"),
            ("Int16", Arc::new(Int16Array::from(vec![Some(-16), None])), "-16"),
            ("Int32", Arc::new(Int32Array::from(vec![Some(i32::MIN), None])), "-2147483648"),
            ("UInt8", Arc::new(UInt8Array::from(vec![Some(8), None])), "8"),
            ("UInt16", Arc::new(UInt16Array::from(vec![Some(16), None])), "16"),
            ("UInt32", Arc::new(UInt32Array::from(vec![Some(u32::MAX), None])), "4294967295"),
            ("Int64", Arc::new(Int64Array::from(vec![Some(i64::MIN), None])), r#""-9223372036854775808""#),
            ("UInt64", Arc::new(UInt64Array::from(vec![Some(u64::MAX), None])), r#""18446744073709551615""#),
            ("Float32", Arc::new(Float32Array::from(vec![Some(0.1), None])), "0.1"),
            ("Float64", Arc::new(Float64Array::from(vec![Some(-2.5), None])), "-2.5"),
            ("Utf8", Arc::new(StringArray::from(vec![Some("a\"é"), None])), r#""a\"é""#),
            ("LargeUtf8", Arc::new(LargeStringArray::from(vec![Some("big"), None])), r#""big""#),
            ("Utf8View", Arc::new(StringViewArray::from(vec![Some("view"), None])), r#""view""#),
            ("Binary", Arc::new(BinaryArray::from(vec![Some(b"hi".as_slice()), None])), r#""aGk=""#),
            ("LargeBinary", Arc::new(LargeBinaryArray::from(vec![Some(b"hi".as_slice()), None])), r#""aGk=""#),
            ("BinaryView", Arc::new(BinaryViewArray::from(vec![Some(b"hi".as_slice()), None])), r#""aGk=""#),
            ("FixedSizeBinary(2)", Arc::new(fixed), r#""AQI=""#),
            ("FixedSizeBinary(16)", Arc::new(uuid), r#""0190a3c4-7b1e-7cc3-98c4-dc0c0c07398f""#),
            ("Date32", Arc::new(Date32Array::from(vec![Some(-1), None])), "-1"),
            ("Date64", Arc::new(Date64Array::from(vec![Some(2 * day_ms), None])), "2"),
            ("Time32 s", Arc::new(Time32SecondArray::from(vec![Some(2), None])), "2000000"),
            ("Time64 us", Arc::new(Time64MicrosecondArray::from(vec![Some(3), None])), "3"),
            ("Timestamp ns", Arc::new(TimestampNanosecondArray::from(vec![Some(5_999), None])), "5"),
            ("Timestamp ms", Arc::new(TimestampMillisecondArray::from(vec![Some(5), None])), "5000"),
            ("Timestamp us UTC", Arc::new(zoned), "1777000000000001"),
            ("Decimal128", Arc::new(decimal), r#""-10.50""#),
            ("FixedSizeList", Arc::new(embedding), "[0.5,-1.25]"),
            ("List", Arc::new(list), r#"["1",null]"#),
            ("Dictionary", Arc::new(dictionary), r#""red""#),
            ("Struct", Arc::new(pair), r#"{"n":"7"}"#),
            ("Duration", Arc::new(DurationSecondArray::from(vec![Some(90), None])), r#""PT90S""#),
            ("Null", Arc::new(NullArray::new(2)), "null"),
        ]
    }

    #[test]
    fn each_type_in_json() {
        for (name, array, expected) in table() {
            let encoders = encoders(array).unwrap();
            let arrays = serde_json::to_string(&encoders.arrays(0..2)).unwrap();
            assert_eq!(arrays, format!("[[{expected}],[null]]"), "{name}");
            let objects = serde_json::to_string(&encoders.objects(0..2)).unwrap();
            assert_eq!(objects, format!(r#"[{{"c":{expected}}},{{"c":null}}]"#), "{name}");
        }
    }

    #[test]
    fn each_type_is_the_same_in_message_pack() {
        for (name, array, expected) in table() {
            let encoders = encoders(array).unwrap();
            let packed = rmp_serde::to_vec_named(&encoders.object(0)).unwrap();
            let unpacked: serde_json::Value = rmp_serde::from_slice(&packed).unwrap();
            let json: serde_json::Value = serde_json::from_str(&format!(r#"{{"c":{expected}}}"#)).unwrap();
            // 32-bit floats widen on the way back.
            if name == "Float32" {
                assert_eq!(unpacked["c"].as_f64().unwrap() as f32, 0.1);
            } else {
                assert_eq!(unpacked, json, "{name}");
            }
        }
    }

    #[test]
    fn an_object_of_some_columns_keeps_their_order() {
        let schema = Schema::new(vec![
            Field::new("a", ArrowType::Int32, true),
            Field::new("b", ArrowType::Int32, true),
            Field::new("c", ArrowType::Int32, true),
        ]);
        let column = |v| Arc::new(Int32Array::from(vec![v])) as ArrayRef;
        let batch = RecordBatch::try_new(Arc::new(schema), vec![column(1), column(2), column(3)]).unwrap();
        let encoders = CellEncoders::new(&batch).unwrap();
        assert_eq!(serde_json::to_string(&encoders.object_of(0, &[2, 0])).unwrap(), r#"{"c":3,"a":1}"#);
    }

    #[test]
    fn a_sliced_list_writes_its_own_items() {
        let list = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
            [Some(vec![Some(1.0)]), Some(vec![Some(2.0)])],
            1,
        );
        let encoders = encoders(Arc::new(list.slice(1, 1))).unwrap();
        assert_eq!(serde_json::to_string(&encoders.arrays(0..1)).unwrap(), "[[[2.0]]]");
    }

    #[test]
    fn what_is_not_finite_is_refused_before_a_byte_is_written() {
        let nested = FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>([Some(vec![Some(f32::NAN)])], 1);
        let cases: Vec<ArrayRef> = vec![
            Arc::new(Float64Array::from(vec![1.0, f64::INFINITY])),
            Arc::new(Float32Array::from(vec![f32::NAN])),
            Arc::new(nested),
        ];
        for array in cases {
            let error = encoders(array).unwrap_err();
            assert!(matches!(&error, Error::Execution(text) if text.contains("is not finite")), "{error}");
        }
        assert!(encoders(Arc::new(Float64Array::from(vec![None, Some(1.0)]))).is_ok());
    }
}
