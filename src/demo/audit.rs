//! The last questions, asked over HTTP when all is written: what is in each mailbox, and who can look into another's.

use std::rc::Rc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::Value;

use super::cast::Cast;
use super::client::{CallError, HttpClient, Token};
use super::journal::sight;
use super::proof::{Sighting, Trespass};
use super::script::{Script, UserNumber};
use crate::model::Seq;

/// Users that are looked after at the same time.
const AT_ONCE: usize = 16;

pub(crate) struct Audit {
    http: HttpClient,
    script: Rc<Script>,
}

impl Audit {
    pub(crate) fn new(http: HttpClient, script: Rc<Script>) -> Self {
        Self { http, script }
    }

    /// What each user's own SELECT finds.
    ///
    /// # Errors
    /// The server refuses or does not answer.
    pub(crate) async fn stored(&self, cast: &Cast) -> Result<Vec<Vec<Sighting>>, CallError> {
        let mailboxes = cast.users.iter().map(|token| self.mailbox(token));
        stream::iter(mailboxes).buffered(AT_ONCE).try_collect().await
    }

    async fn mailbox(&self, token: &Token) -> Result<Vec<Sighting>, CallError> {
        let rows = self.http.sql(token, "SELECT id, content, _seq FROM chat.messages", &[]).await?;
        rows.iter().map(|row| self.sighting(row)).collect()
    }

    fn sighting(&self, row: &[Value]) -> Result<Sighting, CallError> {
        let texts: Vec<&str> = row.iter().filter_map(Value::as_str).collect();
        let read = match texts[..] {
            [key, content, seq] => seq.parse().ok().and_then(Seq::new).map(|seq| (key, content, seq)),
            _ => None,
        };
        let not_understood = || CallError::NotUnderstood {
            fault: "not a row of id, content, _seq".to_owned(),
            answer: Value::from(row).to_string(),
        };
        let (key, content, seq) = read.ok_or_else(not_understood)?;
        Ok(sight(&self.script, key, content, seq, None))
    }

    /// Everyone tries to reach the rows of the next user, in each way there is; the agent tries without naming
    /// whose rows it wants.
    ///
    /// # Errors
    /// The server does not answer, or refuses for another reason than that it is forbidden.
    pub(crate) async fn trespass(&self, cast: &Cast) -> Result<Trespass, CallError> {
        let users: Vec<UserNumber> = self.script.users().collect();
        let mut attempts = vec![(&cast.agent, "SELECT id FROM chat.messages".to_owned())];
        for (user, next) in users.iter().zip(users.iter().cycle().skip(1)).filter(|(user, next)| user != next) {
            let token = &cast.users[user.index()];
            attempts.push((token, format!("EXECUTE AS USER '{next}' (SELECT id FROM chat.messages)")));
            attempts.push((token, "EXECUTE AS USER '*' (SELECT id FROM chat.messages)".to_owned()));
            if let Some(message) = self.script.messages_of(*next).next() {
                attempts.push((token, format!("SELECT id FROM chat.messages WHERE id = {}", message.index())));
            }
        }
        let made = attempts.len();
        let outcomes: Vec<bool> = stream::iter(attempts.into_iter().map(|(token, sql)| self.is_repelled(token, sql)))
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(Trespass { attempts: made, repelled: outcomes.into_iter().filter(|repelled| *repelled).count() })
    }

    async fn is_repelled(&self, token: &Token, sql: String) -> Result<bool, CallError> {
        match self.http.sql(token, &sql, &[]).await {
            Ok(rows) => Ok(rows.is_empty()),
            Err(fault) if fault.is_forbidden() => Ok(true),
            Err(fault) => Err(fault),
        }
    }
}
