//! SQL's names of types to the types that a column can have.

use datafusion::sql::sqlparser::ast::{DataType as AstType, ExactNumberInfo, TimezoneInfo};

use crate::error::{Error, Result};
use crate::model::DataType;

/// DECIMAL without precision.
const DECIMAL_DEFAULT: DataType = DataType::Decimal { precision: 38, scale: 10 };

/// # Errors
/// `INVALID_SQL` that names a type to take instead.
pub(crate) fn data_type(ty: &AstType) -> Result<DataType> {
    Ok(match ty {
        AstType::Boolean | AstType::Bool => DataType::Boolean,
        AstType::SmallInt(_) | AstType::Int2(_) | AstType::Int16 => DataType::SmallInt,
        AstType::Int(_) | AstType::Integer(_) | AstType::Int4(_) | AstType::MediumInt(_) | AstType::Int32 => {
            DataType::Int
        }
        AstType::BigInt(_) | AstType::Int8(_) | AstType::Int64 => DataType::BigInt,
        // PostgreSQL's FLOAT(p): up to 24 bits of precision fit in 32.
        AstType::Float(ExactNumberInfo::Precision(bits)) if *bits > 24 => DataType::Double,
        AstType::Float(_) | AstType::Real | AstType::Float4 | AstType::Float32 => DataType::Float,
        AstType::Double(_) | AstType::DoublePrecision | AstType::Float8 | AstType::Float64 => DataType::Double,
        AstType::Text
        | AstType::Varchar(_)
        | AstType::Nvarchar(_)
        | AstType::Char(_)
        | AstType::Character(_)
        | AstType::CharVarying(_)
        | AstType::CharacterVarying(_)
        | AstType::CharLargeObject(_)
        | AstType::CharacterLargeObject(_)
        | AstType::Clob(_)
        | AstType::String(_)
        | AstType::TinyText
        | AstType::MediumText
        | AstType::LongText => DataType::Text,
        AstType::Bytes(_)
        | AstType::Bytea
        | AstType::Blob(_)
        | AstType::Binary(_)
        | AstType::Varbinary(_)
        | AstType::TinyBlob
        | AstType::MediumBlob
        | AstType::LongBlob => DataType::Bytes,
        AstType::Date => DataType::Date,
        AstType::Time(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => DataType::Time,
        AstType::Timestamp(..) | AstType::TimestampNtz(_) => DataType::Timestamp,
        AstType::Datetime(_) => DataType::DateTime,
        AstType::Uuid => DataType::Uuid,
        AstType::Decimal(info) | AstType::Numeric(info) | AstType::Dec(info) => decimal(info)?,
        AstType::JSON | AstType::JSONB => DataType::Json,
        AstType::Custom(name, modifiers) => custom(&name.to_string(), modifiers)?,
        other => return Err(refused(other)),
    })
}

/// SERIAL and its kin: a BIGINT whose default is SNOWFLAKE_ID(), which no smaller type holds.
pub(crate) fn is_serial(ty: &AstType) -> bool {
    matches!(ty, AstType::Custom(name, modifiers) if modifiers.is_empty()
        && ["SERIAL", "BIGSERIAL", "SMALLSERIAL", "SERIAL2", "SERIAL4", "SERIAL8"]
            .iter()
            .any(|serial| name.to_string().eq_ignore_ascii_case(serial)))
}

fn decimal(info: &ExactNumberInfo) -> Result<DataType> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => return Ok(DECIMAL_DEFAULT),
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    let max = u64::from(DataType::DECIMAL_PRECISION_MAX);
    let scale_fits = u64::try_from(scale).is_ok_and(|scale| scale <= precision);
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(p), Ok(s)) if (1..=max).contains(&precision) && scale_fits => {
            Ok(DataType::Decimal { precision: p, scale: s })
        }
        _ => Err(Error::InvalidSql(format!(
            "DECIMAL({precision},{scale}) is no type: the precision is 1 to {max}, the scale 0 to the precision"
        ))),
    }
}

fn custom(name: &str, modifiers: &[String]) -> Result<DataType> {
    match (name.to_ascii_uppercase().as_str(), modifiers) {
        ("EMBEDDING", [dimension]) => match dimension.parse::<u32>() {
            Ok(n) if (1..=DataType::EMBEDDING_MAX).contains(&n) => Ok(DataType::Embedding(n)),
            _ => Err(Error::InvalidSql(format!(
                "EMBEDDING({dimension}) is no type: the dimension is 1 to {}",
                DataType::EMBEDDING_MAX
            ))),
        },
        ("EMBEDDING", _) => Err(Error::InvalidSql("EMBEDDING needs its dimension, such as EMBEDDING(384)".to_owned())),
        ("FILE", []) => Ok(DataType::File),
        ("TEXT", _) => Ok(DataType::Text),
        ("TIMESTAMP_TZ" | "TIMESTAMP_LTZ", _) => Ok(DataType::Timestamp),
        ("VECTOR" | "HALFVEC", _) => Err(instead(name, "EMBEDDING(n)")),
        ("MONEY", _) => Err(instead(name, "DECIMAL(p,s)")),
        ("SET", _) => Err(instead(name, "TEXT or JSON")),
        ("INET" | "CIDR" | "CITEXT" | "XML" | "NAME", _) => Err(instead(name, "TEXT")),
        ("HSTORE", _) => Err(instead(name, "JSON")),
        _ => Err(Error::InvalidSql(format!("Unknown type '{name}'"))),
    }
}

fn refused(ty: &AstType) -> Error {
    let name = ty.to_string();
    let upper = name.to_ascii_uppercase();
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| upper.starts_with(prefix));
    match ty {
        AstType::TinyInt(_) => instead("TINYINT", "SMALLINT"),
        AstType::Interval { .. } => instead("INTERVAL", "BIGINT for a number of microseconds, or TEXT"),
        AstType::Array(_) => instead("ARRAY", "JSON, or EMBEDDING(n) for a vector of floats"),
        AstType::Enum(..) | AstType::Set(_) => instead(&name, "TEXT or JSON"),
        AstType::Struct(..) | AstType::Map(..) | AstType::Tuple(_) | AstType::Nested(_) => instead(&name, "JSON"),
        AstType::Time(..) => instead("TIME WITH TIME ZONE", "TIME"),
        AstType::Unspecified => Error::InvalidSql("a column needs a type".to_owned()),
        _ if upper.contains("UNSIGNED") || starts(&["UINT", "UTINYINT", "USMALLINT", "UBIGINT"]) => {
            instead(&name, "the next larger signed type, BIGINT or DECIMAL(20,0)")
        }
        _ if starts(&["INT128", "INT256", "HUGEINT", "UHUGEINT", "BIGDECIMAL", "BIGNUMERIC"]) => {
            instead(&name, "DECIMAL(38,0)")
        }
        _ if starts(&["BIT", "VARBIT"]) => instead(&name, "BOOLEAN or BYTES"),
        _ => Error::Unsupported(format!("type {name} is not supported")),
    }
}

fn instead(name: &str, use_this: &str) -> Error {
    Error::Unsupported(format!("type {name} is not supported; use {use_this}"))
}
