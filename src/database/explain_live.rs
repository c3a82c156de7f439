//! EXPLAIN LIVE: what a subscription matches, where it stands, what waits for it, and why it was last closed.
//!
//! Administrators see all, users their own, which they may also name by the id that they gave it.

use crate::auth::AdminAction;
use crate::error::{Error, Result};
use crate::live::directory::{Follows, LiveSubscription};
use crate::live::history::ClosedSubscription;
use crate::model::DataType;

use super::Database;
use super::execute::Scope;
use super::request::RowStream;
use super::show::{rows, texts};

impl Database {
    pub(super) fn explain_live(&self, scope: &Scope<'_>, id: &str) -> Result<RowStream> {
        let user = &scope.principal.user;
        let all = self.policy.may_administer(&scope.principal, AdminAction::Kill).is_ok();
        let is_meant = |of: &crate::model::UserId, live_id: &str, subscription_id: &str| {
            (all || of == user) && live_id == id || of == user && subscription_id == id
        };
        let open = self.live.subscriptions().into_iter().rev();
        let open = open.clone().find(|s| is_meant(s.user(), &s.live_id(), &s.subscription_id));
        let history = self.live.history();
        let closed = match &open {
            Some(open) => history.last(|c| c.user == *open.user() && *c.subscription_id == *open.subscription_id),
            None => history.last(|c| is_meant(&c.user, &c.live_id, &c.subscription_id)),
        };
        let mut lines: Vec<(&str, String)> = Vec::new();
        match (&open, &closed) {
            (Some(open), _) => self.explain_open(open, &mut lines),
            (None, Some(closed)) => explain_closed(closed, &mut lines),
            (None, None) => return Err(Error::NotFound(format!("Live query '{id}' not found"))),
        }
        if let Some(closed) = &closed {
            lines.push(("last_closed_at", time(closed.closed_at)));
            lines.push(("last_close_code", closed.end.code.to_owned()));
            lines.push(("last_close_reason", closed.end.message.clone()));
        }
        rows(vec![
            ("property", DataType::Text, false, texts(lines.iter().map(|(property, _)| *property))),
            ("value", DataType::Text, false, texts(lines.iter().map(|(_, value)| value.as_str()))),
        ])
    }

    fn explain_open(&self, open: &LiveSubscription, lines: &mut Vec<(&'static str, String)>) {
        lines.push(("live_id", open.live_id()));
        lines.push(("state", open.phase().to_owned()));
        lines.push(("user_id", open.user().to_string()));
        if let Some(actor) = &open.actor {
            lines.push(("acting_for", open.reader.user.to_string()));
            lines.push(("actor", actor.user.to_string()));
        }
        lines.push(("subscription_id", open.subscription_id.to_string()));
        let follows = format!("{}.{}", open.follows.namespace(), open.follows.table_name());
        lines.push(("follows", follows));
        lines.push(("query", open.query.to_string()));
        if let Some(options) = &open.options {
            lines.push(("options", options.to_string()));
        }
        lines.push(("created_at", time(open.created_at)));
        lines.push(("last_update", time(open.last_update())));
        lines.push(("position", self.position_of(open)));
        lines.push(("changes_delivered", open.changes().to_string()));
        // Whoever can not be told everything is closed: nothing is left out.
        lines.push(("changes_dropped", "0".to_owned()));
        let waiting = open.connection.outbox().waiting();
        lines.push(("waiting_events", waiting.events.to_string()));
        lines.push(("waiting_bytes", waiting.bytes.to_string()));
        lines.push(("waiting_bytes_max", waiting.max_bytes.to_string()));
        let cursors = self.live.cursors().list();
        if let Some(held) = cursors.iter().find(|state| state.holder == Some(open.key)) {
            lines.push(("group", held.cursor.group.clone()));
        }
    }

    /// The last position that was sent; over a namespace that of each table.
    fn position_of(&self, open: &LiveSubscription) -> String {
        let sent = open.positions();
        match &open.follows {
            Follows::Table(table) => sent.get(&table.id).map_or_else(|| "none yet".to_owned(), ToString::to_string),
            Follows::Namespace(_) => {
                let catalog = self.catalog.current();
                let named = catalog.tables().filter_map(|t| Some(format!("{}={}", t.name, sent.get(&t.id)?)));
                let named: Vec<String> = named.collect();
                if named.is_empty() { "none yet".to_owned() } else { named.join(" ") }
            }
        }
    }
}

fn explain_closed(closed: &ClosedSubscription, lines: &mut Vec<(&'static str, String)>) {
    lines.push(("live_id", closed.live_id.clone()));
    lines.push(("state", "closed".to_owned()));
    lines.push(("user_id", closed.user.to_string()));
    lines.push(("subscription_id", closed.subscription_id.clone()));
    lines.push(("query", closed.query.clone()));
    lines.push(("created_at", time(closed.created_at)));
    lines.push(("changes_delivered", closed.changes.to_string()));
    lines.push(("changes_dropped", "0".to_owned()));
}

fn time(micros: i64) -> String {
    chrono::DateTime::from_timestamp_micros(micros)
        .map_or_else(|| micros.to_string(), |time| time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())
}
