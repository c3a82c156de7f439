//! The body of `POST /v1/api/sql`, decoded and held to its limits.
//!
//! Owns the JSON form (protocol §4.1), our addition `durability`, and the limits on size and number.
//! Never looks into the SQL.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::config::LimitsConfig;
use crate::database::request::SqlRequest;
use crate::error::{Error, Result};
use crate::model::Param;

/// Unknown keys are passed over, as other servers of this protocol do.
#[derive(Deserialize)]
struct Body {
    sql: String,
    #[serde(default)]
    params: Option<Vec<GivenParam>>,
    #[serde(default)]
    namespace_id: Option<String>,
    #[serde(default)]
    durability: Option<String>,
}

/// # Errors
/// `INVALID_INPUT`, `EMPTY_SQL`, `INVALID_SQL` (too long), `INVALID_PARAMETER`.
pub(crate) fn decode(body: &[u8], limits: &LimitsConfig) -> Result<SqlRequest> {
    let body: Body =
        serde_json::from_slice(body).map_err(|fault| Error::InvalidInput(format!("Invalid JSON payload: {fault}")))?;
    if body.sql.trim().is_empty() {
        return Err(Error::EmptySql);
    }
    let max_sql = limits.max_sql_bytes.as_u64();
    if body.sql.len() as u64 > max_sql {
        let got = body.sql.len();
        return Err(Error::InvalidSql(format!("SQL query too long: {got} bytes; {max_sql} are allowed")));
    }
    Ok(SqlRequest {
        sql: body.sql,
        params: params(body.params.unwrap_or_default(), limits)?,
        namespace: body.namespace_id.filter(|name| !name.is_empty()),
        durability: body.durability.map(|level| durability(&level)).transpose()?,
        base_url: None,
        ip: None,
    })
}

fn durability(level: &str) -> Result<crate::model::Durability> {
    level.parse().map_err(|fault: crate::model::schema::UnknownDurability| Error::InvalidInput(fault.to_string()))
}

fn params(given: Vec<GivenParam>, limits: &LimitsConfig) -> Result<Vec<Param>> {
    if given.len() > limits.max_parameters {
        return Err(Error::TooManyParameters { max: limits.max_parameters, got: given.len() });
    }
    let max_bytes = limits.max_parameter_bytes.as_u64();
    let mut params = Vec::with_capacity(given.len());
    for (index, param) in given.into_iter().enumerate() {
        let fault = match param {
            GivenParam::Value(Param::Text(text)) if text.len() as u64 > max_bytes => {
                format!("it has {} bytes; {max_bytes} are allowed", text.len())
            }
            GivenParam::Value(value) => {
                params.push(value);
                continue;
            }
            GivenParam::TooLarge => "the integer is beyond BIGINT; send it as a string".to_owned(),
            GivenParam::Array => "Array parameters not yet supported".to_owned(),
            GivenParam::Object => "Object parameters not yet supported".to_owned(),
        };
        return Err(Error::InvalidParameter { position: index + 1, fault });
    }
    Ok(params)
}

/// A parameter as JSON can hold it; what is no parameter is told with its position, not as broken JSON.
enum GivenParam {
    Value(Param),
    TooLarge,
    Array,
    Object,
}

impl<'de> Deserialize<'de> for GivenParam {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ParamVisitor)
    }
}

struct ParamVisitor;

impl<'de> Visitor<'de> for ParamVisitor {
    type Value = GivenParam;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("null, a boolean, a number or a string")
    }

    fn visit_unit<E>(self) -> Result<GivenParam, E> {
        Ok(GivenParam::Value(Param::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<GivenParam, E> {
        Ok(GivenParam::Value(Param::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<GivenParam, E> {
        Ok(GivenParam::Value(Param::Int(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<GivenParam, E> {
        Ok(i64::try_from(value).map_or(GivenParam::TooLarge, |value| GivenParam::Value(Param::Int(value))))
    }

    fn visit_f64<E>(self, value: f64) -> Result<GivenParam, E> {
        Ok(GivenParam::Value(Param::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<GivenParam, E> {
        Ok(GivenParam::Value(Param::Text(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<GivenParam, E> {
        Ok(GivenParam::Value(Param::Text(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<GivenParam, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(GivenParam::Array)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<GivenParam, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(GivenParam::Object)
    }
}

#[cfg(test)]
mod tests {
    use bytesize::ByteSize;

    use super::*;
    use crate::model::Durability;

    fn limits() -> LimitsConfig {
        LimitsConfig {
            max_sql_bytes: ByteSize::b(40),
            max_parameter_bytes: ByteSize::b(5),
            max_parameters: 6,
            ..LimitsConfig::default()
        }
    }

    #[test]
    fn reads_every_kind_of_parameter() {
        let body = br#"{"sql":"SELECT $1","params":[null,true,-7,1.5,"x"],"namespace_id":"chat","durability":"buffered","more":1}"#;
        let request = decode(body, &limits()).unwrap();
        let expected =
            vec![Param::Null, Param::Bool(true), Param::Int(-7), Param::Float(1.5), Param::Text("x".to_owned())];
        assert_eq!(request.params, expected);
        assert_eq!(request.namespace.as_deref(), Some("chat"));
        assert_eq!(request.durability, Some(Durability::Buffered));
    }

    #[test]
    fn absent_and_null_are_the_same() {
        let request = decode(br#"{"sql":"SELECT 1","params":null,"namespace_id":""}"#, &limits()).unwrap();
        assert!(request.params.is_empty() && request.namespace.is_none() && request.durability.is_none());
    }

    #[test]
    fn says_what_is_wrong_with_a_body() {
        let cases: &[(&str, &str, &str)] = &[
            ("", "INVALID_INPUT", "Invalid JSON payload: EOF"),
            ("{\"sql\":", "INVALID_INPUT", "Invalid JSON payload"),
            ("SELECT 1", "INVALID_INPUT", "Invalid JSON payload: expected value at line 1 column 1"),
            ("{}", "INVALID_INPUT", "missing field `sql`"),
            (r#"{"sql":5}"#, "INVALID_INPUT", "expected a string"),
            (r#"{"sql":"  \n "}"#, "EMPTY_SQL", "SQL text is empty"),
            (r#"{"sql":"SELECT 1","params":{}}"#, "INVALID_INPUT", "expected a sequence"),
            (r#"{"sql":"SELECT 1","durability":"later"}"#, "INVALID_INPUT", "levels are sync and buffered"),
            (r#"{"sql":"SELECT 1","params":[1,[2]]}"#, "INVALID_PARAMETER", "Parameter $2 invalid: Array parameters"),
            (r#"{"sql":"SELECT 1","params":[{"a":1}]}"#, "INVALID_PARAMETER", "Parameter $1 invalid: Object"),
            (r#"{"sql":"SELECT 1","params":[9223372036854775808]}"#, "INVALID_PARAMETER", "beyond BIGINT"),
            (r#"{"sql":"SELECT 1","params":["123456"]}"#, "INVALID_PARAMETER", "it has 6 bytes; 5 are allowed"),
            (
                r#"{"sql":"SELECT 1","params":[1,2,3,4,5,6,7]}"#,
                "INVALID_PARAMETER",
                "maximum 6 parameters allowed, got 7",
            ),
            (
                r#"{"sql":"SELECT 1 -- and a comment that is quite long"}"#,
                "INVALID_SQL",
                "SQL query too long: 44 bytes; 40 are allowed",
            ),
        ];
        for (body, code, text) in cases {
            let error = decode(body.as_bytes(), &limits()).unwrap_err();
            assert_eq!(error.code().wire(), *code, "{body}: {error}");
            assert!(error.to_string().contains(text), "{body}: {error} should say {text}");
        }
    }
}
