//! CREATE STORAGE and ALTER STORAGE, as they were written.
//!
//! Owns that what may be a secret is never shown.

use std::fmt;

use crate::model::storage::MASK;
use crate::model::{StorageId, StorageKind};

/// The text of CREDENTIALS: it never gets into a log.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(String);

impl SecretText {
    pub fn new(text: String) -> Self {
        Self(text)
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateStorage {
    pub id: StorageId,
    pub kind: StorageKind,
    /// PATH, BASE_DIRECTORY or BUCKET.
    pub place: String,
    pub region: Option<String>,
    pub settings: StorageSettings,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterStorage {
    pub id: StorageId,
    /// At least one.
    pub settings: StorageSettings,
}

/// What both may say. `None`: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StorageSettings {
    pub name: Option<String>,
    pub description: Option<String>,
    pub shared_template: Option<String>,
    pub user_template: Option<String>,
    /// JSON.
    pub config: Option<String>,
    /// JSON.
    pub credentials: Option<SecretText>,
}
