//! Errors as HTTP answers: the body of SQL errors (protocol §4.5), and the plain one of HTTP's own.
//!
//! Owns which status, headers and fields an [`Error`] becomes, and what who may see of it (A17).
//! Never looks at an error's text to decide anything.

use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, HttpResponseBuilder};
use serde::Serialize;
use tracing::Level;

use crate::error::{Error, ErrorCode};
use crate::model::Role;

/// An error of a SQL request, with what its answer needs.
pub(crate) struct SqlProblem<'a> {
    pub(crate) error: &'a Error,
    /// From 1, where the request has several statements.
    pub(crate) statement: Option<usize>,
    /// The request's text: shown to administrators.
    pub(crate) sql: &'a str,
    pub(crate) role: Role,
    pub(crate) took: Duration,
}

/// `error` of an answer.
#[derive(Serialize)]
pub(crate) struct ErrorBody<'a> {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a str>,
    sqlstate: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u64>,
}

impl SqlProblem<'_> {
    /// The answer, where nothing has been sent yet.
    pub(crate) fn response(&self) -> HttpResponse {
        #[derive(Serialize)]
        struct Body<'a> {
            status: &'static str,
            results: [(); 0],
            took: f64,
            error: ErrorBody<'a>,
        }
        log(self.error);
        let code = self.error.code();
        builder(code).json(Body { status: "error", results: [], took: millis(self.took), error: self.body() })
    }

    /// Only `error`, for an answer that has begun.
    pub(crate) fn body(&self) -> ErrorBody<'_> {
        let code = self.error.code();
        let text = visible_text(self.error, self.role);
        let message = match self.statement {
            Some(statement) => format!("Statement {statement} failed: {text}"),
            None => text,
        };
        let (line, column) = self.error.position().unzip();
        let details = (self.role.is_admin() && !self.sql.is_empty() && !may_hold_secret(self.sql)).then_some(self.sql);
        ErrorBody { code: code.wire(), message, details, sqlstate: code.sqlstate(), line, column }
    }
}

/// Answers are logged by proxies and clients: a statement that may hold a password or a key is not sent back.
fn may_hold_secret(sql: &str) -> bool {
    let words = sql.to_ascii_uppercase();
    words.contains("PASSWORD") || words.contains("CREDENTIAL")
}

/// What the caller may read. The text of most errors holds only what the caller sent or may read; the engine's report
/// about memory names the queries of everybody.
fn visible_text(error: &Error, role: Role) -> String {
    match error {
        Error::OutOfMemory(_) if !role.is_admin() => {
            Error::OutOfMemory("the report is for administrators".to_owned()).to_string()
        }
        _ => error.to_string(),
    }
}

/// `{"error":…,"message":…}`: the body of answers that belong to HTTP and have no [`ErrorCode`].
pub(crate) fn plain(status: StatusCode, error: &'static str, message: String) -> HttpResponse {
    #[derive(Serialize)]
    struct Body {
        error: &'static str,
        message: String,
    }
    HttpResponse::build(status).json(Body { error, message })
}

/// `{"error":…,"message":…}` of an [`Error`], with its code's status.
pub(crate) fn coded(error: &Error) -> HttpResponse {
    #[derive(Serialize)]
    struct Body {
        error: &'static str,
        message: String,
    }
    log(error);
    let code = error.code();
    builder(code).json(Body { error: code.wire(), message: visible_text(error, Role::User) })
}

/// An answer with a code's status, and the headers that go with it.
pub(crate) fn builder(code: ErrorCode) -> HttpResponseBuilder {
    builder_of(StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
}

/// An answer with a status, and the headers that go with it.
pub(crate) fn builder_of(status: StatusCode) -> HttpResponseBuilder {
    let mut builder = HttpResponse::build(status);
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        builder.insert_header((header::RETRY_AFTER, "1"));
    }
    // Not `Basic`, which would make a browser ask its user in the middle of a page's script.
    if status == StatusCode::UNAUTHORIZED {
        builder.insert_header((header::WWW_AUTHENTICATE, "Bearer realm=\"inboxdb\""));
    }
    builder
}

/// Milliseconds with three decimals, as `took` is given.
pub(crate) fn millis(took: Duration) -> f64 {
    (took.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

pub(crate) fn log(error: &Error) {
    let code = error.code();
    let source = std::error::Error::source(error).map(ToString::to_string);
    let source = source.as_deref();
    match code.log_level() {
        Level::ERROR => tracing::error!(?code, %error, source, "request failed"),
        Level::WARN => tracing::warn!(?code, %error, source, "request failed"),
        _ => tracing::debug!(?code, %error, source, "request failed"),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::body::MessageBody as _;

    use super::*;

    fn body(problem: &SqlProblem<'_>) -> String {
        let bytes = problem.response().into_body().try_into_bytes().unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    fn problem(error: &Error, role: Role) -> SqlProblem<'_> {
        SqlProblem { error, statement: None, sql: "SELECT 1 FRM", role, took: Duration::from_micros(400) }
    }

    #[test]
    fn an_error_has_its_code_its_sqlstate_and_its_place() {
        let error = Error::Syntax { message: "found FRM".to_owned(), line: 1, column: 10 };
        assert_eq!(
            body(&problem(&error, Role::User)),
            concat!(
                r#"{"status":"error","results":[],"took":0.4,"error":{"code":"INVALID_SQL","#,
                r#""message":"Invalid SQL: found FRM","sqlstate":"42601","line":1,"column":10}}"#
            )
        );
    }

    #[test]
    fn only_administrators_see_the_statement_and_others_memory() {
        let error = Error::OutOfMemory("consumer 'query of alice'".to_owned());
        let user = body(&problem(&error, Role::Service));
        assert!(!user.contains("alice") && !user.contains("details"), "{user}");
        let dba = body(&problem(&error, Role::Dba));
        assert!(dba.contains("alice") && dba.contains(r#""details":"SELECT 1 FRM""#), "{dba}");
    }

    #[test]
    fn a_statement_with_a_secret_is_not_sent_back() {
        for sql in
            ["CREATE USER a WITH password 'hunter2'", "ALTER STORAGE s SET Credentials '{\"token\":\"hunter2\"}'"]
        {
            let text = body(&SqlProblem { sql, ..problem(&Error::Busy, Role::Dba) });
            assert!(!text.contains("hunter2") && !text.contains("details"), "{text}");
        }
    }

    #[test]
    fn a_batch_names_its_statement() {
        let text = body(&SqlProblem { statement: Some(2), ..problem(&Error::Busy, Role::User) });
        assert!(text.contains("Statement 2 failed: The server is busy"), "{text}");
    }

    #[test]
    fn internal_errors_stay_internal() {
        let error = Error::internal("secret path /var/db");
        let text = body(&problem(&error, Role::System));
        assert!(text.contains("INTERNAL_ERROR") && !text.contains("/var/db"), "{text}");
    }

    #[test]
    fn what_may_be_sent_again_says_when() {
        let response = problem(&Error::Busy, Role::User).response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers().get("retry-after").unwrap(), "1");
    }
}
