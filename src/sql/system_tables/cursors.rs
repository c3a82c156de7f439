//! `system.cursors`: where each group stands, and how far behind it is.

use super::{Column, bigint, micros, null, text, time, words};
use crate::model::UserId;

/// A row of `system.cursors`. Times are in microseconds since the Unix epoch.
#[derive(Debug, Clone)]
pub struct CursorRow {
    pub user_id: UserId,
    pub group: String,
    /// `namespace.table`, or `namespace.*`.
    pub target: String,
    /// A number; over a namespace a JSON object with one for each table.
    pub position: Option<String>,
    /// By how much the last change is newer than the position.
    pub lag_ms: Option<i64>,
    /// Who reads with it now.
    pub live_id: Option<String>,
    pub created_at: i64,
    pub used_at: i64,
}

pub(super) const CURSORS: &[Column<CursorRow>] = &[
    text("user_id", |r| r.user_id.as_str().into()),
    text("group_id", |r| r.group.as_str().into()),
    text("target", |r| r.target.as_str().into()),
    null(text("position", |r| words(r.position.as_deref()))),
    null(bigint("lag_ms", |r| r.lag_ms.into())),
    null(text("live_id", |r| words(r.live_id.as_deref()))),
    time("created_at", |r| micros(r.created_at)),
    time("used_at", |r| micros(r.used_at)),
];
