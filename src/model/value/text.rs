//! A value of a column as text: what a TEXT column holds of it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Days, NaiveDate, NaiveTime};

use crate::model::{DataType, Value};

impl Value {
    /// The text of a value of a column of type `ty`; `None` for NULL.
    pub fn to_text(&self, ty: DataType) -> Option<String> {
        Some(match self {
            Value::Null => return None,
            Value::Bool(v) => v.to_string(),
            Value::Int(v) => match ty {
                DataType::Date => i32::try_from(*v).map_or_else(|_| format!("day {v}"), date_text),
                DataType::Time => time_text(*v),
                DataType::Timestamp | DataType::DateTime => timestamp_text(*v),
                _ => v.to_string(),
            },
            // The shortest text that reads back as the same 32 bits, not that of the 64 bits it is computed with.
            Value::Float(v) if ty == DataType::Float => (*v as f32).to_string(),
            Value::Float(v) => v.to_string(),
            Value::Text(v) => v.clone(),
            Value::Bytes(v) => BASE64.encode(v),
            Value::Uuid(v) => uuid::Uuid::from_bytes(*v).to_string(),
            Value::Decimal(v) => decimal_text(*v, ty),
            Value::Vector(v) => vector_text(v),
        })
    }
}

/// The digits of a decimal with its point.
pub fn decimal_text(unscaled: i128, ty: DataType) -> String {
    let DataType::Decimal { scale, .. } = ty else { return unscaled.to_string() };
    if scale <= 0 {
        return format!("{unscaled}{}", "0".repeat(usize::from(scale.unsigned_abs())));
    }
    let scale = usize::from(scale.unsigned_abs());
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{}{whole}.{fraction}", if unscaled < 0 { "-" } else { "" })
}

pub fn vector_text(v: &[f32]) -> String {
    let numbers: Vec<String> = v.iter().map(f32::to_string).collect();
    format!("[{}]", numbers.join(","))
}

pub fn date_text(days: i32) -> String {
    let epoch = NaiveDate::default();
    let distance = Days::new(u64::from(days.unsigned_abs()));
    let date = if days < 0 { epoch.checked_sub_days(distance) } else { epoch.checked_add_days(distance) };
    date.map_or_else(|| format!("day {days}"), |date| date.to_string())
}

pub fn time_text(us: i64) -> String {
    let seconds = u32::try_from(us.div_euclid(1_000_000)).unwrap_or(u32::MAX);
    let nanos = u32::try_from(us.rem_euclid(1_000_000) * 1_000).unwrap_or(u32::MAX);
    NaiveTime::from_num_seconds_from_midnight_opt(seconds, nanos)
        .map_or_else(|| format!("microsecond {us}"), |time| time.to_string())
}

pub fn timestamp_text(us: i64) -> String {
    DateTime::from_timestamp_micros(us)
        .map_or_else(|| format!("microsecond {us}"), |at| at.naive_utc().format("%Y-%m-%d %H:%M:%S%.f").to_string())
}
