//! Who takes part: the administrator, the agent and the users, made and signed in over HTTP.
//!
//! Owns the set-up of the fresh server: schema, users, logins.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::client::{CallError, HttpClient, Token};
use super::script::UserNumber;
use super::writer::CREATE_TABLE;

const ADMIN: &str = "director";
const AGENT: &str = "agent";

/// Users that are made or signed in at the same time: a password check costs the server memory and time.
const AT_ONCE: usize = 8;

pub(crate) struct Cast {
    /// By user.
    pub(crate) users: Vec<Token>,
    pub(crate) agent: Token,
}

impl Cast {
    /// Names and `password` are the demo's own: letters, digits, `_` and `-`.
    ///
    /// # Errors
    /// The server refuses a step, or does not answer.
    pub(crate) async fn assemble(http: &HttpClient, users: usize, password: &str) -> Result<Self, CallError> {
        http.set_up(ADMIN, password).await?;
        let admin = http.log_in(ADMIN, password).await?;
        for sql in ["CREATE NAMESPACE chat", CREATE_TABLE] {
            http.sql(&admin, sql, &[]).await?;
        }
        let admit = |name: String, role: &'static str| {
            let admin = &admin;
            async move {
                let sql = format!("CREATE USER '{name}' WITH PASSWORD '{password}' ROLE '{role}'");
                http.sql(admin, &sql, &[]).await?;
                http.log_in(&name, password).await
            }
        };
        let agent = admit(AGENT.to_owned(), "service").await?;
        let users = UserNumber::all(users).map(|user| admit(user.to_string(), "user"));
        let users = stream::iter(users).buffered(AT_ONCE).try_collect().await?;
        Ok(Self { users, agent })
    }
}
