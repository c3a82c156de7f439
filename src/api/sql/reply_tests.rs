//! Answers as their bytes, whole and streamed, good and broken off.

use std::sync::Arc;
use std::time::Duration;

use actix_web::body::{self, BodySize, MessageBody as _};
use arrow::array::{Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType as ArrowType, Field, Schema};
use serde_json::{Value, json};

use super::*;

fn batch(first: i64, rows: i64) -> RecordBatch {
    let schema =
        Schema::new(vec![Field::new("id", ArrowType::Int64, false), Field::new("body", ArrowType::Utf8, true)]);
    let ids = Int64Array::from_iter_values(first..first + rows);
    let bodies = StringArray::from_iter((first..first + rows).map(|id| (id % 2 == 0).then(|| format!("row \"{id}\""))));
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(ids), Arc::new(bodies)]).unwrap()
}

fn rows(batches: Vec<Result<RecordBatch>>) -> StatementResult {
    let schema = ResultSchema::of_arrow(&batch(0, 0).schema());
    let rows = RowStream { schema, batches: Box::pin(stream::iter(batches)) };
    StatementResult { as_user: UserId::parse("alice").unwrap(), outcome: Outcome::Rows(rows) }
}

fn done(rows: u64, message: &str) -> StatementResult {
    let outcome = Outcome::Done { rows, message: message.to_owned() };
    StatementResult { as_user: UserId::parse("alice").unwrap(), outcome }
}

struct Answer {
    status: u16,
    streamed: bool,
    body: String,
}

impl Answer {
    /// The body without `took`, which is never the same.
    fn json(&self) -> Value {
        let mut value: Value = serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body));
        assert!(value["took"].as_f64().unwrap() >= 0.0);
        value.as_object_mut().unwrap().remove("took");
        value
    }
}

async fn answer(results: Vec<StatementResult>, max_result_bytes: u64) -> Answer {
    let context = ReplyContext {
        started: Instant::now(),
        max_result_bytes,
        role: Role::User,
        sql: "SELECT 1".to_owned(),
        gone: Box::pin(future::pending()),
    };
    let response = respond(SqlResponse { results }, context).await;
    let status = response.status().as_u16();
    let streamed = response.body().size() == BodySize::Stream;
    let bytes = body::to_bytes(response.into_body()).await.unwrap();
    Answer { status, streamed, body: String::from_utf8(bytes.to_vec()).unwrap() }
}

const ENOUGH: u64 = 64 << 20;

fn schema() -> Value {
    json!([{"name":"id","data_type":"BigInt","index":0},{"name":"body","data_type":"Text","index":1}])
}

#[actix::test]
async fn rows_are_arrays_with_schema_and_count() {
    let answer = answer(vec![rows(vec![Ok(batch(1, 2)), Ok(batch(3, 1))])], ENOUGH).await;
    assert!(answer.body.starts_with(r#"{"status":"success","results":[{"schema":[{"name":"id""#), "{}", answer.body);
    assert_eq!((answer.status, answer.streamed), (200, false));
    assert_eq!(
        answer.json(),
        json!({"status":"success","error":null,"results":[
            {"schema":schema(),"rows":[["1",null],["2","row \"2\""],["3",null]],"row_count":3,"as_user":"alice"}]})
    );
}

#[actix::test]
async fn no_rows_still_have_their_schema() {
    let result = &answer(vec![rows(vec![])], ENOUGH).await.json()["results"][0];
    assert_eq!(*result, json!({"schema":schema(),"rows":[],"row_count":0,"as_user":"alice"}));
}

#[actix::test]
async fn statements_without_rows_have_a_message_and_no_error_key() {
    let answer = answer(vec![done(2, "Inserted 2 row(s)")], ENOUGH).await;
    assert_eq!(
        answer.json(),
        json!({"status":"success","results":[{"row_count":2,"message":"Inserted 2 row(s)","as_user":"alice"}]})
    );
}

#[actix::test]
async fn one_result_per_statement_in_order() {
    let results = vec![done(1, "Inserted 1 row(s)"), rows(vec![Ok(batch(1, 1))]), done(0, "Deleted 0 row(s)")];
    let json = answer(results, ENOUGH).await.json();
    let counts: Vec<_> = json["results"].as_array().unwrap().iter().map(|r| r["row_count"].clone()).collect();
    assert_eq!(counts, [json!(1), json!(1), json!(0)]);
}

#[actix::test]
async fn a_long_answer_is_streamed_and_is_the_same() {
    let batches = (0..40).map(|n| Ok(batch(n * 1_000, 1_000))).collect();
    let answer = answer(vec![done(1, "Inserted 1 row(s)"), rows(batches)], ENOUGH).await;
    assert!(answer.streamed && answer.body.starts_with(r#"{"results":[{"row_count":1"#));
    let json = answer.json();
    assert_eq!((&json["status"], &json["error"]), (&json!("success"), &Value::Null));
    assert_eq!(json["results"][1]["row_count"], 40_000);
    let rows = json["results"][1]["rows"].as_array().unwrap();
    assert!(rows.iter().enumerate().all(|(n, row)| row[0].as_str() == Some(n.to_string().as_str())));
    assert_eq!(rows.len(), 40_000);
}

#[actix::test]
async fn an_early_failure_has_its_status() {
    let answer = answer(
        vec![rows(vec![Ok(batch(0, 10)), Err(Error::StatementTimeout { limit: Duration::from_secs(30) })])],
        ENOUGH,
    )
    .await;
    assert_eq!(answer.status, 400);
    let json = answer.json();
    assert_eq!((&json["status"], &json["results"]), (&json!("error"), &json!([])));
    assert_eq!(json["error"]["code"], "STATEMENT_TIMEOUT");
}

#[actix::test]
async fn a_late_failure_ends_the_rows_and_is_told() {
    let mut batches: Vec<_> = (0..40).map(|n| Ok(batch(n * 1_000, 1_000))).collect();
    batches.push(Err(Error::StatementTimeout { limit: Duration::from_secs(30) }));
    let answer = answer(vec![rows(batches), done(1, "never said")], ENOUGH).await;
    assert_eq!((answer.status, answer.streamed), (200, true));
    let json = answer.json();
    assert_eq!(json["status"], "error");
    assert_eq!(json["error"]["code"], "STATEMENT_TIMEOUT");
    assert_eq!(json["error"]["sqlstate"], "57014");
    assert_eq!(json["results"].as_array().unwrap().len(), 1);
    assert_eq!(json["results"][0]["row_count"], 40_000, "the rows that came are good");
}

#[actix::test]
async fn too_large_a_result_is_an_error_early_and_late() {
    let early = answer(vec![rows(vec![Ok(batch(0, 1_000))])], 1_000).await;
    assert_eq!((early.status, early.json()["error"]["code"].clone()), (400, json!("RESULT_TOO_LARGE")));
    let batches = (0..40).map(|n| Ok(batch(n * 1_000, 1_000))).collect();
    let late = answer(vec![rows(batches)], 400_000).await;
    let json = late.json();
    assert_eq!((late.status, json["error"]["code"].clone()), (200, json!("RESULT_TOO_LARGE")));
    let (count, rows) = (&json["results"][0]["row_count"], json["results"][0]["rows"].as_array().unwrap().len());
    assert_eq!(*count, rows);
}

#[actix::test]
async fn what_json_can_not_carry_is_an_error_not_a_broken_body() {
    let schema = Schema::new(vec![Field::new("x", ArrowType::Float64, false)]);
    let nan = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Float64Array::from(vec![1.0, f64::NAN]))]).unwrap();
    let answer = answer(vec![rows(vec![Ok(nan)])], ENOUGH).await;
    assert_eq!((answer.status, answer.json()["status"].clone()), (400, json!("error")));
}
