//! What clients see while the demo plays, written down as it happens.
//!
//! Owns the growing part of the [`Record`], the clocks of each message, and who is woken when something arrives.
//! Never judges: that is the proof's.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use hdrhistogram::Histogram;
use tokio::sync::watch;

use super::conversations::Speaker;
use super::proof::Sighting;
use super::script::{MessageNumber, Script, UserNumber};
use super::socket::{Delivery, Row};
use crate::model::Seq;

/// Where the histograms end: longer than the demo.
const LONGEST_MICROS: u64 = 3_600_000_000;

/// Of the writes that went through at the first try: an interruption is told apart, not averaged in.
pub(crate) struct Latencies {
    /// Request sent to acknowledgement, in µs.
    pub(crate) write: Histogram<u64>,
    /// Request sent to the row's arrival at its user's subscription, where that stood already, in µs.
    pub(crate) receive: Histogram<u64>,
}

/// Sightings and acknowledgements, as they are now.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) acknowledged: Vec<bool>,
    pub(crate) inboxes: Vec<Vec<Sighting>>,
    pub(crate) agent: Vec<Sighting>,
}

pub(crate) struct Journal {
    script: Rc<Script>,
    inner: RefCell<Inner>,
    /// How many messages are acknowledged.
    acknowledged: watch::Sender<usize>,
    /// Changes when a row arrives anywhere.
    arrivals: Vec<watch::Sender<usize>>,
    agent_arrivals: watch::Sender<usize>,
    /// Writes without an answer.
    in_flight: watch::Sender<usize>,
}

struct Inner {
    seen: Seen,
    arrived: Vec<bool>,
    /// First try of each message; `None` again once it needed a second.
    sent: Vec<Option<Instant>>,
    found_written: usize,
    questions_acknowledged: usize,
    latencies: Latencies,
}

impl Journal {
    pub(crate) fn new(script: Rc<Script>) -> Self {
        let messages = script.len();
        let users = script.users().count();
        let seen = Seen { acknowledged: vec![false; messages], inboxes: vec![Vec::new(); users], agent: Vec::new() };
        Self {
            inner: RefCell::new(Inner {
                seen,
                arrived: vec![false; messages],
                sent: vec![None; messages],
                found_written: 0,
                questions_acknowledged: 0,
                latencies: Latencies { write: histogram(), receive: histogram() },
            }),
            acknowledged: watch::Sender::new(0),
            arrivals: (0..users).map(|_| watch::Sender::new(0)).collect(),
            agent_arrivals: watch::Sender::new(0),
            in_flight: watch::Sender::new(0),
            script,
        }
    }

    pub(crate) fn sending(&self, message: MessageNumber) {
        self.inner.borrow_mut().sent[message.index()] = Some(Instant::now());
        self.in_flight.send_modify(|count| *count += 1);
    }

    /// The first try got no answer.
    pub(crate) fn sending_again(&self, message: MessageNumber) {
        self.inner.borrow_mut().sent[message.index()] = None;
    }

    /// The server said that the message is written; or, when asked again, that it was already.
    pub(crate) fn acknowledged(&self, message: MessageNumber, found_written: bool) {
        let mut inner = self.inner.borrow_mut();
        inner.seen.acknowledged[message.index()] = true;
        inner.found_written += usize::from(found_written);
        inner.questions_acknowledged += usize::from(self.script.message(message).speaker == Speaker::User);
        if let Some(sent) = inner.sent[message.index()] {
            inner.latencies.write.saturating_record(micros(sent, Instant::now()));
        }
        drop(inner);
        self.in_flight.send_modify(|count| *count -= 1);
        self.acknowledged.send_modify(|count| *count += 1);
    }

    pub(crate) fn gave_up(&self) {
        self.in_flight.send_modify(|count| *count -= 1);
    }

    pub(crate) fn arrived_at_user(&self, user: UserNumber, delivery: &Delivery) {
        let mut inner = self.inner.borrow_mut();
        for row in &delivery.rows {
            let sighting = sighting(&self.script, row);
            inner.seen.inboxes[user.index()].push(sighting);
            let Some(message) = sighting.message.filter(|message| self.script.message(*message).owner == user) else {
                continue;
            };
            inner.arrived[message.index()] = true;
            if let Some(sent) = inner.sent[message.index()].filter(|sent| *sent >= delivery.subscribed) {
                inner.latencies.receive.saturating_record(micros(sent, delivery.at));
            }
        }
        drop(inner);
        self.arrivals[user.index()].send_modify(|count| *count += delivery.rows.len());
    }

    /// Returns the questions of the delivery.
    pub(crate) fn arrived_at_agent(&self, delivery: &Delivery) -> Vec<MessageNumber> {
        let mut inner = self.inner.borrow_mut();
        let sightings: Vec<Sighting> = delivery.rows.iter().map(|row| sighting(&self.script, row)).collect();
        inner.seen.agent.extend(&sightings);
        drop(inner);
        self.agent_arrivals.send_modify(|count| *count += sightings.len());
        sightings.into_iter().filter_map(|sighting| sighting.message).collect()
    }

    pub(crate) fn has_arrived(&self, message: MessageNumber) -> bool {
        self.inner.borrow().arrived[message.index()]
    }

    /// Number of rows that `user`'s subscription has received.
    pub(crate) fn arrivals(&self, user: UserNumber) -> watch::Receiver<usize> {
        self.arrivals[user.index()].subscribe()
    }

    pub(crate) fn agent_arrivals(&self) -> watch::Receiver<usize> {
        self.agent_arrivals.subscribe()
    }

    pub(crate) fn acknowledgements(&self) -> watch::Receiver<usize> {
        self.acknowledged.subscribe()
    }

    pub(crate) fn in_flight(&self) -> watch::Receiver<usize> {
        self.in_flight.subscribe()
    }

    /// Questions that are written, but have not come to the agent.
    pub(crate) fn questions_waiting(&self) -> usize {
        let inner = self.inner.borrow();
        inner.questions_acknowledged.saturating_sub(inner.seen.agent.len())
    }

    /// Writes whose first try had got no answer, but had been kept.
    pub(crate) fn found_written(&self) -> usize {
        self.inner.borrow().found_written
    }

    /// Takes out what was seen; nothing must arrive afterwards.
    pub(crate) fn take_seen(&self) -> Seen {
        std::mem::take(&mut self.inner.borrow_mut().seen)
    }

    pub(crate) fn with_latencies<T>(&self, read: impl FnOnce(&Latencies) -> T) -> T {
        read(&self.inner.borrow().latencies)
    }
}

fn sighting(script: &Script, row: &Row) -> Sighting {
    let owner = row.owner.as_deref().and_then(|name| script.user_named(name));
    sight(script, &row.id, &row.content, row.position, owner)
}

/// What the script says about a row with this key and content.
pub(crate) fn sight(script: &Script, key: &str, content: &str, seq: Seq, owner: Option<UserNumber>) -> Sighting {
    let message = script.message_with_key(key);
    let intact = message.is_some_and(|number| script.message(number).content == content);
    Sighting { message, seq, intact, owner }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_MICROS, 3).expect("bounds and digits are within what a histogram can hold")
}

fn micros(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u64::MAX)
}
