//! Fills tables of InboxDB before they are measured: many rows a request, on a few connections.
//!
//! Owns the pace of loading, nothing of what the rows hold. A refused or broken request ends the load: what is measured
//! afterwards must rest on all the rows.

use std::cell::Cell;
use std::ops::Range;

use anyhow::{Context, Result};
use futures_util::future::try_join_all;

use crate::peers::Instance;

const CONNECTIONS: usize = 4;

/// Rows to come: `(id, …)` of each of `ids`, in the table that `into` names, with its columns.
pub(crate) struct Seed<'a> {
    pub(crate) into: &'a str,
    pub(crate) ids: Range<i64>,
    pub(crate) rows_a_request: i64,
}

impl Seed<'_> {
    /// `write` appends what stands between the brackets of a row's VALUES; nothing in it that JSON would escape.
    /// Acknowledged as buffered.
    pub(crate) async fn fill(&self, instance: &Instance, write: impl Fn(i64, &mut String)) -> Result<()> {
        let next = Cell::new(self.ids.start);
        try_join_all((0..CONNECTIONS).map(|_| self.fill_part(instance, &next, &write))).await.map(drop)
    }

    async fn fill_part(&self, instance: &Instance, next: &Cell<i64>, write: &impl Fn(i64, &mut String)) -> Result<()> {
        let mut session = instance.admin().await?;
        while next.get() < self.ids.end {
            let first = next.get();
            let end = self.ids.end.min(first + self.rows_a_request);
            next.set(end);
            session.request.clear();
            for part in ["{\"sql\":\"INSERT INTO ", self.into, " VALUES "] {
                session.request.push_str(part);
            }
            for id in first..end {
                session.request.push_str(if id == first { "(" } else { ",(" });
                write(id, &mut session.request);
                session.request.push(')');
            }
            session.request.push_str("\",\"durability\":\"buffered\"}");
            session.send().await.with_context(|| format!("insert the rows {first} to {end} into {}", self.into))?;
        }
        Ok(())
    }
}
