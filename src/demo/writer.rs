//! Writes a message until the server says it is written.
//!
//! Owns the retry: a message has a primary key, so writing it again is harmless, and "it is there already" is an
//! acknowledgement of a try that got no answer.

use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::time::sleep;

use super::client::{CallError, HttpClient, Token};
use super::journal::Journal;
use super::script::{MessageNumber, Script};

/// The table of the demo's chat. Each user's rows are their own.
pub(crate) const CREATE_TABLE: &str = "CREATE TABLE chat.messages (\
     id BIGINT PRIMARY KEY, conversation TEXT NOT NULL, turn INT NOT NULL, role TEXT NOT NULL, \
     language TEXT NOT NULL, content TEXT NOT NULL, written_at TIMESTAMP DEFAULT NOW()) WITH (TYPE='USER')";

const INSERT: &str = "INSERT INTO chat.messages (id, conversation, turn, role, language, content) \
                      VALUES ($1, $2, $3, $4, $5, $6)";

/// Longest time without an acknowledgement; a killed server is back long before.
const WRITE_LIMIT: Duration = Duration::from_secs(60);
const RETRY_PAUSE: Duration = Duration::from_millis(25);

#[derive(Clone)]
pub(crate) struct Writer {
    http: HttpClient,
    token: Token,
    script: Rc<Script>,
    journal: Rc<Journal>,
}

impl Writer {
    pub(crate) fn new(http: HttpClient, token: Token, script: Rc<Script>, journal: Rc<Journal>) -> Self {
        Self { http, token, script, journal }
    }

    /// Into the writer's own mailbox.
    ///
    /// # Errors
    /// The server refused, or did not answer for [`WRITE_LIMIT`].
    pub(crate) async fn write(&self, message: MessageNumber) -> Result<(), CallError> {
        self.write_with(message, INSERT).await
    }

    /// Into the mailbox of the message's owner, as that user.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub(crate) async fn write_as_owner(&self, message: MessageNumber) -> Result<(), CallError> {
        let owner = self.script.message(message).owner;
        self.write_with(message, &format!("EXECUTE AS USER '{owner}' ({INSERT})")).await
    }

    async fn write_with(&self, number: MessageNumber, sql: &str) -> Result<(), CallError> {
        let message = self.script.message(number);
        let params = [
            json!(number.index()),
            json!(message.conversation),
            json!(message.turn),
            json!(message.speaker.as_str()),
            json!(message.language),
            json!(message.content),
        ];
        self.journal.sending(number);
        let started = Instant::now();
        let mut unanswered = false;
        loop {
            match self.http.sql(&self.token, sql, &params).await {
                Ok(_) => {
                    self.journal.acknowledged(number, false);
                    return Ok(());
                }
                Err(fault) if fault.is_duplicate() && unanswered => {
                    self.journal.acknowledged(number, true);
                    return Ok(());
                }
                Err(fault) if fault.is_passing() && started.elapsed() < WRITE_LIMIT => {
                    unanswered = true;
                    self.journal.sending_again(number);
                    sleep(RETRY_PAUSE).await;
                }
                Err(fault) => {
                    self.journal.gave_up();
                    return Err(fault);
                }
            }
        }
    }
}
