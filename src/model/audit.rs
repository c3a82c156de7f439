//! What the audit log keeps of one act: who did what to whom, and from where.
//!
//! Never holds a secret: statements are named by their kind, never by their text.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::UserId;

/// Longer texts are cut: an entry has a bound.
const TEXT_MAX: usize = 512;

/// One line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Sorts by time: the record's key.
    pub id: String,
    /// Microseconds since the Unix epoch.
    pub at: i64,
    /// The user id, or `(unknown)`.
    pub actor: String,
    /// `LOGIN`, `CREATE_USER`, …
    pub action: String,
    /// What it was done to.
    pub target: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<IpAddr>,
    /// The user whom it is about, where that is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<UserId>,
}

impl AuditEntry {
    /// Of somebody whom we know.
    pub fn of(actor: &UserId, action: impl Into<String>, target: impl Into<String>, at: i64) -> Self {
        Self::new(actor.as_str().to_owned(), action.into(), target.into(), at)
    }

    /// Of somebody who is nobody. The name they gave is not kept: people type passwords there.
    pub fn of_stranger(action: impl Into<String>, target: impl Into<String>, at: i64) -> Self {
        Self::new("(unknown)".to_owned(), action.into(), target.into(), at)
    }

    /// Of the server itself.
    pub fn of_server(action: impl Into<String>, target: impl Into<String>, at: i64) -> Self {
        Self::new("(server)".to_owned(), action.into(), target.into(), at)
    }

    fn new(actor: String, action: String, target: String, at: i64) -> Self {
        let (low, _) = Uuid::new_v4().as_u64_pair();
        Self {
            id: format!("{}{low:016x}", Self::first_id(at)),
            at,
            actor,
            action,
            target: cut(target),
            details: None,
            ip: None,
            subject: None,
        }
    }

    #[must_use]
    pub fn with_details(self, details: impl Into<String>) -> Self {
        Self { details: Some(cut(details.into())), ..self }
    }

    #[must_use]
    pub fn from_ip(self, ip: Option<IpAddr>) -> Self {
        Self { ip, ..self }
    }

    #[must_use]
    pub fn about(self, subject: UserId) -> Self {
        Self { subject: Some(subject), ..self }
    }

    /// No entry of this moment or later has an id below.
    pub fn first_id(at: i64) -> String {
        format!("{:016x}-", at.max(0))
    }
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_MAX {
        let end = (0..=TEXT_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_are_of_one_act() {
        let root = UserId::root();
        let at = |us| AuditEntry::of(&root, "LOGIN", "root", us);
        assert!(at(1).id < at(2).id && at(2).id < at(1 << 50).id);
        assert_ne!(at(1).id, at(1).id);
        assert!(AuditEntry::first_id(2) < at(2).id && at(1).id < AuditEntry::first_id(2));
    }

    #[test]
    fn an_entry_has_a_bound_and_survives_its_json() {
        let entry = AuditEntry::of_stranger("LOGIN_FAILED", "ü".repeat(1_000), 7)
            .with_details("x")
            .from_ip(Some("192.0.2.7".parse().unwrap()))
            .about(UserId::root());
        assert!(entry.target.len() <= TEXT_MAX + '…'.len_utf8());
        let json = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<AuditEntry>(&json).unwrap(), entry);
    }
}
