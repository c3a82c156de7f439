//! Who is asking.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::UserId;

/// What a user may do, from least to most: the order of the variants is the order of the rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Anonymous,
    User,
    Service,
    Dba,
    System,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Anonymous => "anonymous",
            Role::User => "user",
            Role::Service => "service",
            Role::Dba => "dba",
            Role::System => "system",
        }
    }

    /// Sees system tables, other people's error texts and the SQL in error details.
    pub fn is_admin(self) -> bool {
        self >= Role::Dba
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a role; roles are anonymous, user, service, dba and system")]
pub struct UnknownRole(pub String);

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        match text.to_ascii_lowercase().as_str() {
            "anonymous" => Ok(Role::Anonymous),
            "user" | "viewer" | "readonly" => Ok(Role::User),
            "service" | "developer" | "analyst" => Ok(Role::Service),
            "dba" | "admin" => Ok(Role::Dba),
            "system" => Ok(Role::System),
            _ => Err(UnknownRole(text.to_owned())),
        }
    }
}

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub user: UserId,
    pub role: Role,
    /// Of the user's credentials. It rises when a dropped name is given out again: the former holder's statement that is
    /// still under way is not the new one's.
    pub generation: u32,
}
