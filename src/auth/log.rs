//! What authentication stores, and the seam through which it does.
//!
//! Owns the form of its records. Never knows where they go: the database implements [`AuthLog`].

use async_trait::async_trait;

use super::token::SessionId;
use super::users::UserRecord;
use crate::error::{Error, Result};
use crate::model::AuditEntry;

/// Makes records durable.
#[async_trait]
pub trait AuthLog: Send + Sync {
    /// All of `records` or none; returns once they are on disk. They are applied in memory after that, never before.
    async fn commit(&self, records: Vec<AuthRecord>) -> Result<()>;
}

/// One fact, stored under a kind (`USER`, `REVOKED_SESSION` or `AUDIT` by variant) and [`AuthRecord::key`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthRecord {
    User(UserRecord),
    /// Logged out; forgotten after `expires_s`, in seconds since the Unix epoch.
    RevokedSession {
        sid: SessionId,
        expires_s: i64,
    },
    /// A log-in, good or bad.
    Audit(AuditEntry),
    /// Removes a [`AuthRecord::RevokedSession`] whose tokens have all expired.
    ForgottenSession(SessionId),
}

impl AuthRecord {
    pub fn key(&self) -> String {
        match self {
            AuthRecord::User(user) => user.user_id.to_string(),
            AuthRecord::Audit(entry) => entry.id.clone(),
            AuthRecord::RevokedSession { sid, .. } | AuthRecord::ForgottenSession(sid) => sid.to_string(),
        }
    }

    /// What to store; `None`: remove what is there.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn value(&self) -> Result<Option<Vec<u8>>> {
        match self {
            AuthRecord::User(user) => serde_json::to_vec(user).map(Some).map_err(Error::internal),
            AuthRecord::Audit(entry) => serde_json::to_vec(entry).map(Some).map_err(Error::internal),
            AuthRecord::RevokedSession { expires_s, .. } => Ok(Some(expires_s.to_string().into_bytes())),
            AuthRecord::ForgottenSession(_) => Ok(None),
        }
    }

    /// A stored user.
    ///
    /// # Errors
    /// `INTERNAL` where the bytes are none.
    pub fn decode_user(value: &[u8]) -> Result<Self> {
        serde_json::from_slice(value).map(AuthRecord::User).map_err(Error::internal)
    }

    /// A stored revoked session.
    ///
    /// # Errors
    /// `INTERNAL` where the bytes are none.
    pub fn decode_revoked_session(key: &str, value: &[u8]) -> Result<Self> {
        let sid = key.parse().map_err(Error::internal)?;
        let text = std::str::from_utf8(value).map_err(Error::internal)?;
        Ok(AuthRecord::RevokedSession { sid, expires_s: text.parse().map_err(Error::internal)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::users::AuthType;
    use crate::model::{Role, UserId};

    #[test]
    fn records_survive_being_stored() {
        let user = UserRecord::new(UserId::parse("alice").unwrap(), Role::User, AuthType::Password, 7);
        let record = AuthRecord::User(user);
        assert_eq!(record.key(), "alice");
        assert_eq!(AuthRecord::decode_user(&record.value().unwrap().unwrap()).unwrap(), record);

        let sid = SessionId::random();
        let record = AuthRecord::RevokedSession { sid, expires_s: 1_777_000_000 };
        let bytes = record.value().unwrap().unwrap();
        assert_eq!(AuthRecord::decode_revoked_session(&record.key(), &bytes).unwrap(), record);
        assert_eq!(AuthRecord::ForgottenSession(sid).value().unwrap(), None);

        assert!(AuthRecord::decode_user(b"{}").is_err());
        assert!(AuthRecord::decode_revoked_session("no uuid", b"1").is_err());
    }
}
