//! The agent: follows every user's messages through one subscription and answers as each of them.
//!
//! Owns the order "seen, written down, answered". The answers are under way while the next questions are read, at
//! most [`MAX_ANSWERS_UNDER_WAY`] at once: beyond that it reads no further.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use super::journal::Journal;
use super::script::{MessageNumber, Script};
use super::socket::{LiveQuery, SocketError};
use super::writer::Writer;

pub(crate) const SUBSCRIPTION: &str = "EXECUTE AS USER '*' (SELECT * FROM chat.messages WHERE role = 'user')";

const MAX_ANSWERS_UNDER_WAY: usize = 64;

/// What the director wants of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cue {
    Follow,
    /// The socket is cut; nothing is read until the next [`Cue::Follow`].
    Away,
    Stop,
}

pub(crate) struct Agent {
    writer: Writer,
    script: Rc<Script>,
    journal: Rc<Journal>,
    under_way: Arc<Semaphore>,
    /// Why answers were not written.
    given_up: Rc<RefCell<Vec<String>>>,
}

impl Agent {
    pub(crate) fn new(writer: Writer, script: Rc<Script>, journal: Rc<Journal>) -> Self {
        let under_way = Arc::new(Semaphore::new(MAX_ANSWERS_UNDER_WAY));
        Self { writer, script, journal, under_way, given_up: Rc::default() }
    }

    /// Follows until [`Cue::Stop`]; returns why answers were not written, if any were not.
    ///
    /// # Errors
    /// The subscription is refused, or can not be resumed.
    pub(crate) async fn follow(
        self,
        mut query: LiveQuery,
        mut cue: watch::Receiver<Cue>,
    ) -> Result<Vec<String>, SocketError> {
        loop {
            let now = *cue.borrow_and_update();
            match now {
                Cue::Stop => return Ok(self.given_up.take()),
                Cue::Away => {
                    query.cut();
                    if cue.changed().await.is_err() {
                        return Ok(self.given_up.take());
                    }
                }
                Cue::Follow => tokio::select! {
                    biased;
                    _ = cue.changed() => {}
                    delivery = query.next() => {
                        for question in self.journal.arrived_at_agent(&delivery?) {
                            self.answer(question).await;
                        }
                    }
                },
            }
        }
    }

    /// Returns once the answer is under way.
    async fn answer(&self, question: MessageNumber) {
        // The semaphore is never closed.
        let Ok(permit) = self.under_way.clone().acquire_owned().await else { return };
        let answers: Vec<MessageNumber> = self.script.answers_to(question).collect();
        let (writer, given_up) = (self.writer.clone(), self.given_up.clone());
        actix_web::rt::spawn(async move {
            for answer in answers {
                if let Err(fault) = writer.write_as_owner(answer).await {
                    given_up.borrow_mut().push(format!("the agent: {answer}: {fault}"));
                }
            }
            drop(permit);
        });
    }
}
