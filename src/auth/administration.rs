//! Users made, changed and dropped: by SQL, by the first-run setup, and at the first start.
//!
//! Owns what these do to a user's record. Who may do them is [`Policy`]'s; the records are committed by
//! [`Accounts`](super::accounts::Accounts), which sees the state that the decision is about.

use std::net::IpAddr;
use std::sync::Arc;

use super::accounts::Decision;
use super::authenticator::Authenticator;
use super::config::Secret;
use super::log::AuthRecord;
use super::password::{PASSWORD_READ_LIMIT, PasswordHash, check_strength};
use super::policy::{AdminAction, Policy};
use super::users::{AuthType, ChangedBy, UserAck, UserRecord};
use crate::error::{Error, Result};
use crate::model::{AuditEntry, Principal, Role, UserId, UserStorage};

/// `CREATE USER`.
#[derive(Debug, Clone)]
pub struct NewUser {
    pub user: UserId,
    pub role: Role,
    /// `None`: internal, does not log in.
    pub password: Option<Secret>,
    pub email: Option<String>,
    /// Whether there is such a storage, the catalog says.
    pub storage: UserStorage,
}

/// `ALTER USER … SET …`.
#[derive(Debug, Clone)]
pub enum UserChange {
    /// `current` is needed for one's own, unless one is an administrator.
    Password {
        new: Secret,
        current: Option<Secret>,
    },
    Role(Role),
    Email(String),
    /// Whether there is such a storage, the catalog says.
    Storage(UserStorage),
    /// Undoes DROP USER while the mailbox is there.
    Restore,
}

/// What the first-run setup asks for.
#[derive(Debug, Clone)]
pub struct SetupRequest {
    pub user: String,
    pub password: Secret,
    pub root_password: Secret,
    pub email: Option<String>,
}

impl Authenticator {
    /// Makes `root` at the first start, and gives it `auth.root_password` while it has none.
    ///
    /// # Errors
    /// Those of the log.
    pub async fn boot(&self) -> Result<()> {
        let has_password = self.accounts.users().get("root").is_some_and(|root| root.password_hash.is_set());
        let hash = match &self.config.root_password {
            Some(password) if !has_password && !password.expose().is_empty() => {
                self.passwords.hash(password.clone()).await?
            }
            _ => PasswordHash::default(),
        };
        let now_us = self.clock.now_us();
        let change = self.accounts.change(move |accounts| {
            let stored = accounts.users().get("root");
            let known = stored.is_some();
            let mut root = stored.map_or_else(|| UserRecord::root(now_us), Arc::unwrap_or_clone);
            if hash.is_set() && !root.password_hash.is_set() {
                root = root.with_password(hash, ChangedBy::Another, now_us);
            } else if known {
                return Ok(Decision { records: Vec::new(), answer: () });
            }
            Ok(Decision { records: vec![AuthRecord::User(root)], answer: () })
        });
        change.await
    }

    /// Does the server still wait for its first-run setup?
    pub fn needs_setup(&self) -> bool {
        !self.accounts.users().get("root").is_some_and(|root| root.password_hash.is_set())
    }

    /// [`Authenticator::needs_setup`], for those who may set up.
    ///
    /// # Errors
    /// `REMOTE_ACCESS_DENIED`.
    pub fn status(&self, ip: IpAddr) -> Result<bool> {
        self.check_setup_allowed(ip)?;
        Ok(self.needs_setup())
    }

    /// Sets root's password and creates the first administrator, both or neither.
    ///
    /// # Errors
    /// `REMOTE_ACCESS_DENIED`, `ALREADY_CONFIGURED`, `INVALID_NAME`, `WEAK_PASSWORD`, `USER_EXISTS`, `BUSY`,
    /// `RATE_LIMIT_EXCEEDED`.
    pub async fn setup(&self, request: SetupRequest, ip: IpAddr) -> Result<Arc<UserRecord>> {
        self.check_setup_allowed(ip)?;
        self.admit_login(ip)?;
        if !self.needs_setup() {
            return Err(Error::AlreadyConfigured);
        }
        let user = setup_user(&request.user)?;
        check_strength(&request.password, self.config.min_password_length)?;
        check_strength(&request.root_password, self.config.min_password_length)?;
        let root_hash = self.passwords.hash(request.root_password).await?;
        let user_hash = self.passwords.hash(request.password).await?;
        let (email, now_us) = (request.email, self.clock.now_us());
        let change = self.accounts.change(move |accounts| {
            let root = accounts.users().require(&UserId::root())?;
            if root.password_hash.is_set() {
                return Err(Error::AlreadyConfigured);
            }
            let new = UserRecord {
                password_hash: user_hash,
                email,
                ..UserRecord::new(user, Role::Dba, AuthType::Password, now_us)
            };
            let new = accounts.users().admit(new)?;
            let root = root.with_password(root_hash, ChangedBy::Another, now_us);
            let set_up = AuditEntry::of(&new.user_id, "SETUP", new.user_id.as_str(), now_us).from_ip(Some(ip));
            let records = vec![AuthRecord::User(root), AuthRecord::User(new.clone()), AuthRecord::Audit(set_up)];
            Ok(Decision { records, answer: Arc::new(new) })
        });
        change.await
    }

    /// # Errors
    /// `PERMISSION_DENIED`, `USER_EXISTS`, `WEAK_PASSWORD`, `BUSY`; `CONFLICT` while the mailbox of a dropped user of
    /// this name is there.
    pub async fn create_user(&self, actor: &Principal, new: NewUser) -> Result<UserAck> {
        Policy.may_create_user(actor, new.role)?;
        if self.accounts.users().get(new.user.as_str()).is_some() {
            return Err(Error::UserExists(new.user));
        }
        let (auth_type, password_hash) = match new.password {
            Some(password) => (AuthType::Password, self.hash_for_sql(actor, password).await?),
            None => (AuthType::Internal, PasswordHash::default()),
        };
        let (user, role, email, now_us) = (new.user, new.role, new.email, self.clock.now_us());
        let record = UserRecord { password_hash, email, ..UserRecord::new(user.clone(), role, auth_type, now_us) };
        let record = record.with_storage(new.storage, now_us)?;
        let change = self.accounts.change(move |accounts| {
            let record = accounts.users().admit(record)?;
            Ok(Decision { records: vec![AuthRecord::User(record)], answer: UserAck::Created(user) })
        });
        change.await
    }

    /// # Errors
    /// `PERMISSION_DENIED` (a wrong CURRENT password included), `USER_NOT_FOUND`, `WEAK_PASSWORD`, `ACCOUNT_LOCKED`,
    /// `BUSY`.
    pub async fn alter_user(&self, actor: &Principal, user: UserId, change: UserChange) -> Result<UserAck> {
        match change {
            UserChange::Password { new, current } => self.change_password(actor, user, new, current).await,
            UserChange::Role(role) => {
                Policy.may_change_user(actor, role)?;
                if user == UserId::root() {
                    return Err(Error::PermissionDenied("root is built in and stays of role system".to_owned()));
                }
                self.edit(actor, user, move |record, now_us| Ok(record.with_role(role, now_us))).await
            }
            UserChange::Email(email) => {
                self.edit(actor, user, move |record, now_us| Ok(record.with_email(email, now_us))).await
            }
            UserChange::Storage(storage) => {
                self.edit(actor, user, move |record, now_us| record.with_storage(storage, now_us)).await
            }
            UserChange::Restore => self.restore_user(actor, user).await,
        }
    }

    /// # Errors
    /// `PERMISSION_DENIED`, `USER_NOT_FOUND` without `if_exists`.
    pub async fn drop_user(&self, actor: &Principal, user: UserId, if_exists: bool) -> Result<UserAck> {
        Policy.may_administer(actor, AdminAction::ManageUsers)?;
        if user == UserId::root() {
            return Err(Error::PermissionDenied("root is built in and can not be dropped".to_owned()));
        }
        if user == actor.user {
            return Err(Error::PermissionDenied("you can not drop yourself; another administrator can".to_owned()));
        }
        let (actor, now_us) = (actor.clone(), self.clock.now_us());
        let change = self.accounts.change(move |accounts| {
            let record = match accounts.users().require(&user) {
                Ok(record) => record,
                Err(_) if if_exists => {
                    return Ok(Decision { records: Vec::new(), answer: UserAck::Skipped(user) });
                }
                Err(error) => return Err(error),
            };
            Policy.may_change_user(&actor, record.role)?;
            let records = vec![AuthRecord::User(record.dropped(now_us))];
            Ok(Decision { records, answer: UserAck::Dropped(user) })
        });
        change.await
    }

    async fn change_password(
        &self,
        actor: &Principal,
        user: UserId,
        new: Secret,
        current: Option<Secret>,
    ) -> Result<UserAck> {
        let own = actor.user == user;
        match current {
            Some(current) if own => self.check_current(&user, current).await?,
            Some(_) => {
                return Err(Error::InvalidInput("CURRENT is for one's own password; leave it out".to_owned()));
            }
            None if own && !actor.role.is_admin() => {
                return Err(Error::PermissionDenied(format!(
                    "your own password is changed with: ALTER USER '{user}' SET PASSWORD 'new' CURRENT 'old'"
                )));
            }
            None if own => {}
            None => Policy.may_administer(actor, AdminAction::ManageUsers)?,
        }
        let by = if own { ChangedBy::Owner } else { ChangedBy::Another };
        let hash = self.hash_for_sql(actor, new).await?;
        let apply = move |record: &UserRecord, now_us| Ok(record.with_password(hash, by, now_us));
        if own { self.store_edit(user, |_| Ok(()), apply).await } else { self.edit(actor, user, apply).await }
    }

    /// CURRENT is guessed at like a login: wrong ones count, and lock the account.
    async fn check_current(&self, user: &UserId, current: Secret) -> Result<()> {
        match self.check_password(user.as_str(), current, None).await {
            Ok(_) => Ok(()),
            Err(Error::InvalidCredentials) => {
                Err(Error::PermissionDenied("the CURRENT password is not right".to_owned()))
            }
            Err(error) => Err(error),
        }
    }

    /// Changes a user whom `actor` may manage.
    async fn edit(
        &self,
        actor: &Principal,
        user: UserId,
        apply: impl FnOnce(&UserRecord, i64) -> Result<UserRecord> + Send + 'static,
    ) -> Result<UserAck> {
        Policy.may_administer(actor, AdminAction::ManageUsers)?;
        let actor = actor.clone();
        self.store_edit(user, move |record| Policy.may_change_user(&actor, record.role), apply).await
    }

    async fn store_edit(
        &self,
        user: UserId,
        check: impl FnOnce(&UserRecord) -> Result<()> + Send + 'static,
        apply: impl FnOnce(&UserRecord, i64) -> Result<UserRecord> + Send + 'static,
    ) -> Result<UserAck> {
        let now_us = self.clock.now_us();
        let change = self.accounts.change(move |accounts| {
            let record = accounts.users().require(&user)?;
            check(&record)?;
            Ok(Decision { records: vec![AuthRecord::User(apply(&record, now_us)?)], answer: UserAck::Updated(user) })
        });
        change.await
    }

    /// Administrators may set any password that login can read, as scripts and tests do; others are held to the rules.
    async fn hash_for_sql(&self, actor: &Principal, password: Secret) -> Result<PasswordHash> {
        if !actor.role.is_admin() {
            check_strength(&password, self.config.min_password_length)?;
        } else if !(1..=PASSWORD_READ_LIMIT).contains(&password.expose().chars().count()) {
            return Err(Error::WeakPassword(format!("Password must have from 1 to {PASSWORD_READ_LIMIT} characters")));
        }
        self.passwords.hash(password).await
    }
}

/// The name of the first administrator: it becomes part of SQL, URLs and file names, so it is plain.
fn setup_user(text: &str) -> Result<UserId> {
    let user = UserId::parse(text)?;
    let fault = if user == UserId::root() {
        "root exists already; choose another name for the administrator".to_owned()
    } else if let Some(bad) = text.chars().find(|c| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '@'))) {
        format!("it contains {bad:?}; letters, digits and _ - . @ are allowed")
    } else {
        return Ok(user);
    };
    Err(Error::InvalidName { what: "user", name: text.to_owned(), fault })
}

#[cfg(test)]
mod tests;
