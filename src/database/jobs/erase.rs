//! Bodies that remove keys for good: of a dropped table, of a dropped user's mailbox.
//!
//! Owns the order *nobody writes any more, keys removed in bounded steps, record that says it is done*. Removing the same
//! keys twice is the same as once, so a crash anywhere only makes the next try find less.

use std::time::Duration;

use super::Bodies;
use crate::actors::jobs::{JobControl, JobDone};
use crate::database::catalog::DroppedTable;
use crate::error::{Error, Result, SubscriptionFault};
use crate::failpoint;
use crate::model::{Durability, Owner, PartitionKey, TableKind, UserId};
use crate::storage::{CommitEntry, EraseScope};

/// Keys removed in one commit: about a millisecond of the committer's time.
const STEP: usize = 1_000;

/// How often is asked whether files are still being copied.
const COPIES_ROUND: Duration = Duration::from_millis(50);

impl Bodies {
    /// The table is out of the catalog, and its writes have ended: DROP TABLE saw to it, or the table is of before this
    /// process.
    pub(super) async fn erase_table(&self, dropped: DroppedTable, control: &JobControl) -> Result<JobDone> {
        let DroppedTable { id: table, name, storage } = dropped;
        let (mut keys, mut files) = (0, 0);
        let store = self.store.clone();
        self.wait_for_copies(control).await?;
        let owners = tokio::task::spawn_blocking(move || store.owners_of(table)).await.map_err(Error::internal)??;
        for owner in owners {
            control.check()?;
            failpoint::pass("drop_begun");
            files += self.remove_cold((table, &name), &storage, &owner).await?;
            failpoint::pass("drop_files_removed");
        }
        self.erase(EraseScope::Table(table), &mut keys, control).await?;
        // At sync, and behind the removals in the journal: so these are durable as well, and then nothing is owed.
        let mut records = self.store.forget_flushes(table)?;
        records.extend(crate::database::catalog::forget_moves(&self.store, table)?);
        records.push(self.store.forget_expiry(table));
        records.push(crate::database::catalog::purged(table));
        failpoint::pass("drop_keys_removed");
        self.committer.commit(CommitEntry::Records(records)).await?;
        failpoint::pass("drop_committed");
        Ok(JobDone::Completed(format!("{keys} keys and {files} files removed")))
    }

    /// The record says that nothing brings the user back; their sockets are closed, writes under way are durable, later
    /// ones refused; keys go; the record says that the mailbox is gone, and the name is free. A crash before that leaves
    /// a mailbox that nobody can read, and a record that has all this begin anew.
    pub(super) async fn erase_mailbox(&self, user: &UserId, generation: u32, control: &JobControl) -> Result<JobDone> {
        if !self.auth.begin_erasure(user.clone(), generation).await? {
            return Ok(JobDone::Skipped(format!("user '{user}' has no mailbox to erase")));
        }
        self.live.close_user(user, &Error::InvalidCredentials);
        let gone = Error::from(SubscriptionFault::RightRevoked);
        self.router.retire_owner(user, generation.saturating_add(1), &gone).await;
        let (exports, name) = (self.exports.clone(), user.clone());
        tokio::task::spawn_blocking(move || exports.remove_user(&name)).await.map_err(Error::internal)??;
        self.wait_for_copies(control).await?;
        let (mut keys, mut files) = (0, 0);
        // A table that is made from here on gets no row of this user.
        let catalog = self.catalog.current();
        for table in catalog.tables().filter(|table| table.kind != TableKind::Shared) {
            let key = PartitionKey { table: table.id, owner: Owner::User(user.clone()) };
            failpoint::pass("erase_begun");
            files += self.remove_cold((table.id, &table.name), &table.storage, &key.owner).await?;
            failpoint::pass("erase_files_removed");
            self.erase(EraseScope::Partition(key), &mut keys, control).await?;
        }
        self.erase_from_topics(user, &mut keys, control).await?;
        self.router.forget_owner(user);
        failpoint::pass("erase_keys_removed");
        self.auth.finish_erasure(user.clone(), generation).await?;
        tracing::info!(target: "audit", action = "ERASE_MAILBOX", %user, keys, files);
        Ok(JobDone::Completed(format!("{keys} keys and {files} files removed")))
    }

    /// Files that a backup under way may copy stay: what names them is not in the view of a backup that begins later, since
    /// the record that they are on their way out is durable.
    async fn wait_for_copies(&self, control: &JobControl) -> Result<()> {
        let mut rounds = tokio::time::interval(COPIES_ROUND);
        while self.store.files_are_pinned() {
            control.check()?;
            control.say(|| "waiting for a backup to end".to_owned());
            rounds.tick().await;
        }
        Ok(())
    }

    async fn erase(&self, scope: EraseScope, keys: &mut usize, control: &JobControl) -> Result<()> {
        let mut eraser = self.store.eraser(scope);
        loop {
            control.check()?;
            let walk = tokio::task::spawn_blocking(move || {
                let found = eraser.next_keys(STEP);
                (eraser, found)
            });
            let (back, found) = walk.await.map_err(Error::internal)?;
            eraser = back;
            let found = found?;
            if found.is_empty() {
                return Ok(());
            }
            *keys += found.len();
            // The step's own loss is none: what is still there is removed again.
            self.committer.commit_at(CommitEntry::Erase(Box::new(found)), Durability::Buffered).await?;
            failpoint::pass("erase_step");
            control.say(|| format!("{keys} keys removed so far"));
        }
    }
}
