//! Storages: where cold rows lie, as the catalog has them.
//!
//! Owns what a storage is made of, and that its credentials are shown to nobody.
//! Never opens one: `storage::ColdStores` does, and says which settings and templates are good.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::StorageId;

/// What stands where a secret would.
pub const MASK: &str = "***";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageKind {
    /// A folder of this machine.
    Filesystem,
    /// A bucket of S3, or of what speaks like it.
    S3,
    Gcs,
    Azure,
}

impl StorageKind {
    pub fn as_str(self) -> &'static str {
        match self {
            StorageKind::Filesystem => "filesystem",
            StorageKind::S3 => "s3",
            StorageKind::Gcs => "gcs",
            StorageKind::Azure => "azure",
        }
    }
}

/// The text names no kind of storage.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Unknown storage type '{0}'; types are filesystem, s3, gcs and azure")]
pub struct UnknownStorageKind(pub String);

impl FromStr for StorageKind {
    type Err = UnknownStorageKind;

    fn from_str(text: &str) -> Result<Self, UnknownStorageKind> {
        match text.to_ascii_lowercase().as_str() {
            "filesystem" => Ok(StorageKind::Filesystem),
            "s3" => Ok(StorageKind::S3),
            "gcs" => Ok(StorageKind::Gcs),
            "azure" => Ok(StorageKind::Azure),
            _ => Err(UnknownStorageKind(text.to_owned())),
        }
    }
}

/// Where the rows of one user go, of tables that go by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageMode {
    /// To each table's storage.
    #[default]
    Table,
    /// To the user's own.
    Region,
}

impl StorageMode {
    pub fn as_str(self) -> &'static str {
        match self {
            StorageMode::Table => "table",
            StorageMode::Region => "region",
        }
    }
}

/// The text names no storage mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Unknown storage mode '{0}'; modes are table and region")]
pub struct UnknownStorageMode(pub String);

impl FromStr for StorageMode {
    type Err = UnknownStorageMode;

    fn from_str(text: &str) -> Result<Self, UnknownStorageMode> {
        match text.to_ascii_lowercase().as_str() {
            "table" => Ok(StorageMode::Table),
            "region" => Ok(StorageMode::Region),
            _ => Err(UnknownStorageMode(text.to_owned())),
        }
    }
}

/// What a statement says of where a user's rows go; what it does not name stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserStorage {
    pub mode: Option<StorageMode>,
    pub storage: Option<StorageId>,
}

/// Names and secrets. Only the storage's own record and its client see the values.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StorageCredentials(BTreeMap<String, String>);

impl StorageCredentials {
    pub fn new(secrets: BTreeMap<String, String>) -> Self {
        Self(secrets)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// For the client that presents it.
    pub fn expose(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// For whoever hides them in a text.
    pub fn expose_all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, secret)| (name.as_str(), secret.as_str()))
    }

    /// A JSON object that tells which there are, and none of them; `None` where there are none.
    pub fn masked(&self) -> Option<String> {
        let masked: serde_json::Map<_, _> = self.0.keys().map(|name| (name.clone(), MASK.into())).collect();
        (!self.is_empty()).then(|| serde_json::Value::Object(masked).to_string())
    }
}

impl fmt::Debug for StorageCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.masked().as_deref().unwrap_or("none"))
    }
}

/// A storage as the catalog stores it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageMeta {
    pub id: StorageId,
    /// For people.
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub kind: StorageKind,
    /// A folder, relative to the data folder where it is no absolute path; or `s3://`, `gs://`, `az://` bucket `/` prefix.
    pub base: String,
    /// By name: region, endpoint and the like, never a secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "StorageCredentials::is_empty")]
    pub credentials: StorageCredentials,
    pub shared_template: String,
    pub user_template: String,
    /// Microseconds since the Unix epoch.
    pub created_at: i64,
    pub updated_at: i64,
}

impl StorageMeta {
    /// As JSON; `None` where there is none.
    pub fn config_json(&self) -> Option<String> {
        let config: serde_json::Map<_, _> =
            self.config.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
        (!config.is_empty()).then(|| serde_json::Value::Object(config).to_string())
    }

    /// Is it reached in the same way? Then whoever has it open may go on.
    pub fn opens_like(&self, other: &StorageMeta) -> bool {
        let way = |meta: &StorageMeta| (meta.kind, meta.base.clone(), meta.config.clone(), meta.credentials.clone());
        way(self) == way(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_in_the_record_and_in_nothing_else() {
        let secrets = [("access_key_id", "AKIA1"), ("secret_access_key", "s3cr3t")];
        let meta = StorageMeta {
            id: StorageId::parse("cold").unwrap(),
            name: "Cold".to_owned(),
            description: None,
            kind: StorageKind::S3,
            base: "s3://bucket".to_owned(),
            config: BTreeMap::new(),
            credentials: StorageCredentials::new(secrets.map(|(n, s)| (n.to_owned(), s.to_owned())).into()),
            shared_template: String::new(),
            user_template: String::new(),
            created_at: 1,
            updated_at: 2,
        };
        let debug = format!("{meta:?}");
        assert!(!debug.contains("s3cr3t") && !debug.contains("AKIA1") && debug.contains("access_key_id"), "{debug}");
        let masked = meta.credentials.masked().unwrap();
        assert_eq!(masked, r#"{"access_key_id":"***","secret_access_key":"***"}"#);
        let record = serde_json::to_string(&meta).unwrap();
        assert_eq!(
            record,
            concat!(
                r#"{"id":"cold","name":"Cold","kind":"s3","base":"s3://bucket","#,
                r#""credentials":{"access_key_id":"AKIA1","secret_access_key":"s3cr3t"},"#,
                r#""shared_template":"","user_template":"","created_at":1,"updated_at":2}"#
            )
        );
        assert_eq!(serde_json::from_str::<StorageMeta>(&record).unwrap(), meta);
        assert_eq!(StorageCredentials::default().masked(), None);
    }
}
