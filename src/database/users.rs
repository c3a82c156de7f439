//! Users: their records' way to the disk, and CREATE, ALTER and DROP USER.
//!
//! Owns the seam between authentication, which knows no disk, and the committer; and whose rows no feed shows.

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;

use super::Database;
use super::catalog::owe_move;
use super::execute::Scope;
use super::jobs::erasure_of;
use super::request::Outcome;
use crate::actors::CommitterHandle;
use crate::auth::AdminAction;
use crate::auth::Secret;
use crate::auth::{AuthLog, AuthRecord, Authenticator};
use crate::auth::{NewUser, UserAck, UserChange};
use crate::error::{Error, Result};
use crate::model::{Owner, Principal, UserId, UserStorage};
use crate::sql::statement::{self, Statement, UserSecret};
use crate::storage::{CommitEntry, RecordKind, RecordWrite, Store};

/// How long a failed log-in may be unwritten, unless it locks the account. It counts at once; a crash forgets it.
const GUESSES_ROUND: Duration = Duration::from_secs(1);

/// Authentication's records, through the committer.
pub(super) struct CommittedAuth {
    pub committer: CommitterHandle,
    pub store: Arc<Store>,
}

#[async_trait]
impl AuthLog for CommittedAuth {
    async fn commit(&self, records: Vec<AuthRecord>) -> Result<()> {
        let writes: Result<Vec<RecordWrite>> = records
            .iter()
            .map(|record| {
                let kind = match record {
                    AuthRecord::User(_) => RecordKind::User,
                    AuthRecord::Audit(_) => RecordKind::Audit,
                    AuthRecord::RevokedSession { .. } | AuthRecord::ForgottenSession(_) => RecordKind::RevokedSession,
                };
                Ok(RecordWrite { kind, key: record.key(), value: record.value()? })
            })
            .collect();
        self.committer.commit(CommitEntry::Records(writes?)).await?;
        // One change at a time, and before it is applied: a dropped user's rows are hidden before DROP USER answers, and
        // shown again before the user of that name can write.
        tell_store(&self.store, &records);
        Ok(())
    }
}

/// A dropped user's rows are in nobody's feed; a user may have a storage of their own.
pub(super) fn tell_store(store: &Store, records: &[AuthRecord]) {
    for record in records {
        if let AuthRecord::User(user) = record {
            store.user_storages().set(&user.user_id, user.own_storage());
            if user.leaves_mailbox() { store.hide(&user.user_id) } else { store.show(&user.user_id) }
        }
    }
}

/// What authentication had stored.
///
/// # Errors
/// `STORAGE_UNAVAILABLE`, `INTERNAL` where a record is damaged.
pub(super) fn stored(store: &Store) -> Result<Vec<AuthRecord>> {
    let users = store.records(RecordKind::User)?;
    let sessions = store.records(RecordKind::RevokedSession)?;
    let users = users.iter().map(|(_, value)| AuthRecord::decode_user(value));
    let sessions = sessions.iter().map(|(key, value)| AuthRecord::decode_revoked_session(key, value));
    users.chain(sessions).collect()
}

/// Writes how often users were guessed at, by and by, for as long as there is an authenticator. Not with each guess: the time
/// that its answer takes would tell that there is such a user.
pub(super) async fn write_guesses(auth: Weak<Authenticator>) {
    let Some(locked) = auth.upgrade().map(|auth| auth.locked()) else { return };
    let mut rounds = tokio::time::interval(GUESSES_ROUND);
    rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = rounds.tick() => {}
            () = locked.notified() => {}
        }
        let Some(auth) = auth.upgrade() else { return };
        if let Err(error) = auth.write_failed_logins().await {
            tracing::warn!(%error, "failed log-ins are not written");
        }
    }
}

impl Database {
    pub(super) async fn manage_user(&self, scope: &Scope<'_>, statement: &Statement) -> Result<Outcome> {
        let actor = &scope.principal;
        let ack = match statement {
            Statement::CreateUser { name, secret, role, email, storage } => {
                let password = match secret {
                    UserSecret::Password(password) => Some(Secret::new(password)),
                    UserSecret::Internal => None,
                };
                let (email, storage) = (email.clone(), storage.clone());
                let new = NewUser { user: name.clone(), role: *role, password, email, storage };
                self.create_user(actor, new).await?
            }
            Statement::AlterUser { name, change: statement::UserChange::SetStorage(storage) } => {
                self.set_user_storage(actor, name, storage).await?
            }
            Statement::AlterUser { name, change } => {
                let change = match change {
                    statement::UserChange::SetPassword { new, current } => {
                        UserChange::Password { new: Secret::new(new), current: current.as_deref().map(Secret::new) }
                    }
                    statement::UserChange::SetRole(role) => UserChange::Role(*role),
                    statement::UserChange::SetEmail(email) => UserChange::Email(email.clone()),
                    statement::UserChange::SetStorage(storage) => UserChange::Storage(storage.clone()),
                    statement::UserChange::Restore => UserChange::Restore,
                };
                self.auth.alter_user(actor, name.clone(), change).await?
            }
            Statement::DropUser { name, if_exists } => self.drop_user(actor, name, *if_exists).await?,
            _ => return Err(Error::Unsupported("not a statement about users".to_owned())),
        };
        Ok(Outcome::Done { rows: 0, message: ack.to_string() })
    }

    /// First it is durable that the user's files are to be moved. Then the user's storage is another: what is flushed from
    /// here on goes there. Then a job moves what there is. A crash behind the first leaves a job that may find nothing to
    /// do. Meanwhile the storage is not dropped.
    async fn set_user_storage(&self, actor: &Principal, user: &UserId, wanted: &UserStorage) -> Result<UserAck> {
        self.policy.may_administer(actor, AdminAction::ManageUsers)?;
        let held = self.catalog.hold().await;
        let catalog = self.catalog.current();
        if let Some(storage) = &wanted.storage {
            catalog.storage(storage)?;
        }
        let (owner, homes) = (Owner::User(user.clone()), self.store.user_storages().current());
        let tables: Vec<_> = catalog.tables().filter(|table| table.use_user_storage).cloned().collect();
        let mut owed = Vec::with_capacity(tables.len());
        for table in &tables {
            let from = [homes.of(table, &owner).clone()];
            owed.push(owe_move(&self.store, (table.id, Some(user)), from, self.clock.now_us())?);
        }
        if !owed.is_empty() && self.auth.is_user(user) {
            held.owe(owed).await?;
        }
        let ack = self.auth.alter_user(actor, user.clone(), UserChange::Storage(wanted.clone())).await?;
        drop(held);
        self.submit_moves(&tables).await;
        Ok(ack)
    }

    /// Where a dropped user has left a mailbox under this name, it is erased first.
    async fn create_user(&self, actor: &Principal, new: NewUser) -> Result<UserAck> {
        let Some(storage) = new.storage.storage.clone() else { return self.admit_user(actor, new).await };
        // While it lives, no storage is dropped.
        let held = self.catalog.hold().await;
        self.catalog.current().storage(&storage)?;
        let ack = self.admit_user(actor, new).await;
        drop(held);
        ack
    }

    async fn admit_user(&self, actor: &Principal, new: NewUser) -> Result<UserAck> {
        // Everything else that can be wrong is found before anything is erased.
        let refused = match self.auth.create_user(actor, new.clone()).await {
            Err(refused @ Error::Conflict(_)) => refused,
            outcome => return outcome,
        };
        // A service may create users, not end the time within which a dropped one can come back.
        if self.policy.may_administer(actor, AdminAction::ManageUsers).is_err() {
            return Err(refused);
        }
        let before = self.auth.leaving(&new.user).ok_or(refused)?;
        self.free_name(&before).await?;
        self.auth.create_user(actor, new).await
    }

    async fn drop_user(&self, actor: &Principal, user: &UserId, if_exists: bool) -> Result<UserAck> {
        let ack = self.auth.drop_user(actor, user.clone(), if_exists).await?;
        if let UserAck::Dropped(_) = &ack {
            self.remove_exports_of(user).await;
        }
        if let (UserAck::Dropped(_), Some(dropped)) = (&ack, self.auth.leaving(user))
            && self.options.deletion_grace_period.is_zero()
        {
            self.jobs.submit_owed(erasure_of(&dropped)).await;
        }
        Ok(ack)
    }
}
