//! Durable cursors: their way to the disk, DROP CURSOR, and what `system.cursors` shows.
//!
//! Owns when a cursor is written: at most once in [`WRITE_ROUND`], however often it was acknowledged, at `buffered`
//! durability. What a crash loses of that is told again: an acknowledgement says what need not be, not what must not.
//! Never decides where a cursor stands: that is `live::cursors`'.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arrow::array::{Int64Array, TimestampMicrosecondArray};

use super::Database;
use super::define::said;
use super::execute::Scope;
use super::request::{Outcome, RowStream};
use super::show::{optional_texts, rows, texts};
use crate::actors::CommitterHandle;
use crate::auth::{AdminAction, Authenticator};
use crate::error::{Error, Result, SubscriptionFault};
use crate::live::LiveDirectory;
use crate::live::cursors::{Cursor, CursorKey, CursorState, CursorTarget};
use crate::model::{Catalog, DataType, Durability, Owner, PartitionKey, Principal, Role, Seq, TableId, UserId};
use crate::sql::system_tables::CursorRow;
use crate::storage::{CommitEntry, ReadView, RecordKind, RecordWrite, Store};

/// Written at once; the rest with the next round.
const BATCH: usize = 1_000;
/// How often cursors are written that have changed.
const WRITE_ROUND: Duration = Duration::from_millis(20);

/// What was stored, without those of tables and users that are gone: a crash may come between their end and the cursors'.
///
/// # Errors
/// `STORAGE_UNAVAILABLE`, `INTERNAL` where a record is damaged.
pub(super) fn load(live: &LiveDirectory, store: &Store, catalog: &Catalog, auth: &Authenticator) -> Result<()> {
    let stored: Result<Vec<Cursor>> = store
        .records(RecordKind::Cursor)?
        .iter()
        .map(|(_, value)| serde_json::from_slice(value).map_err(Error::internal))
        .collect();
    live.cursors().load(stored?);
    prune(live, catalog, auth);
    Ok(())
}

fn prune(live: &LiveDirectory, catalog: &Catalog, auth: &Authenticator) {
    let tables: BTreeMap<TableId, ()> = catalog.tables().map(|table| (table.id, ())).collect();
    let holder = |user: &UserId, generation| Principal { user: user.clone(), role: Role::User, generation };
    live.cursors().remove_all(|cursor| {
        let target_is_gone = match &cursor.target {
            CursorTarget::Table { table, .. } => !tables.contains_key(table),
            CursorTarget::Namespace { name } => !catalog.namespaces.contains_key(name),
        };
        target_is_gone || auth.check_holder(&holder(&cursor.user, cursor.generation)).is_err()
    });
}

/// Writes what changes, for as long as there is a directory.
pub(super) async fn write_changes(live: Weak<LiveDirectory>, committer: CommitterHandle) {
    loop {
        let changed = std::future::poll_fn(|cx| match live.upgrade() {
            Some(live) => live.cursors().poll_dirty(cx).map(|()| Some(())),
            None => std::task::Poll::Ready(None),
        });
        if changed.await.is_none() {
            return;
        }
        let Some(directory) = live.upgrade() else { return };
        match write(&directory, &committer).await {
            Ok(()) => {}
            Err(Error::ShuttingDown | Error::StorageUnavailable) => return,
            Err(error) => tracing::debug!(%error, "cursors are written later"),
        }
        drop(directory);
        tokio::time::sleep(WRITE_ROUND).await;
    }
}

/// # Errors
/// `BUSY`, `SHUTTING_DOWN`, `STORAGE_UNAVAILABLE`: then they are dirty still.
pub(super) async fn write(live: &LiveDirectory, committer: &CommitterHandle) -> Result<()> {
    let taken = live.cursors().take_dirty(BATCH);
    if taken.is_empty() {
        return Ok(());
    }
    let record = |(key, cursor): &(CursorKey, Option<Cursor>)| {
        let value = cursor.as_ref().map(serde_json::to_vec).transpose().map_err(Error::internal)?;
        Ok(RecordWrite { kind: RecordKind::Cursor, key: key.record_name(), value })
    };
    let records: Result<Vec<RecordWrite>> = taken.iter().map(record).collect();
    let written = committer.commit_at(CommitEntry::Records(records?), Durability::Buffered).await;
    written.map(drop).inspect_err(|_| live.cursors().still_dirty(taken.into_iter().map(|(key, _)| key)))
}

/// A row of `system.cursors` for each.
pub(super) fn rows_of(live: &LiveDirectory, store: &Store, catalog: &Catalog) -> Vec<CursorRow> {
    let view = store.read_view();
    live.cursors().list().into_iter().map(|state| row_of(state, live, &view, catalog)).collect()
}

fn row_of(state: CursorState, live: &LiveDirectory, view: &ReadView, catalog: &Catalog) -> CursorRow {
    let CursorState { cursor, holder } = state;
    let name_of = |id: &TableId| catalog.tables().find(|table| table.id == *id).map(|table| table.name.to_string());
    let position = match &cursor.target {
        CursorTarget::Table { table, .. } => cursor.positions.get(table).map(|seq| seq.to_string()),
        CursorTarget::Namespace { .. } if cursor.positions.is_empty() => None,
        CursorTarget::Namespace { .. } => {
            let of = |(table, seq): (&TableId, &Seq)| Some((name_of(table)?, seq.get()));
            let named: BTreeMap<String, i64> = cursor.positions.iter().filter_map(of).collect();
            serde_json::to_string(&named).ok()
        }
    };
    // How much older the position is than the last change, of the table where that is most. A head that can not be read is
    // no lag: whoever reads its rows hears of that.
    let behind = |(table, seq): (&TableId, &Seq)| {
        let head = head_of(&cursor, *table, view).unwrap_or(Seq::ZERO);
        if head > *seq { head.unix_ms() - seq.unix_ms().min(head.unix_ms()) } else { 0 }
    };
    CursorRow {
        lag_ms: cursor.positions.iter().map(behind).max(),
        live_id: holder.and_then(|key| live.live_id(key)),
        user_id: cursor.user,
        group: cursor.group,
        target: cursor.target.to_string(),
        position,
        created_at: cursor.created_at,
        used_at: cursor.used_at,
    }
}

fn head_of(cursor: &Cursor, table: TableId, view: &ReadView) -> Result<Seq> {
    match &cursor.rows_of {
        Some(user) => view.head(&PartitionKey { table, owner: Owner::User(user.clone()) }),
        None => view.feed_head(table),
    }
}

impl Database {
    /// DROP CURSOR. Whoever reads with it is told that it is over.
    pub(super) fn drop_cursor(
        &self,
        scope: &Scope<'_>,
        group: &str,
        user: Option<&UserId>,
        if_exists: bool,
    ) -> Result<Outcome> {
        let user = user.unwrap_or(&scope.principal.user);
        if *user != scope.principal.user {
            self.policy.may_administer(&scope.principal, AdminAction::Kill)?;
        }
        let key = CursorKey::new(user, group)?;
        match self.live.cursors().remove(&key) {
            Some(holder) => {
                if let Some(holder) = holder {
                    self.live.end_one(holder, &SubscriptionFault::CursorDropped(group.to_owned()).into());
                }
                Ok(said(format!("Cursor '{group}' dropped successfully")))
            }
            None if if_exists => Ok(said(format!("Cursor '{group}' does not exist"))),
            None => Err(Error::NotFound(format!("Cursor '{group}' not found"))),
        }
    }

    /// SHOW CURSORS: one's own; administrators see all.
    pub(super) fn show_cursors(&self, scope: &Scope<'_>) -> Result<RowStream> {
        let all = self.policy.may_administer(&scope.principal, AdminAction::Kill).is_ok();
        let mut cursors = rows_of(&self.live, &self.store, &self.catalog.current());
        cursors.retain(|cursor| all || cursor.user_id == scope.principal.user);
        let time = |of: fn(&CursorRow) -> i64| {
            Arc::new(TimestampMicrosecondArray::from_iter_values(cursors.iter().map(of))) as arrow::array::ArrayRef
        };
        rows(vec![
            ("user_id", DataType::Text, false, texts(cursors.iter().map(|c| c.user_id.as_str()))),
            ("group_id", DataType::Text, false, texts(cursors.iter().map(|c| c.group.as_str()))),
            ("target", DataType::Text, false, texts(cursors.iter().map(|c| c.target.as_str()))),
            ("position", DataType::Text, true, optional_texts(cursors.iter().map(|c| c.position.as_deref()))),
            ("lag_ms", DataType::BigInt, true, Arc::new(cursors.iter().map(|c| c.lag_ms).collect::<Int64Array>())),
            ("live_id", DataType::Text, true, optional_texts(cursors.iter().map(|c| c.live_id.as_deref()))),
            ("created_at", DataType::Timestamp, false, time(|c| c.created_at)),
            ("used_at", DataType::Timestamp, false, time(|c| c.used_at)),
        ])
    }

    /// Removes cursors whose time is over, and those of users and tables that are gone.
    pub(super) fn expire_cursors(&self) {
        self.live.cursors().expire(self.options.cursor_idle, self.clock.now_us());
        prune(&self.live, &self.catalog.current(), &self.auth);
    }
}
