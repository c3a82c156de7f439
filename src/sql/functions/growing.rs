//! Functions whose value is far larger than what they are given: texts that are repeated or padded, arrays that are counted
//! out. DataFusion makes them in memory that no pool counts, so two gigabytes would cost thirty letters.
//!
//! Owns the bound, looked at before anything is made. The functions themselves are DataFusion's.

use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Int64Type, TimeUnit};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

/// What one call may make, over all rows of a batch.
const VALUE_MAX_BYTES: u128 = 64 << 20;

/// The longest character of UTF-8: what a pad may be filled with.
const CHARACTER_BYTES: u128 = 4;

/// What an element of an array takes, about.
const ELEMENT_BYTES: u128 = 16;

/// The function with its bound, if it is one that needs it.
pub(crate) fn bounded(function: Arc<ScalarUDF>) -> Arc<ScalarUDF> {
    match function.name() {
        "repeat" | "lpad" | "rpad" | "array_repeat" | "array_resize" | "range" | "generate_series" => {
            Arc::new(GrowingFn { inner: function }.into())
        }
        _ => function,
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct GrowingFn {
    inner: Arc<ScalarUDF>,
}

impl GrowingFn {
    /// Bytes that the value will have, at most.
    fn size(&self, arguments: &ScalarFunctionArgs) -> Result<u128> {
        let scalars = arguments.args.iter().all(|argument| matches!(argument, ColumnarValue::Scalar(_)));
        let rows = if scalars { 1 } else { arguments.number_rows };
        let name = self.inner.name();
        if matches!(name, "range" | "generate_series") {
            return Ok(Steps::of(&arguments.args)?.size(rows));
        }
        let [given, times, ..] = arguments.args.as_slice() else { return Ok(0) };
        let times = Numbers::of(times)?;
        let (lengths, unit) = match name {
            "repeat" => (Numbers::lengths(given)?, 1),
            "lpad" | "rpad" => (Numbers::One(1), CHARACTER_BYTES),
            _ => (Numbers::One(1), ELEMENT_BYTES),
        };
        Ok((0..rows).map(|row| times.at(row) * lengths.at(row) * unit).sum())
    }
}

impl ScalarUDFImpl for GrowingFn {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.inner().coerce_types(given)
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.inner().return_field_from_args(arguments)
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inner.return_type(arguments)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let size = self.size(&arguments)?;
        if size > VALUE_MAX_BYTES {
            let text = format!("{} would make {size} bytes; {VALUE_MAX_BYTES} are allowed", self.name());
            return Err(DataFusionError::ResourcesExhausted(text));
        }
        self.inner.invoke_with_args(arguments)
    }
}

/// Start, end and step of a series.
struct Steps {
    start: Vec<i64>,
    stop: Vec<i64>,
    step: i64,
}

impl Steps {
    fn of(arguments: &[ColumnarValue]) -> Result<Self> {
        let (start, stop, step) = match arguments {
            [stop] => (None, stop, None),
            [start, stop] => (Some(start), stop, None),
            [start, stop, step, ..] => (Some(start), stop, Some(step)),
            [] => return Ok(Self { start: Vec::new(), stop: Vec::new(), step: 1 }),
        };
        let step = match step {
            None => 1,
            Some(ColumnarValue::Scalar(ScalarValue::IntervalMonthDayNano(Some(step)))) => {
                let days = i64::from(step.months).saturating_mul(28).saturating_add(step.days.into());
                let nanoseconds = days.saturating_mul(DAY_NS).saturating_add(step.nanoseconds);
                // Dates go by days.
                if is_date(stop) { nanoseconds / DAY_NS } else { nanoseconds }
            }
            Some(ColumnarValue::Scalar(step)) => integer(step)?,
            // From row to row another: of one it is known that no series is longer.
            Some(ColumnarValue::Array(_)) => 1,
        };
        let start = start.map_or(Ok(vec![0]), places)?;
        Ok(Self { start, stop: places(stop)?, step: step.saturating_abs().max(1) })
    }

    fn size(&self, rows: usize) -> u128 {
        let at = |places: &[i64], row: usize| places.get(row).or(places.first()).copied().unwrap_or(0);
        let length = |row| u128::from(at(&self.stop, row).abs_diff(at(&self.start, row)) / self.step.unsigned_abs());
        (0..rows).map(|row| length(row) * ELEMENT_BYTES).sum()
    }
}

const DAY_NS: i64 = 86_400_000_000_000;

fn is_date(value: &ColumnarValue) -> bool {
    matches!(value.data_type(), DataType::Date32 | DataType::Date64)
}

/// Times in nanoseconds, dates in days, numbers as they are; one, or one for each row. NULL is 0.
fn places(value: &ColumnarValue) -> Result<Vec<i64>> {
    let array = match value {
        ColumnarValue::Scalar(scalar) => scalar.to_array()?,
        ColumnarValue::Array(array) => array.clone(),
    };
    let array = match array.data_type() {
        DataType::Timestamp(..) => cast(&array, &DataType::Timestamp(TimeUnit::Nanosecond, None))?,
        DataType::Date64 => cast(&array, &DataType::Date32)?,
        _ => array,
    };
    let array = cast(&array, &DataType::Int64)?;
    Ok(array.as_primitive::<Int64Type>().iter().map(|place| place.unwrap_or(0)).collect())
}

fn integer(scalar: &ScalarValue) -> Result<i64> {
    match scalar.cast_to(&DataType::Int64)? {
        ScalarValue::Int64(Some(number)) => Ok(number),
        _ => Ok(1),
    }
}

/// A number for each row. NULL and what is below zero make nothing.
enum Numbers {
    One(u128),
    Each(Vec<u128>),
}

impl Numbers {
    fn of(value: &ColumnarValue) -> Result<Self> {
        let number = |number: i64| u128::try_from(number).unwrap_or(0);
        match value {
            ColumnarValue::Scalar(scalar) => match scalar.cast_to(&DataType::Int64)? {
                ScalarValue::Int64(Some(times)) => Ok(Self::One(number(times))),
                _ => Ok(Self::One(0)),
            },
            ColumnarValue::Array(array) => {
                let array = cast(array, &DataType::Int64)?;
                Ok(Self::Each(array.as_primitive::<Int64Type>().iter().map(|n| number(n.unwrap_or(0))).collect()))
            }
        }
    }

    fn lengths(value: &ColumnarValue) -> Result<Self> {
        match value {
            ColumnarValue::Scalar(scalar) => match scalar.cast_to(&DataType::Utf8)? {
                ScalarValue::Utf8(Some(text)) => Ok(Self::One(text.len() as u128)),
                _ => Ok(Self::One(0)),
            },
            ColumnarValue::Array(array) => {
                let array = cast(array, &DataType::Utf8)?;
                let texts = array.as_string::<i32>().iter();
                Ok(Self::Each(texts.map(|text| text.map_or(0, str::len) as u128).collect()))
            }
        }
    }

    fn at(&self, row: usize) -> u128 {
        match self {
            Numbers::One(number) => *number,
            Numbers::Each(numbers) => numbers.get(row).copied().unwrap_or(0),
        }
    }
}
