//! The demo's HTTP client: what any program would do with `POST /v1/api/sql` and the login.
//!
//! Owns the calls and the meaning of their failures: may the same call succeed later, or not.
//! Knows nothing of the server but its wire protocol.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use awc::http::StatusCode;
use awc::{Client, Connector};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Connections of all users and the agent together; a call waits for a free one.
const MAX_CONNECTIONS: usize = 192;
/// Longest wait for one answer. A commit takes milliseconds; a stuck server must not hang the demo.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// An access token.
#[derive(Clone)]
pub(crate) struct Token(Rc<str>);

impl Token {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer, or one that broke off: whether the call took effect is unknown.
    #[error("no answer: {0}")]
    NoAnswer(String),
    #[error("refused with {status} {code}: {message}")]
    Refused { status: u16, code: String, sqlstate: Option<String>, message: String },
    #[error("the answer is not understood ({fault}): {answer}")]
    NotUnderstood { fault: String, answer: String },
}

impl CallError {
    /// May the same call succeed in a moment?
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            CallError::NoAnswer(_) => true,
            CallError::Refused { status, .. } => *status == 429 || *status == 503,
            CallError::NotUnderstood { .. } => false,
        }
    }

    /// The row is there already (SQLSTATE 23505).
    pub(crate) fn is_duplicate(&self) -> bool {
        matches!(self, CallError::Refused { sqlstate: Some(state), .. } if state == "23505")
    }

    /// The caller may not do that.
    pub(crate) fn is_forbidden(&self) -> bool {
        matches!(self, CallError::Refused { status: 403, .. })
    }
}

/// The rows of a SELECT: cells in the order of its columns.
pub(crate) type Rows = Vec<Vec<Value>>;

#[derive(Clone)]
pub(crate) struct HttpClient {
    client: Client,
    address: SocketAddr,
}

impl HttpClient {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let connector = Connector::new().limit(MAX_CONNECTIONS);
        let client = Client::builder().connector(connector).timeout(CALL_TIMEOUT).finish();
        Self { client, address }
    }

    /// The first-run set-up: makes the administrator `user`.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) async fn set_up(&self, user: &str, password: &str) -> Result<(), CallError> {
        let body = json!({ "user": user, "password": password, "root_password": password });
        self.post("/v1/api/auth/setup", None, &body).await.map(drop)
    }

    /// # Errors
    /// [`CallError`].
    pub(crate) async fn log_in(&self, user: &str, password: &str) -> Result<Token, CallError> {
        #[derive(Deserialize)]
        struct Answer {
            access_token: Rc<str>,
        }
        let answer = self.post("/v1/api/auth/login", None, &json!({ "user": user, "password": password })).await?;
        let answer: Answer = understand(&answer)?;
        Ok(Token(answer.access_token))
    }

    /// Runs one statement; the rows of a SELECT, none of anything else.
    ///
    /// # Errors
    /// [`CallError`].
    pub(crate) async fn sql(&self, token: &Token, sql: &str, params: &[Value]) -> Result<Rows, CallError> {
        #[derive(Serialize)]
        struct Question<'a> {
            sql: &'a str,
            params: &'a [Value],
        }
        #[derive(Deserialize)]
        struct Answer {
            results: Vec<Part>,
        }
        #[derive(Deserialize)]
        struct Part {
            #[serde(default)]
            rows: Rows,
        }
        let answer = self.post("/v1/api/sql", Some(token), &Question { sql, params }).await?;
        let answer: Answer = understand(&answer)?;
        Ok(answer.results.into_iter().next().map(|part| part.rows).unwrap_or_default())
    }

    async fn post(&self, path: &str, token: Option<&Token>, body: &impl Serialize) -> Result<Vec<u8>, CallError> {
        let mut request = self.client.post(format!("http://{}{path}", self.address));
        if let Some(token) = token {
            request = request.bearer_auth(token.as_str());
        }
        let mut response = request.send_json(body).await.map_err(|fault| CallError::NoAnswer(fault.to_string()))?;
        let body = response.body().limit(MAX_ANSWER_BYTES).await;
        let body = body.map_err(|fault| CallError::NoAnswer(fault.to_string()))?;
        if response.status().is_success() { Ok(body.to_vec()) } else { Err(refusal(response.status(), &body)) }
    }
}

fn understand<'a, T: Deserialize<'a>>(answer: &'a [u8]) -> Result<T, CallError> {
    serde_json::from_slice(answer).map_err(|fault| CallError::NotUnderstood {
        fault: fault.to_string(),
        answer: String::from_utf8_lossy(answer).chars().take(200).collect(),
    })
}

/// `{"error":{"code","message","sqlstate"}}` of SQL, or `{"error":"slug","message"}` of the other paths.
fn refusal(status: StatusCode, body: &[u8]) -> CallError {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let error = &body["error"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    CallError::Refused {
        status: status.as_u16(),
        code: text(&error["code"]).or_else(|| text(error)).unwrap_or_default(),
        sqlstate: text(&error["sqlstate"]),
        message: text(&error["message"]).or_else(|| text(&body["message"])).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_refusal_are_read() {
        let sql = br#"{"status":"error","error":{"code":"SQL_EXECUTION_ERROR","message":"there","sqlstate":"23505"}}"#;
        let duplicate = refusal(StatusCode::BAD_REQUEST, sql);
        assert!(duplicate.is_duplicate() && !duplicate.is_passing(), "{duplicate}");
        let login = refusal(StatusCode::TOO_MANY_REQUESTS, br#"{"error":"rate_limited","message":"slow down"}"#);
        assert!(login.is_passing() && login.to_string().contains("rate_limited: slow down"), "{login}");
        let broken = refusal(StatusCode::FORBIDDEN, b"<html>");
        assert!(broken.is_forbidden() && !broken.is_passing(), "{broken}");
    }
}
