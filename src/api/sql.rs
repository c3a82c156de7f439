//! `POST /v1/api/sql`.
//!
//! Owns the order: who asks, how often, what they send, run, answer.
//! Never looks into the SQL. Limits of the body are in [`decode`], the answer is written in [`reply`].

mod arrow;
pub(crate) mod decode;
mod reply;

use std::net::{IpAddr, Ipv4Addr};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Instant;

use actix_web::error::PayloadError;
use actix_web::http::header;
use actix_web::web::{Bytes, Data};
use actix_web::{HttpRequest, HttpResponse};

use futures_util::{FutureExt as _, future};

use super::client::{self, ClientIp};
use super::observe::RequestId;
use super::problem::SqlProblem;
use crate::auth::Authenticator;
use crate::config::Config;
use crate::database::Database;
use crate::database::request::{CallerGone, Outcome, SqlResponse, StatementResult};
use crate::error::{Error, Result};
use crate::model::{Principal, Role};
use reply::ReplyContext;

/// Stands for a client whose socket has just closed: not this machine.
pub(super) const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

pub(super) async fn execute(
    request: HttpRequest,
    body: Result<Bytes, actix_web::Error>,
    config: Data<Config>,
    authenticator: Data<Authenticator>,
    database: Data<Database>,
) -> HttpResponse {
    let started = Instant::now();
    let refuse = |error: &Error, role: Role| {
        SqlProblem { error, statement: None, sql: "", role, took: started.elapsed() }.response()
    };
    let principal = match principal(&request, &authenticator).await {
        Ok(principal) => principal,
        Err(error) => return refuse(&error, Role::Anonymous),
    };
    let body = match body {
        Ok(body) => body,
        Err(error) => return unreadable(&error, &config, |error| refuse(error, principal.role)),
    };
    let mut sql_request = match decode_body(&request, &body, &config) {
        Ok(sql_request) => sql_request,
        Err(error) => return refuse(&error, principal.role),
    };
    sql_request.base_url = base_url(&request, &config);
    sql_request.ip = ClientIp::of(&request);
    sql_request.request_id = RequestId::of(&request);
    sql_request.one_statement = arrow::is_wanted(request.headers());
    let (watch, caller) = CallerGone::watched();
    sql_request.caller = caller;

    // An administrator's error shows the statement; nobody else's needs the copy.
    let sql = if principal.role.is_admin() { sql_request.sql.clone() } else { String::new() };
    let answered = async {
        let as_arrow = sql_request.one_statement;
        // A panic in a query ends that query: its caller is answered, and the connection goes on.
        let executed = AssertUnwindSafe(database.execute(&principal, sql_request)).catch_unwind().await;
        match executed.unwrap_or_else(|_| Err(Error::internal("a panic, see above").into())) {
            Ok(response) => {
                let gone = Box::pin(client::presence::gone(&request));
                let max_result_bytes = config.limits.max_result_bytes.as_u64();
                let context = ReplyContext { started, max_result_bytes, role: principal.role, sql, gone };
                respond(response, as_arrow, context).await
            }
            Err(failed) => SqlProblem {
                error: &failed.error,
                statement: failed.statement,
                sql: &sql,
                role: principal.role,
                took: started.elapsed(),
            }
            .response(),
        }
    };
    match future::select(pin!(answered), pin!(client::presence::gone(&request))).await {
        future::Either::Left((response, _)) => response,
        // Its queries are stopped; a write that has begun is not dropped in its middle.
        future::Either::Right(((), answered)) => {
            watch.tell();
            answered.await
        }
    }
}

async fn respond(mut response: SqlResponse, as_arrow: bool, context: ReplyContext) -> HttpResponse {
    match response.results.pop() {
        Some(StatementResult { as_user, outcome: Outcome::Rows(rows) }) if as_arrow => {
            arrow::respond(rows, &as_user, context).await
        }
        last => {
            response.results.extend(last);
            reply::respond(response, context).await
        }
    }
}

pub(super) async fn principal(request: &HttpRequest, authenticator: &Authenticator) -> Result<Principal> {
    let header = request.headers().get(header::AUTHORIZATION);
    let header = header.map(|value| value.to_str()).transpose().map_err(|_| Error::InvalidCredentials)?;
    let session = authenticator.authenticate_header(header, ClientIp::of(request).unwrap_or(NOBODY)).await?;
    authenticator.admit_request(&session.principal)?;
    Ok(session.principal)
}

fn decode_body(request: &HttpRequest, body: &[u8], config: &Config) -> Result<crate::database::request::SqlRequest> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if content_type.is_some_and(|kind| kind.starts_with("multipart/")) {
        let text = "File uploads (multipart/form-data) are not supported; send a JSON body: {\"sql\":\"…\"}";
        return Err(Error::InvalidInput(text.to_owned()));
    }
    decode::decode(body, &config.limits)
}

/// The body could not be read: too large, cut off, or badly encoded.
fn unreadable(error: &actix_web::Error, config: &Config, refuse: impl Fn(&Error) -> HttpResponse) -> HttpResponse {
    match error.as_error::<PayloadError>() {
        Some(PayloadError::Overflow) => client::too_large(None, config.server.request_body_limit.as_u64()),
        _ => refuse(&Error::InvalidInput(format!("The request body can not be read: {error}"))),
    }
}

/// Scheme and host by which the client came: what `SUBSCRIBE TO` builds its address of.
fn base_url(request: &HttpRequest, config: &Config) -> Option<String> {
    if let Some(origin) = &config.server.public_origin {
        return Some(origin.clone());
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri().authority().map(|authority| authority.as_str()))?;
    let scheme = if config.tls.certificate_file.is_some() { "https" } else { "http" };
    Some(format!("{scheme}://{host}"))
}
