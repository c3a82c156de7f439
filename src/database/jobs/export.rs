//! Body of EXPORT USER DATA: what a user has, in one file.
//!
//! Owns whose rows are read: those of one partition a table, in a view of when its owner was the one who asked. Nothing of
//! a user who is dropped meanwhile stays.
//! Invariant: LQ-3.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::Bodies;
use crate::actors::jobs::{JobControl, JobDone};
use crate::auth::{Policy, UserRecord};
use crate::database::restore::date;
use crate::error::{Error, Result};
use crate::model::{Owner, Seq, TableKind, TableMeta, UserId};
use crate::storage::{ExportId, ExportWriter, Order, ReadView};

/// Rows that are asked for at once.
const SCAN_ROWS: usize = 1_024;

/// What was written.
#[derive(Default)]
struct Exported {
    tables: usize,
    rows: u64,
}

impl Bodies {
    pub(super) async fn export_user(&self, user: &UserId, since: i64, control: &JobControl) -> Result<JobDone> {
        let dropped = || Ok(JobDone::Skipped(format!("user '{user}' was dropped")));
        let job = control.id().uuid().ok_or_else(|| Error::internal("a job without a number"))?;
        let id = ExportId { user_since: since, job };
        // The view first: it is of a time when the name was this user's, and no row in it is newer than the catalog.
        let view = self.store.read_view();
        let Some(holder) = self.export_holder(user, since) else { return dropped() };
        let (tables, principal) = (self.catalog.current(), holder.principal());
        let own = |table: &&Arc<TableMeta>| table.kind != TableKind::Shared && Policy.sees(&principal, table);
        let mut tables: Vec<Arc<TableMeta>> = tables.tables().filter(own).cloned().collect();
        tables.sort_by(|a, b| a.name.cmp(&b.name));
        let writer = ExportWriter::begin(self.exports.clone(), user.clone(), id, date(self.clock.now_us()))?;
        let (written, writer) = self.write_export(writer, view, user, tables, control).await?;
        if self.export_holder(user, since).is_none() {
            return dropped();
        }
        let bytes = tokio::task::spawn_blocking(move || writer.finish()).await.map_err(Error::internal)??;
        // Whoever dropped the user between these two did not find the file.
        if self.export_holder(user, since).is_none() {
            self.exports.remove(user, &id)?;
            return dropped();
        }
        let Exported { tables, rows } = written;
        Ok(JobDone::Completed(format!("{rows} rows of {tables} tables, {bytes} bytes")))
    }

    async fn write_export(
        &self,
        mut writer: ExportWriter,
        view: ReadView,
        user: &UserId,
        tables: Vec<Arc<TableMeta>>,
        control: &JobControl,
    ) -> Result<(Exported, ExportWriter)> {
        let mut written = Exported::default();
        for table in tables {
            control.check()?;
            let (view, owner, cancelled) = (view.clone(), Owner::User(user.clone()), control.cancelled());
            let write = move || {
                let runtime = Handle::current();
                let mut rows = view.rows(&table, &owner, Seq::ZERO..=Seq::MAX, Order::Ascending)?;
                let count = writer.write_table(&table, || {
                    cancelled.check()?;
                    runtime.block_on(rows.next(SCAN_ROWS))
                })?;
                Ok::<_, Error>((writer, count))
            };
            let (back, count) = tokio::task::spawn_blocking(write).await.map_err(Error::internal)??;
            writer = back;
            written.tables += 1;
            written.rows += count;
            control.say(|| format!("{} rows of {} tables so far", written.rows, written.tables));
        }
        Ok((written, writer))
    }

    /// The live user of that name, if it is still the one.
    fn export_holder(&self, user: &UserId, since: i64) -> Option<Arc<UserRecord>> {
        self.auth.user(user).ok().filter(|record| record.created_at == since)
    }
}
