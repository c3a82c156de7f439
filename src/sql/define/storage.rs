//! CREATE STORAGE and ALTER STORAGE to a checked storage.
//!
//! Owns which settings may be altered. Never opens one, and names no value of CREDENTIALS in an error.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::model::{StorageCredentials, StorageKind, StorageMeta, TableKind};
use crate::sql::statement::{CreateStorage, StorageSettings};
use crate::storage::{ColdStores, PathTemplate, cold_stores};

const NAME_MAX: usize = 256;
const DESCRIPTION_MAX: usize = 1_024;
const JSON_MAX: usize = 16 << 10;

/// The storage that `create` describes.
///
/// # Errors
/// `INVALID_INPUT`.
pub fn define_storage(create: &CreateStorage, now_us: i64) -> Result<StorageMeta> {
    let mut meta = StorageMeta {
        id: create.id.clone(),
        name: create.id.to_string(),
        description: None,
        kind: create.kind,
        base: cold_stores::parse_base(create.kind, &create.place)?,
        config: BTreeMap::new(),
        credentials: StorageCredentials::default(),
        shared_template: PathTemplate::default_of(TableKind::Shared).to_string(),
        user_template: PathTemplate::default_of(TableKind::User).to_string(),
        created_at: now_us,
        updated_at: now_us,
    };
    apply(&mut meta, &create.settings)?;
    if let Some(region) = &create.region
        && let Some(other) = meta.config.insert("region".to_owned(), region.clone())
        && other != *region
    {
        return Err(Error::InvalidInput("REGION and the region of CONFIG differ; say one of them".to_owned()));
    }
    ColdStores::check(&meta)?;
    Ok(meta)
}

/// The storage that `settings` make of `before`.
///
/// # Errors
/// `INVALID_INPUT`.
pub fn alter_storage(before: &StorageMeta, settings: &StorageSettings, now_us: i64) -> Result<StorageMeta> {
    let mut meta = before.clone();
    apply(&mut meta, settings)?;
    if meta != *before {
        meta.updated_at = now_us;
    }
    ColdStores::check(&meta)?;
    Ok(meta)
}

fn apply(meta: &mut StorageMeta, settings: &StorageSettings) -> Result<()> {
    let StorageSettings { name, description, shared_template, user_template, config, credentials } = settings;
    if let Some(name) = name {
        if name.trim().is_empty() || name.len() > NAME_MAX {
            return Err(Error::InvalidInput(format!("NAME of a storage has 1 to {NAME_MAX} bytes")));
        }
        meta.name.clone_from(name);
    }
    if let Some(description) = description {
        if description.len() > DESCRIPTION_MAX {
            return Err(Error::InvalidInput(format!("DESCRIPTION of a storage has up to {DESCRIPTION_MAX} bytes")));
        }
        meta.description = Some(description.clone()).filter(|text| !text.is_empty());
    }
    // As the template spells itself: today's names of its placeholders.
    if let Some(text) = shared_template {
        meta.shared_template = PathTemplate::parse(text, TableKind::Shared)?.to_string();
    }
    if let Some(text) = user_template {
        meta.user_template = PathTemplate::parse(text, TableKind::User)?.to_string();
    }
    if let Some(json) = config {
        meta.config = texts(json).ok_or_else(|| no_object("CONFIG"))?;
    }
    if let Some(json) = credentials {
        let secrets = texts(json.expose()).ok_or_else(|| no_object("CREDENTIALS"))?;
        meta.credentials = StorageCredentials::new(secrets);
    }
    match meta.kind {
        StorageKind::Filesystem if !meta.credentials.is_empty() => {
            Err(Error::InvalidInput("A storage of type filesystem has no CREDENTIALS".to_owned()))
        }
        _ => Ok(()),
    }
}

fn no_object(clause: &str) -> Error {
    // Nothing of what the JSON's own error would quote.
    Error::InvalidInput(format!("{clause} is no JSON object of texts, numbers and booleans (up to 16 KiB)"))
}

/// A JSON object's values as texts.
fn texts(json: &str) -> Option<BTreeMap<String, String>> {
    if json.len() > JSON_MAX {
        return None;
    }
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).ok()?;
    let text = |(name, value)| match value {
        serde_json::Value::String(text) => Some((name, text)),
        serde_json::Value::Bool(value) => Some((name, value.to_string())),
        serde_json::Value::Number(value) => Some((name, value.to_string())),
        _ => None,
    };
    object.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::parse::parse;
    use crate::sql::statement::Statement;

    fn define(sql: &str) -> Result<StorageMeta> {
        match parse(sql)?.remove(0).statement {
            Statement::CreateStorage(create) => define_storage(&create, 7),
            other => panic!("{other:?} is no CREATE STORAGE"),
        }
    }

    #[test]
    fn places_and_settings_are_written_in_one_way() {
        let cases = [
            ("TYPE filesystem PATH '/srv//cold/./x/'", "/srv/cold/x", None),
            ("TYPE filesystem BASE_DIRECTORY 'archive'", "archive", None),
            ("TYPE s3 BUCKET 'b.x'", "s3://b.x", None),
            ("TYPE s3 BUCKET 's3://b/p/' REGION 'eu'", "s3://b/p", Some(r#"{"region":"eu"}"#)),
            (
                "TYPE s3 BASE_DIRECTORY 'S3A://b/p/q' CONFIG '{\"endpoint\":\"http://h:1\",\"virtual_hosted_style\":true}'",
                "s3://b/p/q",
                Some(r#"{"endpoint":"http://h:1","virtual_hosted_style":"true"}"#),
            ),
            ("TYPE gcs BASE_DIRECTORY 'gs://b'", "gs://b", None),
            (
                "TYPE azure BASE_DIRECTORY 'az://c/p' CONFIG '{\"account\":\"a\"}'",
                "az://c/p",
                Some(r#"{"account":"a"}"#),
            ),
        ];
        for (clauses, base, config) in cases {
            let meta = define(&format!("CREATE STORAGE s {clauses}")).unwrap_or_else(|e| panic!("{clauses}: {e}"));
            assert_eq!((meta.base.as_str(), meta.config_json().as_deref()), (base, config), "{clauses}");
        }
        let meta = define(
            "CREATE STORAGE s TYPE filesystem PATH '/x' USER_TABLES_TEMPLATE 'v1/{namespace_id}/{table_name}/{user_id}/'",
        );
        assert_eq!(meta.unwrap().user_template, "v1/{namespace}/{tableName}/{userId}");
    }

    #[test]
    fn what_cannot_be_is_refused_and_no_secret_is_said() {
        let cases = [
            ("TYPE filesystem PATH ''", "empty"),
            ("TYPE filesystem PATH '/srv/../etc'", "'..' is not allowed"),
            ("TYPE filesystem PATH 's3://b'", "it is a URI"),
            ("TYPE filesystem PATH '.'", "names no folder"),
            (
                "TYPE filesystem PATH '/x' CONFIG '{\"endpoint\":\"http://h\"}'",
                "A storage of type filesystem has no CONFIG",
            ),
            ("TYPE filesystem PATH '/x' CREDENTIALS '{\"token\":\"hunter2\"}'", "has no CREDENTIALS"),
            ("TYPE filesystem PATH '/x' USER_TABLES_TEMPLATE '{namespace}/{tableName}'", "needs {userId}"),
            ("TYPE filesystem PATH '/x' NAME ' '", "NAME of a storage has 1 to 256 bytes"),
            ("TYPE s3 BUCKET ''", "a bucket's name is made of"),
            ("TYPE s3 BUCKET 'gs://b'", "it is written s3://bucket/prefix"),
            ("TYPE s3 BUCKET 'key:hunter2@b'", "no user and no password"),
            ("TYPE s3 BUCKET 'b//x'", "a prefix is made of"),
            ("TYPE s3 BUCKET 'b/../x'", "a prefix is made of"),
            (
                "TYPE s3 BUCKET 'b' CONFIG '{\"colour\":\"red\"}'",
                "Unknown key 'colour' in CONFIG of a storage of type s3; keys are endpoint",
            ),
            ("TYPE s3 BUCKET 'b' CONFIG '{\"secret_access_key\":\"hunter2\"}'", "put it into CREDENTIALS"),
            ("TYPE s3 BUCKET 'b' CREDENTIALS '{\"password\":\"hunter2\"}'", "Unknown key 'password' in CREDENTIALS"),
            (
                "TYPE s3 BUCKET 'b' CREDENTIALS '{\"access_key_id\":\"hunter2\"}'",
                "need access_key_id and secret_access_key",
            ),
            ("TYPE s3 BUCKET 'b' CREDENTIALS 'hunter2'", "CREDENTIALS is no JSON object"),
            ("TYPE s3 BUCKET 'b' CREDENTIALS '{\"access_key_id\":[\"hunter2\"]}'", "CREDENTIALS is no JSON object"),
            ("TYPE s3 BUCKET 'b' CONFIG '[1]'", "CONFIG is no JSON object"),
            ("TYPE s3 BUCKET 'b' CONFIG '{\"endpoint\":\"http://u:hunter2@h\"}'", "without user and password"),
            ("TYPE s3 BUCKET 'b' CONFIG '{\"endpoint\":\"h:1\"}'", "http://host:port or https://"),
            ("TYPE s3 BUCKET 'b' CONFIG '{\"skip_signature\":\"maybe\"}'", "skip_signature is true or false"),
            ("TYPE s3 BUCKET 'b' REGION 'a' CONFIG '{\"region\":\"c\"}'", "differ"),
            ("TYPE gcs BUCKET 'b' CREDENTIALS '{\"client_email\":\"hunter2\"}'", "a service account's key file"),
            ("TYPE azure BUCKET 'c'", "needs its account"),
            (
                "TYPE azure BUCKET 'c' CONFIG '{\"account\":\"a\"}' CREDENTIALS '{\"client_id\":\"hunter2\"}'",
                "need tenant_id",
            ),
        ];
        for (clauses, expected) in cases {
            let error = define(&format!("CREATE STORAGE s {clauses}")).unwrap_err();
            assert!(matches!(error, Error::InvalidInput(_)), "{clauses}: {error:?}");
            let text = error.to_string();
            assert!(text.contains(expected), "{clauses}: {text} should say {expected}");
            assert!(!format!("{error:?}").contains("hunter2"), "{clauses}: {text}");
        }
    }
}
