//! `POST /v1/api/topics/consume` and `POST /v1/api/topics/ack` (protocol §6).
//!
//! Owns the JSON of both. A consumer that waits is let go when its client is gone: what it would get is another's.
//! Never decides who gets what: that is behind [`Database::consume`].

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{client, post, problem, sql};
use crate::auth::Authenticator;
use crate::database::Database;
use crate::database::topics::{ConsumeRequest, Consumed, Message};
use crate::error::{Error, ErrorCode, Result};
use crate::model::{ChangeKind, ConsumeFrom, EntryOrigin, GroupId, NamespaceName, TableName};

const DEFAULT_LIMIT: u64 = 100;

/// The routes. They need `web::Data` of [`Authenticator`] and [`Database`].
pub(super) fn configure(routes: &mut web::ServiceConfig) {
    routes
        .service(post("/v1/api/topics/consume", web::post().to(consume)))
        .service(post("/v1/api/topics/ack", web::post().to(ack)));
}

#[derive(Deserialize)]
struct ConsumeBody {
    topic_id: String,
    group_id: String,
    #[serde(default)]
    start: Option<StartBody>,
    #[serde(default)]
    limit: Option<u64>,
    #[serde(default)]
    partition_id: u32,
    #[serde(default)]
    timeout_seconds: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum StartBody {
    Word(String),
    Offset(std::collections::HashMap<String, u64>),
}

#[derive(Deserialize)]
struct AckBody {
    topic_id: String,
    group_id: String,
    #[serde(default)]
    partition_id: u32,
    upto_offset: u64,
}

#[derive(Serialize)]
struct Messages<'a> {
    messages: Vec<MessageBody<'a>>,
    next_offset: u64,
    has_more: bool,
    first_offset: u64,
    #[serde(skip_serializing_if = "is_zero")]
    lost: u64,
}

#[derive(Serialize)]
struct MessageBody<'a> {
    topic_id: &'a str,
    partition_id: u32,
    offset: u64,
    payload: String,
    key: Option<&'a str>,
    timestamp_ms: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    op: &'static str,
    deliveries: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<&'a EntryOrigin>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

async fn consume(
    request: HttpRequest,
    body: Result<Bytes, actix_web::Error>,
    authenticator: Data<Authenticator>,
    database: Data<Database>,
) -> HttpResponse {
    let answered = async {
        let principal = sql::principal(&request, &authenticator).await?;
        let asked = consume_request(parse(body, r#"{"topic_id":"…","group_id":"…"}"#)?)?;
        let consumed = database.consume(&principal, &asked).await?;
        Ok((asked.topic, consumed))
    };
    tokio::select! {
        answered = answered => match answered {
            Ok((topic, consumed)) => messages(&topic, &consumed),
            Err(error) => refused(&error, "Topic consumption"),
        },
        // Nobody reads this.
        () = client::presence::gone(&request) => refused(&Error::Aborted, "Topic consumption"),
    }
}

async fn ack(
    request: HttpRequest,
    body: Result<Bytes, actix_web::Error>,
    authenticator: Data<Authenticator>,
    database: Data<Database>,
) -> HttpResponse {
    #[derive(Serialize)]
    struct Acknowledged {
        success: bool,
        acknowledged_offset: u64,
    }
    let answered = async {
        let principal = sql::principal(&request, &authenticator).await?;
        let body: AckBody = parse(body, r#"{"topic_id":"…","group_id":"…","upto_offset":0}"#)?;
        let (topic, group) = (topic_name(&body.topic_id)?, GroupId::parse(&body.group_id)?);
        database.ack(&principal, &topic, &group, body.partition_id, body.upto_offset).await
    };
    match answered.await {
        Ok(acknowledged_offset) => HttpResponse::Ok().json(Acknowledged { success: true, acknowledged_offset }),
        Err(error) => refused(&error, "Topic acknowledgment"),
    }
}

fn parse<T: DeserializeOwned>(body: Result<Bytes, actix_web::Error>, form: &str) -> Result<T> {
    let fault = |fault: String| Error::InvalidInput(format!("Invalid JSON payload: {fault}; send {form}"));
    let body = body.map_err(|error| fault(error.to_string()))?;
    serde_json::from_slice(&body).map_err(|error| fault(error.to_string()))
}

fn consume_request(body: ConsumeBody) -> Result<ConsumeRequest> {
    let wait = body.timeout_seconds.unwrap_or(0.0);
    let wait = Duration::try_from_secs_f64(wait)
        .map_err(|_| Error::InvalidInput(format!("timeout_seconds is a number from 0 to 60, not {wait}")))?;
    let limit = body.limit.unwrap_or(DEFAULT_LIMIT);
    if limit == 0 {
        return Err(Error::InvalidInput("limit is a number from 1 on".to_owned()));
    }
    Ok(ConsumeRequest {
        topic: topic_name(&body.topic_id)?,
        group: GroupId::parse(&body.group_id)?,
        partition: body.partition_id,
        from: body.start.map(start).transpose()?.unwrap_or_default(),
        limit,
        wait,
    })
}

fn start(start: StartBody) -> Result<ConsumeFrom> {
    match &start {
        StartBody::Word(word) if word.eq_ignore_ascii_case("latest") => return Ok(ConsumeFrom::Latest),
        StartBody::Word(word) if word.eq_ignore_ascii_case("earliest") => return Ok(ConsumeFrom::Earliest),
        StartBody::Offset(given) if given.len() == 1 => {
            if let Some((_, offset)) = given.iter().find(|(name, _)| name.eq_ignore_ascii_case("offset")) {
                return Ok(ConsumeFrom::Offset(*offset));
            }
        }
        _ => {}
    }
    Err(Error::InvalidInput(r#"start is "Latest", "Earliest" or {"Offset":n}"#.to_owned()))
}

fn topic_name(text: &str) -> Result<TableName> {
    let unknown = || Error::TopicNotFound(text.to_owned());
    let (namespace, name) = text.split_once('.').ok_or_else(unknown)?;
    TableName::new(NamespaceName::parse(namespace).map_err(|_| unknown())?, name).map_err(|_| unknown())
}

fn messages(topic: &TableName, consumed: &Consumed) -> HttpResponse {
    let topic = topic.to_string();
    let Consumed { messages, next_offset, first_offset, has_more, lost } = consumed;
    HttpResponse::Ok().json(Messages {
        messages: messages.iter().map(|message| body_of(&topic, message)).collect(),
        next_offset: *next_offset,
        has_more: *has_more,
        first_offset: *first_offset,
        lost: *lost,
    })
}

fn body_of<'a>(topic: &'a str, message: &'a Message) -> MessageBody<'a> {
    let entry = &message.entry;
    MessageBody {
        topic_id: topic,
        partition_id: message.at.partition,
        offset: message.offset,
        payload: BASE64.encode(&entry.payload),
        key: entry.key.as_deref(),
        timestamp_ms: entry.timestamp_ms,
        user: entry.user.as_ref().map(|user| user.as_str()),
        op: match entry.op {
            ChangeKind::Insert => "Insert",
            ChangeKind::Update => "Update",
            ChangeKind::Delete => "Delete",
        },
        deliveries: message.deliveries,
        origin: entry.origin.as_ref(),
    }
}

/// `{"error":…,"code":…}`
fn refused(error: &Error, what: &str) -> HttpResponse {
    #[derive(Serialize)]
    struct Body {
        error: String,
        code: &'static str,
    }
    problem::log(error);
    let code = error.code();
    if code == ErrorCode::PermissionDenied {
        let error = format!("{what} requires service, dba, or system role");
        return problem::builder_of(StatusCode::FORBIDDEN).json(Body { error, code: "FORBIDDEN" });
    }
    problem::builder(code).json(Body { error: error.to_string(), code: code.wire() })
}
