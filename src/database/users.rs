//! Users: their records' way to the disk, and CREATE, ALTER and DROP USER.
//!
//! Owns the seam between authentication, which knows no disk, and the committer.

use async_trait::async_trait;

use super::Database;
use super::execute::Scope;
use super::request::Outcome;
use crate::actors::CommitterHandle;
use crate::auth::Secret;
use crate::auth::{AuthLog, AuthRecord};
use crate::auth::{NewUser, UserChange};
use crate::error::{Error, Result};
use crate::sql::statement::{self, Statement, UserSecret};
use crate::storage::{CommitEntry, RecordKind, RecordWrite, Store};

/// Authentication's records, through the committer.
pub(super) struct CommittedAuth(pub CommitterHandle);

#[async_trait]
impl AuthLog for CommittedAuth {
    async fn commit(&self, records: Vec<AuthRecord>) -> Result<()> {
        let writes: Result<Vec<RecordWrite>> = records
            .iter()
            .map(|record| {
                let kind = match record {
                    AuthRecord::User(_) => RecordKind::User,
                    AuthRecord::RevokedSession { .. } | AuthRecord::ForgottenSession(_) => RecordKind::RevokedSession,
                };
                Ok(RecordWrite { kind, key: record.key(), value: record.value()? })
            })
            .collect();
        self.0.commit(CommitEntry::Records(writes?)).await.map(drop)
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

impl Database {
    pub(super) async fn manage_user(&self, scope: &Scope<'_>, statement: &Statement) -> Result<Outcome> {
        let actor = &scope.principal;
        let ack = match statement {
            Statement::CreateUser { name, secret, role, email } => {
                let password = match secret {
                    UserSecret::Password(password) => Some(Secret::new(password)),
                    UserSecret::Internal => None,
                };
                let new = NewUser { user: name.clone(), role: *role, password, email: email.clone() };
                self.auth.create_user(actor, new).await?
            }
            Statement::AlterUser { name, change } => {
                let change = match change {
                    statement::UserChange::SetPassword { new, current } => {
                        UserChange::Password { new: Secret::new(new), current: current.as_deref().map(Secret::new) }
                    }
                    statement::UserChange::SetRole(role) => UserChange::Role(*role),
                    statement::UserChange::SetEmail(email) => UserChange::Email(email.clone()),
                };
                self.auth.alter_user(actor, name.clone(), change).await?
            }
            Statement::DropUser { name, if_exists } => self.auth.drop_user(actor, name.clone(), *if_exists).await?,
            _ => return Err(Error::Unsupported("not a statement about users".to_owned())),
        };
        Ok(Outcome::Done { rows: 0, message: ack.to_string() })
    }
}
