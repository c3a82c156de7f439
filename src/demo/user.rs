//! A user of the chat: asks, and waits for the answers to come to their own subscription.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::conversations::Speaker;
use super::journal::Journal;
use super::script::{MessageNumber, Script, UserNumber};
use super::socket::{LiveQuery, SocketError};
use super::writer::Writer;

pub(crate) const SUBSCRIPTION: &str = "SELECT * FROM chat.messages";

/// Longest wait for a row that the server has to deliver: longer than a kill and a start take together.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(60);

pub(crate) struct User {
    number: UserNumber,
    writer: Writer,
    script: Rc<Script>,
    journal: Rc<Journal>,
}

impl User {
    pub(crate) fn new(number: UserNumber, writer: Writer, script: Rc<Script>, journal: Rc<Journal>) -> Self {
        Self { number, writer, script, journal }
    }

    /// Holds all conversations of this user, one after the other. Before each turn of their own, and at the end, all
    /// that was said has arrived.
    ///
    /// # Errors
    /// Why this user gave up.
    pub(crate) async fn play(self) -> Result<(), String> {
        for conversation in self.script.conversations_of(self.number) {
            let mut last = None;
            for message in conversation {
                if self.script.message(message).speaker == Speaker::User {
                    self.await_arrival(last).await?;
                    let written = self.writer.write(message).await;
                    written.map_err(|fault| format!("{}: {message}: {fault}", self.number))?;
                }
                last = Some(message);
            }
            self.await_arrival(last).await?;
        }
        Ok(())
    }

    async fn await_arrival(&self, message: Option<MessageNumber>) -> Result<(), String> {
        let Some(message) = message else {
            return Ok(());
        };
        let mut arrivals = self.journal.arrivals(self.number);
        let arrived = arrivals.wait_for(|_| self.journal.has_arrived(message));
        match timeout(ARRIVAL_LIMIT, arrived).await {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("{} waited {} s for {message}", self.number, ARRIVAL_LIMIT.as_secs())),
        }
    }
}

/// Writes down what comes to a user's subscription, until `stop`.
///
/// # Errors
/// The subscription is refused, or can not be resumed.
pub(crate) async fn listen(
    user: UserNumber,
    mut query: LiveQuery,
    journal: Rc<Journal>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), SocketError> {
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
            delivery = query.next() => journal.arrived_at_user(user, &delivery?),
        }
    }
}
