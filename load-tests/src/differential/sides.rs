//! The two servers that are asked: PostgreSQL over its protocol, InboxDB over HTTP.
//!
//! Owns how each side's answer becomes an [`Outcome`]. PostgreSQL's database orders text by code point, as InboxDB does,
//! and knows the letters of all scripts.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::answer::{Answer, Cell, Kind, Outcome};
use super::tables::Table;
use crate::peers::{Instance, Postgres, Session};

const DATABASE: &str = "differential";
/// A namespace of InboxDB.
const NAMESPACE: &str = "d";

pub(super) struct Sides {
    postgres: Client,
    inboxdb: Session,
}

impl Sides {
    pub(super) async fn connect(postgres: &Postgres, instance: &Instance) -> Result<Self> {
        let create =
            format!("CREATE DATABASE {DATABASE} TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C.UTF-8'");
        postgres.session().await?.batch_execute(&create).await.context("create PostgreSQL's database")?;
        let client = postgres.session_in(DATABASE).await?;
        client
            .batch_execute("SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET statement_timeout = '20s'")
            .await
            .context("set PostgreSQL's session up")?;
        let mut inboxdb = instance.admin().await?;
        inboxdb.run(&format!("CREATE NAMESPACE {NAMESPACE}")).await?;
        Ok(Self { postgres: client, inboxdb })
    }

    /// Makes and fills a table on both; of InboxDB it may be cold.
    pub(super) async fn make(&mut self, table: &Table, cold: bool) -> Result<()> {
        let insert = table.insert();
        self.postgres.batch_execute(&table.create("CREATE TABLE")).await.context("create PostgreSQL's table")?;
        let name = &table.name;
        let create = table.create("CREATE SHARED TABLE").replace(name.as_str(), &format!("{NAMESPACE}.{name}"));
        self.inboxdb.run(&create).await?;
        if let Some(insert) = insert {
            self.postgres.batch_execute(&insert).await.with_context(|| format!("fill PostgreSQL's {name}"))?;
            self.inboxdb.run(&insert.replacen(name.as_str(), &format!("{NAMESPACE}.{name}"), 1)).await?;
            if cold {
                self.inboxdb.storage(&format!("FLUSH TABLE {NAMESPACE}.{name}")).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn drop(&mut self, table: &Table) -> Result<()> {
        self.postgres.batch_execute(&format!("DROP TABLE {}", table.name)).await.context("drop a table")?;
        self.inboxdb.run(&format!("DROP TABLE {NAMESPACE}.{}", table.name)).await.map(drop)
    }

    /// # Errors
    ///
    /// Where the server is gone: a refusal is an outcome.
    pub(super) async fn ask_postgres(&self, sql: &str) -> Result<Outcome> {
        // The text protocol says every value as psql would, and no type; the description says the types.
        let types = match self.postgres.prepare(sql).await {
            Ok(statement) => statement.columns().iter().map(|column| column.type_().clone()).collect::<Vec<_>>(),
            Err(error) => return refusal(error),
        };
        let messages = match self.postgres.simple_query(sql).await {
            Ok(messages) => messages,
            Err(error) => return refusal(error),
        };
        let kinds: Vec<Kind> = types.iter().map(kind_of_postgres).collect();
        let mut rows = Vec::new();
        for message in messages {
            if let SimpleQueryMessage::Row(row) = message {
                let cell =
                    |(column, kind): (usize, &Kind)| row.get(column).map_or(Ok(Cell::Null), |text| read(text, *kind));
                rows.push(kinds.iter().enumerate().map(cell).collect::<Result<Vec<_>>>()?);
            }
        }
        Ok(Outcome::Rows(Answer { kinds, rows }))
    }

    /// # Errors
    ///
    /// Where the server is gone or says what it never should.
    pub(super) async fn ask_inboxdb(&mut self, sql: &str) -> Result<Outcome> {
        let request = json!({"sql": sql, "namespace_id": NAMESPACE}).to_string();
        let answer = self.inboxdb.ask(&request).await?;
        let body: Value = serde_json::from_str(&answer.body).with_context(|| format!("read {:.300}", answer.body))?;
        if body["status"] != "success" {
            let text = |field: &str| body["error"][field].as_str().unwrap_or_default().to_owned();
            return Ok(Outcome::Refused { sqlstate: text("sqlstate"), message: text("message") });
        }
        let result = &body["results"][0];
        let columns = result["schema"].as_array().with_context(|| format!("no schema in {:.300}", answer.body))?;
        let kinds: Vec<Kind> = columns.iter().map(|column| kind_of_inboxdb(&column["data_type"])).collect();
        let mut rows = Vec::new();
        for row in result["rows"].as_array().context("no rows")? {
            let values = row.as_array().context("a row is no list")?;
            ensure!(values.len() == kinds.len(), "a row of {} values, {} columns", values.len(), kinds.len());
            rows.push(values.iter().zip(&kinds).map(|(value, kind)| cell_of_json(value, *kind)).collect());
        }
        Ok(Outcome::Rows(Answer { kinds, rows }))
    }
}

fn refusal(error: tokio_postgres::Error) -> Result<Outcome> {
    match error.as_db_error() {
        Some(refusal) => {
            Ok(Outcome::Refused { sqlstate: refusal.code().code().to_owned(), message: refusal.message().to_owned() })
        }
        None => Err(error).context("ask PostgreSQL"),
    }
}

fn kind_of_postgres(ty: &Type) -> Kind {
    match *ty {
        Type::INT2 | Type::INT4 | Type::INT8 | Type::FLOAT4 | Type::FLOAT8 | Type::NUMERIC => Kind::Number,
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::UNKNOWN => Kind::Text,
        Type::BOOL => Kind::Bool,
        Type::DATE => Kind::Date,
        Type::TIMESTAMP | Type::TIMESTAMPTZ => Kind::Timestamp,
        _ => Kind::Other,
    }
}

fn kind_of_inboxdb(data_type: &Value) -> Kind {
    match data_type.as_str() {
        Some("SmallInt" | "Int" | "BigInt" | "Float" | "Double") => Kind::Number,
        Some("Text") => Kind::Text,
        Some("Boolean") => Kind::Bool,
        Some("Date") => Kind::Date,
        Some("Timestamp" | "DateTime") => Kind::Timestamp,
        None if data_type.get("Decimal").is_some() => Kind::Number,
        _ => Kind::Other,
    }
}

/// BIGINT and DECIMAL are strings, times are numbers.
fn cell_of_json(value: &Value, kind: Kind) -> Cell {
    match (value, kind) {
        (Value::Null, _) => Cell::Null,
        (Value::Bool(value), _) => Cell::Bool(*value),
        (Value::Number(number), Kind::Date | Kind::Timestamp) => {
            number.as_i64().map_or_else(|| Cell::Number(number.to_string()), Cell::Time)
        }
        (Value::Number(number), _) => Cell::Number(number.to_string()),
        (Value::String(text), Kind::Number) => Cell::Number(text.clone()),
        (Value::String(text), Kind::Date | Kind::Timestamp) => {
            text.parse().map_or_else(|_| Cell::Text(text.clone()), Cell::Time)
        }
        (Value::String(text), _) => Cell::Text(text.clone()),
        (other, _) => Cell::Text(other.to_string()),
    }
}

/// A value in PostgreSQL's words.
fn read(text: &str, kind: Kind) -> Result<Cell> {
    Ok(match kind {
        Kind::Bool => Cell::Bool(text == "t"),
        Kind::Number => Cell::Number(text.to_owned()),
        Kind::Text | Kind::Other => Cell::Text(text.to_owned()),
        Kind::Date => Cell::Time(days(text).with_context(|| format!("{text:?} is no date"))?),
        Kind::Timestamp => Cell::Time(microseconds(text).with_context(|| format!("{text:?} is no timestamp"))?),
    })
}

/// `YYYY-MM-DD`, maybe ` BC`, in days since 1970.
fn days(text: &str) -> Option<i64> {
    let (text, before) = match text.strip_suffix(" BC") {
        Some(text) => (text, true),
        None => (text, false),
    };
    let mut parts = text.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let year = if before { 1 - year } else { year };
    // Years begin in March, so that the leap day is the last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * month + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

fn microseconds(text: &str) -> Option<i64> {
    let (text, before) = match text.strip_suffix(" BC") {
        Some(text) => (text, " BC"),
        None => (text, ""),
    };
    let (date, time) = text.trim_end_matches("+00").split_once(' ')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut parts = time.split(':').map(|part| part.parse::<i64>().ok());
    let seconds = (parts.next()?? * 60 + parts.next()??) * 60 + parts.next()??;
    let fraction: i64 = format!("{fraction:0<6}").parse().ok()?;
    Some((days(&format!("{date}{before}"))? * 86_400 + seconds) * 1_000_000 + fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_moments_are_counted_from_1970() {
        for (text, expected) in [("1970-01-01", 0), ("1969-12-31", -1), ("2000-02-29", 11_016), ("2100-03-01", 47_541)]
        {
            assert_eq!(days(text), Some(expected), "{text}");
        }
        assert_eq!(microseconds("1970-01-01 00:00:01.5"), Some(1_500_000));
        assert_eq!(microseconds("1969-12-31 23:59:59.999999"), Some(-1));
        assert_eq!(microseconds("1970-01-01"), None);
    }

    #[test]
    fn values_of_both_sides_meet() {
        assert_eq!(read("t", Kind::Bool).expect("a bool"), cell_of_json(&json!(true), Kind::Bool));
        assert_eq!(read("1970-01-02", Kind::Date).expect("a date"), cell_of_json(&json!(1), Kind::Date));
        assert_eq!(
            cell_of_json(&json!("9223372036854775807"), Kind::Number),
            Cell::Number("9223372036854775807".to_owned())
        );
        assert_eq!(kind_of_inboxdb(&json!({"Decimal": {"precision": 10, "scale": 2}})), Kind::Number);
        assert_eq!(kind_of_postgres(&Type::NUMERIC), Kind::Number);
    }
}
