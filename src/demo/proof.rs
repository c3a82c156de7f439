//! What the demo claims, judged over what was seen from the outside.
//!
//! Owns the claims. Pure: a script, a record of what clients saw, and out come findings.
//! Never believes a count alone: each row is held against the message it must be, at the position it must have.

use std::collections::{HashMap, HashSet};
use std::fmt::Display;

use super::script::{MessageNumber, Script, UserNumber};
use crate::model::Seq;

/// A row that a client was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sighting {
    /// `None`: a key that no message of the script has.
    pub(crate) message: Option<MessageNumber>,
    pub(crate) seq: Seq,
    /// The content is what was written.
    pub(crate) intact: bool,
    /// Whose row the server said it is, where it says so.
    pub(crate) owner: Option<UserNumber>,
}

/// All that was seen. `inboxes` and `stored` are by user.
#[derive(Debug)]
pub(crate) struct Record {
    /// By message: the server said that it is written.
    pub(crate) acknowledged: Vec<bool>,
    /// What each user's own subscription received, in order of arrival.
    pub(crate) inboxes: Vec<Vec<Sighting>>,
    /// What the agent's one subscription received, in order of arrival.
    pub(crate) agent: Vec<Sighting>,
    /// What each user's SELECT found at the end.
    pub(crate) stored: Vec<Vec<Sighting>>,
    pub(crate) trespass: Trespass,
    pub(crate) interruptions: Interruptions,
    /// Who gave up, and why.
    pub(crate) given_up: Vec<String>,
}

/// Attempts to reach rows of others.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Trespass {
    pub(crate) attempts: usize,
    /// Refused, or answered with no row.
    pub(crate) repelled: usize,
}

/// What happened on the way.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Interruptions {
    pub(crate) agent_cuts: usize,
    /// Questions written while the agent was cut off.
    pub(crate) asked_meanwhile: usize,
    pub(crate) kills: usize,
    pub(crate) acknowledged_at_kill: usize,
    pub(crate) in_flight_at_kill: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) claim: &'static str,
    pub(crate) holds: bool,
    /// Numbers, and the first thing that is wrong.
    pub(crate) detail: String,
}

/// Judges every claim of the demo.
pub(crate) fn check(script: &Script, record: &Record) -> Vec<Finding> {
    vec![
        everyone_finished(script, record),
        inboxes_complete(script, record),
        agent_saw_all(script, record),
        nobody_saw_others(script, record),
        nothing_lost(script, record),
        interrupted(record),
    ]
}

fn finding(claim: &'static str, faults: Faults, detail: String) -> Finding {
    match faults.first {
        None => Finding { claim, holds: true, detail },
        Some(first) => {
            Finding { claim, holds: false, detail: format!("{} fault(s), the first: {first}", faults.count) }
        }
    }
}

/// Counts, and keeps the first one to show.
#[derive(Default)]
struct Faults {
    count: usize,
    first: Option<String>,
}

impl Faults {
    fn add(&mut self, what: impl Display) {
        self.count += 1;
        self.first.get_or_insert_with(|| what.to_string());
    }
}

fn everyone_finished(script: &Script, record: &Record) -> Finding {
    let mut faults = Faults::default();
    for reason in &record.given_up {
        faults.add(reason);
    }
    for (number, _) in script.messages().filter(|(number, _)| !record.acknowledged[number.index()]) {
        faults.add(format_args!("{number} was never acknowledged"));
    }
    finding("every message was written and acknowledged", faults, counted(script.len(), "message"))
}

fn inboxes_complete(script: &Script, record: &Record) -> Finding {
    let mut faults = Faults::default();
    for user in script.users() {
        let expected = script.messages_of(user).filter(|number| record.acknowledged[number.index()]);
        once_and_in_order(&format!("{user}'s subscription"), expected, &record.inboxes[user.index()], &mut faults);
    }
    let rows: usize = record.inboxes.iter().map(Vec::len).sum();
    let detail = format!("{}, {}", counted(rows, "row"), counted(record.inboxes.len(), "socket"));
    finding("each came once and in order to its user", faults, detail)
}

fn agent_saw_all(script: &Script, record: &Record) -> Finding {
    let mut faults = Faults::default();
    let questions = script.questions().filter(|(number, _)| record.acknowledged[number.index()]);
    once_and_in_order("the agent", questions.map(|(number, _)| number), &record.agent, &mut faults);
    let detail = format!("{}, {}", counted(record.agent.len(), "question"), counted(record.inboxes.len(), "user"));
    finding("the agent saw each question once, in order", faults, detail)
}

/// `seen` is exactly `expected`, each once, whole, and with rising `_seq`.
fn once_and_in_order(who: &str, expected: impl Iterator<Item = MessageNumber>, seen: &[Sighting], faults: &mut Faults) {
    let mut missing: HashSet<MessageNumber> = expected.collect();
    let mut met = HashSet::new();
    for sighting in seen {
        match sighting.message {
            None => faults.add(format_args!("{who} got a row that nobody wrote, at _seq {}", sighting.seq)),
            Some(message) if !met.insert(message) => faults.add(format_args!("{who} got {message} twice")),
            Some(message) if !missing.remove(&message) => {
                faults.add(format_args!("{who} got {message}, which is not for it"));
            }
            Some(message) if !sighting.intact => faults.add(format_args!("{who} got {message} changed")),
            Some(_) => {}
        }
    }
    for pair in seen.windows(2).filter(|pair| pair[0].seq >= pair[1].seq) {
        faults.add(format_args!("{who} got _seq {} after {}", pair[1].seq, pair[0].seq));
    }
    let mut missing: Vec<MessageNumber> = missing.into_iter().collect();
    missing.sort_unstable();
    for message in missing {
        faults.add(format_args!("{who} did not get {message}"));
    }
}

fn nobody_saw_others(script: &Script, record: &Record) -> Finding {
    let mut faults = Faults::default();
    let owner = |sighting: &Sighting| sighting.message.map(|number| script.message(number).owner);
    for user in script.users() {
        for (place, rows) in [("subscription", &record.inboxes), ("SELECT", &record.stored)] {
            for other in rows[user.index()].iter().filter_map(owner).filter(|owner| *owner != user) {
                faults.add(format_args!("{user}'s {place} shows a row of {other}"));
            }
        }
    }
    for sighting in record.agent.iter().filter(|sighting| sighting.owner != owner(sighting)) {
        let said = sighting.owner.map_or_else(|| "nobody".to_owned(), |user| user.to_string());
        faults.add(format_args!("the agent's feed calls a row at _seq {} that of {said}", sighting.seq));
    }
    let Trespass { attempts, repelled } = record.trespass;
    if repelled < attempts {
        faults
            .add(format_args!("{} of {attempts} attempts to read others' rows were not repelled", attempts - repelled));
    }
    let detail = format!("{} repelled", counted(repelled, "attempt"));
    finding("no user saw another's row", faults, detail)
}

/// SELECT finds what was acknowledged, whole, and at the `_seq` at which it was delivered.
fn nothing_lost(script: &Script, record: &Record) -> Finding {
    let mut faults = Faults::default();
    for user in script.users() {
        let acknowledged = script.messages_of(user).filter(|number| record.acknowledged[number.index()]);
        let stored = &record.stored[user.index()];
        once_and_in_order(&format!("{user}'s SELECT"), acknowledged, stored, &mut faults);
        let delivered: HashMap<Option<MessageNumber>, Seq> =
            record.inboxes[user.index()].iter().map(|sighting| (sighting.message, sighting.seq)).collect();
        for row in stored {
            if let Some(seq) = delivered.get(&row.message).filter(|seq| **seq != row.seq) {
                faults.add(format_args!("{user} has a row at _seq {} that was delivered at {seq}", row.seq));
            }
        }
    }
    let at_kill = thousands(record.interruptions.acknowledged_at_kill);
    finding("kill -9 lost nothing acknowledged", faults, format!("{at_kill} acknowledged before"))
}

/// The proof is worth something only if there was an interruption to survive.
fn interrupted(record: &Record) -> Finding {
    let Interruptions { agent_cuts, asked_meanwhile, kills, in_flight_at_kill, .. } = record.interruptions;
    let mut faults = Faults::default();
    if agent_cuts == 0 || asked_meanwhile == 0 {
        faults.add("the agent missed nothing while it was cut off");
    }
    if kills == 0 || in_flight_at_kill == 0 {
        faults.add("the server was not killed in the middle of writes");
    }
    let detail = format!("{}, {} hit", counted(asked_meanwhile, "question"), counted(in_flight_at_kill, "write"));
    finding("the agent was cut off, the server killed", faults, detail)
}

/// `1 user`, `1,000 users`.
pub(crate) fn counted(number: usize, what: &str) -> String {
    format!("{} {what}{}", thousands(number), if number == 1 { "" } else { "s" })
}

/// 19587 as 19,587.
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests;
