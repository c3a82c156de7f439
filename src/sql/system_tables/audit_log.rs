//! `system.audit_log`: who did what, when and from where. Nothing in SQL writes it.

use super::{Column, micros, null, text, time, words};
use crate::model::AuditEntry;

pub(super) const AUDIT_LOG: &[Column<AuditEntry>] = &[
    text("audit_id", |r| r.id.as_str().into()),
    time("timestamp", |r| micros(r.at)),
    text("actor_user_id", |r| r.actor.as_str().into()),
    text("action", |r| r.action.as_str().into()),
    text("target", |r| r.target.as_str().into()),
    null(text("details", |r| words(r.details.as_deref()))),
    null(text("ip_address", |r| words(r.ip.map(|ip| ip.to_string())))),
    null(text("subject_user_id", |r| words(r.subject.as_ref().map(|user| user.as_str())))),
];
