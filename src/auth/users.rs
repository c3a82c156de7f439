//! Users: what is known of each, and how that changes.
//!
//! Owns the record of a user, the directory of all, and the decisions about them: they take the time as an argument
//! and answer with the record that is to be stored.
//! Never stores anything itself: [`Accounts`](super::accounts::Accounts) commits a record, then applies it here.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::password::PasswordHash;
use crate::error::{Error, Result};
use crate::model::{Principal, Role, StorageId, StorageMode, UserId, UserStorage};

const ROOT_EMAIL: &str = "root@localhost";

/// How a user proves who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthType {
    Password,
    /// Made by the server, or for it: logs in only where a password was set.
    Internal,
}

impl AuthType {
    pub fn as_str(self) -> &'static str {
        match self {
            AuthType::Password => "password",
            AuthType::Internal => "internal",
        }
    }
}

/// What has become of a dropped user's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mailbox {
    /// They are there. A dropped user's are invisible; RESTORE brings them back.
    #[default]
    Kept,
    /// Nothing brings them back any more.
    Erasing,
    /// They are gone: the name may be given out again.
    Erased,
}

impl Mailbox {
    fn is_kept(&self) -> bool {
        *self == Mailbox::Kept
    }
}

/// A user as stored: JSON, times in microseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord {
    pub user_id: UserId,
    pub password_hash: PasswordHash,
    pub role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    pub auth_type: AuthType,
    /// Raised when the password changes, and when a dropped name is given out again. Tokens carry the one they were
    /// made under.
    pub generation: u32,
    /// Access tokens of older generations are refused. Behind `generation` only after users changed their own
    /// password: that ends what was logged in elsewhere at its next refresh.
    pub oldest_access: u32,
    /// In a row.
    #[serde(default)]
    pub failed_login_attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locked_until: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_login_at: Option<i64>,
    pub created_at: i64,
    pub updated_at: i64,
    /// Dropped: may do nothing, and nobody sees their rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<i64>,
    /// Where the rows go of tables with USE_USER_STORAGE.
    #[serde(default, skip_serializing_if = "is_default")]
    pub storage_mode: StorageMode,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_id: Option<StorageId>,
    /// Of a dropped user. The name is given out again only once the rows of the one before are gone.
    #[serde(default, skip_serializing_if = "Mailbox::is_kept")]
    pub mailbox: Mailbox,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Wrong passwords in a row that lock an account, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lockout {
    pub(crate) attempts: u32,
    pub(crate) duration: Duration,
}

/// Who changes a password: decides whether what is logged in stays so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangedBy {
    Owner,
    Another,
}

impl UserRecord {
    pub(crate) fn new(user_id: UserId, role: Role, auth_type: AuthType, now_us: i64) -> Self {
        Self {
            user_id,
            password_hash: PasswordHash::default(),
            role,
            email: None,
            auth_type,
            generation: 1,
            oldest_access: 1,
            failed_login_attempts: 0,
            locked_until: None,
            last_login_at: None,
            created_at: now_us,
            updated_at: now_us,
            deleted_at: None,
            storage_mode: StorageMode::Table,
            storage_id: None,
            mailbox: Mailbox::Kept,
        }
    }

    /// The user's own storage, if that counts.
    pub fn own_storage(&self) -> Option<&StorageId> {
        self.storage_id.as_ref().filter(|_| self.storage_mode == StorageMode::Region)
    }

    /// A storage that is named counts, where nothing else is said.
    ///
    /// # Errors
    /// `INVALID_INPUT` where the user's own is to count and there is none.
    pub(crate) fn with_storage(&self, wanted: UserStorage, now_us: i64) -> Result<Self> {
        let named = wanted.storage.is_some();
        let storage_id = wanted.storage.or_else(|| self.storage_id.clone());
        let storage_mode = wanted.mode.unwrap_or(if named { StorageMode::Region } else { self.storage_mode });
        if storage_mode == StorageMode::Region && storage_id.is_none() {
            return Err(Error::InvalidInput(
                "STORAGE_MODE region needs a storage: name one with STORAGE_ID".to_owned(),
            ));
        }
        Ok(Self { storage_mode, storage_id, updated_at: now_us, ..self.clone() })
    }

    /// Who this user is in what they do.
    pub fn principal(&self) -> Principal {
        Principal { user: self.user_id.clone(), role: self.role, generation: self.generation }
    }

    /// Is access under this generation still good?
    pub(crate) fn accepts(&self, generation: u32) -> bool {
        (self.oldest_access..=self.generation).contains(&generation)
    }

    /// The administrator that every server has from its first start.
    pub(crate) fn root(now_us: i64) -> Self {
        Self {
            email: Some(ROOT_EMAIL.to_owned()),
            ..Self::new(UserId::root(), Role::System, AuthType::Internal, now_us)
        }
    }

    pub fn is_deleted(&self) -> bool {
        self.deleted_at.is_some()
    }

    /// Dropped, and their rows are still there.
    pub fn leaves_mailbox(&self) -> bool {
        self.is_deleted() && self.mailbox != Mailbox::Erased
    }

    /// Minutes until the account opens again, at least 1; `None` where it is open.
    pub fn locked_minutes(&self, now_us: i64) -> Option<u64> {
        let left = Duration::from_micros(u64::try_from(self.locked_until? - now_us).ok().filter(|left| *left > 0)?);
        Some(left.as_secs().div_ceil(60).max(1))
    }

    /// # Errors
    /// `ACCOUNT_LOCKED`.
    pub(crate) fn check_open(&self, now_us: i64) -> Result<()> {
        self.locked_minutes(now_us).map_or(Ok(()), |minutes| Err(Error::AccountLocked { minutes }))
    }

    /// A wrong password was given.
    pub(crate) fn after_failed_login(&self, lockout: Lockout, now_us: i64) -> Self {
        // A lock that is over has been served: the count starts again.
        let earlier = if self.locked_until.is_some() { 0 } else { self.failed_login_attempts };
        let attempts = earlier.saturating_add(1);
        let lock_us = i64::try_from(lockout.duration.as_micros()).unwrap_or(i64::MAX);
        let locked_until = (attempts >= lockout.attempts).then(|| now_us.saturating_add(lock_us));
        Self { failed_login_attempts: attempts, locked_until, ..self.clone() }
    }

    /// The right password was given.
    pub(crate) fn after_login(&self, now_us: i64) -> Self {
        Self { failed_login_attempts: 0, locked_until: None, last_login_at: Some(now_us), ..self.clone() }
    }

    pub(crate) fn with_password(&self, hash: PasswordHash, by: ChangedBy, now_us: i64) -> Self {
        let generation = self.generation.saturating_add(1);
        let oldest_access = match by {
            ChangedBy::Owner => self.oldest_access,
            ChangedBy::Another => generation,
        };
        Self {
            password_hash: hash,
            generation,
            oldest_access,
            failed_login_attempts: 0,
            locked_until: None,
            updated_at: now_us,
            ..self.clone()
        }
    }

    pub(crate) fn with_role(&self, role: Role, now_us: i64) -> Self {
        Self { role, updated_at: now_us, ..self.clone() }
    }

    pub(crate) fn with_email(&self, email: String, now_us: i64) -> Self {
        Self { email: Some(email), updated_at: now_us, ..self.clone() }
    }

    pub(crate) fn dropped(&self, now_us: i64) -> Self {
        Self { deleted_at: Some(now_us), updated_at: now_us, ..self.clone() }
    }

    /// As before the drop, but logged out everywhere.
    pub(crate) fn restored(&self, now_us: i64) -> Self {
        let generation = self.generation.saturating_add(1);
        Self { deleted_at: None, updated_at: now_us, generation, oldest_access: generation, ..self.clone() }
    }

    pub(crate) fn erasing(&self, now_us: i64) -> Self {
        Self { mailbox: Mailbox::Erasing, updated_at: now_us, ..self.clone() }
    }

    /// What stays: that there was a user of this name, so that their tokens are refused for ever.
    pub(crate) fn erased(&self, now_us: i64) -> Self {
        Self {
            mailbox: Mailbox::Erased,
            storage_mode: StorageMode::Table,
            storage_id: None,
            email: None,
            password_hash: PasswordHash::default(),
            updated_at: now_us,
            ..self.clone()
        }
    }
}

/// What a statement about users did; its text is the statement's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserAck {
    Created(UserId),
    Updated(UserId),
    Dropped(UserId),
    Restored(UserId),
    /// DROP USER IF EXISTS of a user who does not.
    Skipped(UserId),
}

impl fmt::Display for UserAck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UserAck::Created(user) => write!(f, "User '{user}' created"),
            UserAck::Updated(user) => write!(f, "User '{user}' updated"),
            UserAck::Dropped(user) => write!(f, "User '{user}' dropped (soft delete)"),
            UserAck::Restored(user) => write!(f, "User '{user}' restored"),
            UserAck::Skipped(user) => write!(f, "User '{user}' does not exist (skipped)"),
        }
    }
}

/// All users, in memory: every request asks it.
#[derive(Debug, Default)]
pub(crate) struct UserDirectory(RwLock<Users>);

#[derive(Debug, Default)]
struct Users {
    by_id: HashMap<UserId, Arc<UserRecord>>,
    /// Dropped ones whose rows are still there.
    leaving: BTreeSet<UserId>,
}

impl UserDirectory {
    /// A live user.
    pub(crate) fn get(&self, user: &str) -> Option<Arc<UserRecord>> {
        self.stored(user).filter(|record| !record.is_deleted())
    }

    /// A live user.
    ///
    /// # Errors
    /// `USER_NOT_FOUND`.
    pub(crate) fn require(&self, user: &UserId) -> Result<Arc<UserRecord>> {
        self.get(user.as_str()).ok_or_else(|| Error::UserNotFound(user.to_string()))
    }

    /// All, dropped ones included, by id.
    pub(crate) fn all(&self) -> Vec<Arc<UserRecord>> {
        let mut all: Vec<_> = self.0.read().unwrap_or_else(PoisonError::into_inner).by_id.values().cloned().collect();
        all.sort_by(|a, b| a.user_id.cmp(&b.user_id));
        all
    }

    /// Dropped users whose rows are still there.
    pub(crate) fn leaving(&self) -> Vec<Arc<UserRecord>> {
        let users = self.0.read().unwrap_or_else(PoisonError::into_inner);
        users.leaving.iter().filter_map(|user| users.by_id.get(user).cloned()).collect()
    }

    /// Makes a stored record visible.
    pub(crate) fn apply(&self, record: UserRecord) {
        let mut users = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if record.leaves_mailbox() {
            users.leaving.insert(record.user_id.clone());
        } else {
            users.leaving.remove(&record.user_id);
        }
        users.by_id.insert(record.user_id.clone(), Arc::new(record));
    }

    /// The record of a new user. A dropped user's name may be given out again once their rows are gone; their tokens
    /// do not come back with it.
    ///
    /// # Errors
    /// `USER_EXISTS`; `CONFLICT` while the rows are there.
    pub(crate) fn admit(&self, new: UserRecord) -> Result<UserRecord> {
        match self.stored(new.user_id.as_str()) {
            None => Ok(new),
            Some(old) if old.leaves_mailbox() => Err(Error::Conflict(format!(
                "the mailbox of the dropped user '{}' is being erased; try again in a moment",
                new.user_id
            ))),
            Some(old) if old.is_deleted() => {
                let generation = old.generation.saturating_add(1);
                Ok(UserRecord { generation, oldest_access: generation, ..new })
            }
            Some(_) => Err(Error::UserExists(new.user_id)),
        }
    }

    /// Dropped or not.
    pub(crate) fn stored(&self, user: &str) -> Option<Arc<UserRecord>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).by_id.get(user).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_US: i64 = 60_000_000;
    const LOCKOUT: Lockout = Lockout { attempts: 5, duration: Duration::from_secs(15 * 60) };

    fn alice() -> UserRecord {
        UserRecord::new(UserId::parse("alice").unwrap(), Role::User, AuthType::Password, 0)
    }

    #[test]
    fn five_wrong_passwords_lock_for_fifteen_minutes() {
        let mut user = alice();
        for attempt in 1..=4 {
            user = user.after_failed_login(LOCKOUT, 0);
            assert_eq!((user.failed_login_attempts, user.locked_minutes(0)), (attempt, None));
        }
        user = user.after_failed_login(LOCKOUT, 0);
        for (minute, left) in [(0, Some(15)), (14, Some(1)), (15, None)] {
            assert_eq!(user.locked_minutes(minute * MINUTE_US), left, "after {minute} minutes");
        }
        assert_eq!(user.locked_minutes(15 * MINUTE_US - 1), Some(1), "the last second counts as a minute");

        let after = user.after_failed_login(LOCKOUT, 16 * MINUTE_US);
        assert_eq!((after.failed_login_attempts, after.locked_until), (1, None), "a served lock starts a new count");
        let inside = user.after_login(16 * MINUTE_US);
        assert_eq!((inside.failed_login_attempts, inside.locked_until), (0, None));
    }

    #[test]
    fn a_password_changed_by_another_ends_every_token() {
        let own = alice().with_password(PasswordHash::default(), ChangedBy::Owner, 1);
        assert_eq!((own.generation, own.oldest_access), (2, 1));
        let reset = own.with_password(PasswordHash::default(), ChangedBy::Another, 2);
        assert_eq!((reset.generation, reset.oldest_access), (3, 3));
    }

    #[test]
    fn a_dropped_name_comes_back_without_its_tokens() {
        let users = UserDirectory::default();
        users.apply(users.admit(alice()).unwrap());
        assert!(matches!(users.admit(alice()), Err(Error::UserExists(_))));

        let dropped = UserRecord { email: Some("a@b".to_owned()), ..alice().dropped(5) };
        for record in [dropped.clone(), dropped.erasing(6)] {
            users.apply(record);
            assert!(users.get("alice").is_none());
            assert_eq!(users.leaving().len(), 1);
            assert!(matches!(users.admit(alice()), Err(Error::Conflict(_))), "the rows are still there");
        }
        users.apply(dropped.erasing(6).erased(7));
        assert_eq!(users.leaving().len(), 0);
        assert_eq!(users.all().len(), 1, "system.users still shows who was dropped");
        assert_eq!(users.all()[0].email, None);

        let again = users.admit(alice()).unwrap();
        assert_eq!((again.generation, again.oldest_access, again.deleted_at), (2, 2, None));
        assert_eq!(again.mailbox, Mailbox::Kept);
    }

    #[test]
    fn a_restored_user_is_as_before_and_logged_out() {
        let dropped = UserRecord { email: Some("a@b".to_owned()), ..alice().dropped(5) };
        let back = dropped.restored(6);
        assert_eq!((back.deleted_at, back.email.as_deref(), back.role), (None, Some("a@b"), Role::User));
        assert!(!back.accepts(dropped.generation) && back.accepts(back.generation));
    }

    #[test]
    fn where_a_users_rows_go() {
        let eu = || StorageId::parse("eu").unwrap();
        let set = |user: &UserRecord, mode: Option<&str>, storage: Option<StorageId>| {
            user.with_storage(UserStorage { mode: mode.map(|mode| mode.parse().unwrap()), storage }, 9)
        };
        assert_eq!(alice().own_storage(), None);
        assert!(matches!(set(&alice(), Some("region"), None), Err(Error::InvalidInput(_))));
        let own = set(&alice(), None, Some(eu())).unwrap();
        assert_eq!((own.own_storage(), own.updated_at), (Some(&eu()), 9));
        let off = set(&own, Some("TABLE"), None).unwrap();
        assert_eq!((off.own_storage(), off.storage_id.as_ref()), (None, Some(&eu())), "it is remembered");
        assert_eq!(set(&off, Some("region"), None).unwrap().own_storage(), Some(&eu()));
        assert_eq!(set(&alice(), Some("table"), Some(eu())).unwrap().own_storage(), None);
        assert_eq!(own.dropped(10).erasing(11).erased(12).storage_id, None);
    }

    #[test]
    fn a_record_survives_its_json() {
        let storage = Some(StorageId::parse("eu").unwrap());
        let user = UserRecord { email: Some("a@b".to_owned()), locked_until: Some(7), storage_id: storage, ..alice() };
        let json = serde_json::to_string(&user).unwrap();
        assert_eq!(serde_json::from_str::<UserRecord>(&json).unwrap(), user);
        assert!(!json.contains("deleted_at") && !json.contains("mailbox"));
        let gone = user.dropped(1).erasing(2);
        assert_eq!(serde_json::from_str::<UserRecord>(&serde_json::to_string(&gone).unwrap()).unwrap(), gone);
    }
}
