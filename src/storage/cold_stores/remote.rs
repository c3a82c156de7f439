//! Buckets: which settings and credentials each kind takes, and a client for it.
//!
//! Owns the names of settings (few: what is not needed to reach a bucket is not offered) and the bounds of every wait.
//! Never reads the server's environment or files for credentials: whoever makes a storage gives them, or there are those
//! of the machine's own role.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::{HttpClient, HttpConnector};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path as ObjectPath;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::RemoteIo;
use super::masked::{Mask, Masked};
use super::refused;
use crate::config::RemoteTimeouts;
use crate::error::{Error, Result};
use crate::model::{StorageKind, StorageMeta};

/// Further tries of a request that was not answered, or with a fault of the server's.
const RETRIES: usize = 3;
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Longest prefix: with the longest folder of a partition, paths stay below the 1,024 bytes that object stores take.
const PREFIX_MAX: usize = 200;

/// How buckets of one kind are reached.
struct Rules {
    scheme: &'static str,
    /// Schemes that mean the same.
    aliases: &'static [&'static str],
    /// What CONFIG may hold.
    config: &'static [&'static str],
    /// What CREDENTIALS may hold.
    credentials: &'static [&'static str],
}

const S3: Rules = Rules {
    scheme: "s3",
    aliases: &["s3a"],
    config: &["endpoint", "region", "skip_signature", "virtual_hosted_style"],
    credentials: &["access_key_id", "secret_access_key", "session_token"],
};

const GCS: Rules = Rules {
    scheme: "gs",
    aliases: &["gcs"],
    config: &["endpoint", "skip_signature"],
    // What a service account's key file holds, and what of it is needed.
    credentials: &[
        "auth_provider_x509_cert_url",
        "auth_uri",
        "client_email",
        "client_id",
        "client_x509_cert_url",
        "private_key",
        "private_key_id",
        "project_id",
        "token_uri",
        "type",
        "universe_domain",
    ],
};

const AZURE: Rules = Rules {
    scheme: "az",
    aliases: &["azure"],
    config: &["account", "endpoint", "skip_signature"],
    credentials: &["account_key", "client_id", "client_secret", "sas_token", "tenant_id"],
};

const FILESYSTEM: Rules = Rules { scheme: "", aliases: &[], config: &[], credentials: &[] };

fn rules(kind: StorageKind) -> &'static Rules {
    match kind {
        StorageKind::Filesystem => &FILESYSTEM,
        StorageKind::S3 => &S3,
        StorageKind::Gcs => &GCS,
        StorageKind::Azure => &AZURE,
    }
}

/// `bucket`, `scheme://bucket` or `scheme://bucket/prefix`, as the last with the usual scheme.
///
/// # Errors
/// `INVALID_INPUT`.
pub(super) fn parse_base(kind: StorageKind, text: &str) -> Result<String> {
    let rules = rules(kind);
    // Never the text itself: people put keys and tokens into URLs.
    let fault =
        |why: &str| Err(Error::InvalidInput(format!("Invalid place of a storage of type {}: {why}", kind.as_str())));
    let place = match text.split_once("://") {
        None => text,
        Some((scheme, place)) => {
            let known = |name: &&str| scheme.eq_ignore_ascii_case(name);
            if !known(&rules.scheme) && !rules.aliases.iter().any(known) {
                return fault(&format!("it is written {}://bucket/prefix", rules.scheme));
            }
            place
        }
    };
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    if bucket.contains('@') {
        return fault("a bucket has no user and no password; put them into CREDENTIALS");
    }
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if bucket.is_empty() || bucket.len() > 222 || !bucket.chars().all(good) || bucket.contains("..") {
        return fault("a bucket's name is made of letters, digits, '-', '_' and '.'");
    }
    let prefix = prefix.trim_end_matches('/');
    if prefix.is_empty() {
        return Ok(format!("{}://{bucket}", rules.scheme));
    }
    let plain = |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(good);
    if prefix.len() > PREFIX_MAX || !prefix.split('/').all(plain) {
        return fault("a prefix is made of letters, digits, '-', '_' and '.' between single '/', up to 200 bytes");
    }
    Ok(format!("{}://{bucket}/{prefix}", rules.scheme))
}

/// # Errors
/// `INVALID_INPUT`: the setting or the secret that the kind does not know, or that is missing. Names, never values.
pub(super) fn check(meta: &StorageMeta) -> Result<()> {
    let rules = rules(meta.kind);
    for (clause, given, known) in [
        ("CONFIG", meta.config.keys().map(String::as_str).collect::<Vec<_>>(), rules.config),
        ("CREDENTIALS", meta.credentials.names().collect(), rules.credentials),
    ] {
        if let Some(unknown) = given.iter().find(|name| !known.contains(name)) {
            let kind = meta.kind.as_str();
            let message = match (known, rules.credentials.contains(unknown)) {
                ([], _) => format!("A storage of type {kind} has no {clause}"),
                (_, true) => format!("'{unknown}' is a secret: put it into CREDENTIALS, which nobody is shown"),
                _ => format!(
                    "Unknown key '{unknown}' in {clause} of a storage of type {kind}; keys are {}",
                    known.join(", ")
                ),
            };
            return Err(Error::InvalidInput(message));
        }
    }
    for switch in ["skip_signature", "virtual_hosted_style"] {
        flag(meta, switch)?;
    }
    if let Some(endpoint) = meta.config.get("endpoint") {
        let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
        if host.is_none_or(|host| host.is_empty() || host.contains(['@', '?', '#', ' '])) {
            let message = "CONFIG endpoint is http://host:port or https://host:port, without user and password";
            return Err(Error::InvalidInput(message.to_owned()));
        }
    }
    let needs = |all: &[&str]| all.iter().any(|name| has(meta, name)) && !all.iter().all(|name| has(meta, name));
    let missing = match meta.kind {
        StorageKind::S3 if needs(&["access_key_id", "secret_access_key"]) => "access_key_id and secret_access_key",
        StorageKind::Gcs if !meta.credentials.is_empty() && !gcs_key(meta) => {
            "client_email, private_key and private_key_id: a service account's key file"
        }
        StorageKind::Azure if needs(&["tenant_id", "client_id", "client_secret"]) => {
            "tenant_id, client_id and client_secret"
        }
        StorageKind::Azure if !meta.config.contains_key("account") => {
            return Err(Error::InvalidInput(
                "A storage of type azure needs its account: CONFIG '{\"account\":\"…\"}'".to_owned(),
            ));
        }
        _ => return Ok(()),
    };
    Err(Error::InvalidInput(format!("CREDENTIALS of a storage of type {} need {missing}", meta.kind.as_str())))
}

fn has(meta: &StorageMeta, name: &str) -> bool {
    meta.credentials.expose(name).is_some()
}

fn gcs_key(meta: &StorageMeta) -> bool {
    ["client_email", "private_key", "private_key_id"].iter().all(|name| has(meta, name))
}

fn flag(meta: &StorageMeta, name: &str) -> Result<bool> {
    match meta.config.get(name).map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Error::InvalidInput(format!("CONFIG {name} is true or false"))),
    }
}

/// Which server has the bucket: buckets of one name on two are two.
pub(super) fn server(meta: &StorageMeta) -> (Option<&String>, Option<&String>) {
    (meta.config.get("endpoint"), meta.config.get("account"))
}

/// Makes clients.
pub(super) struct Remote {
    timeouts: RemoteTimeouts,
    io: Io,
}

/// One [`RemoteIo`] for all clients.
#[derive(Debug, Clone)]
struct Io(Arc<RemoteIo>);

impl HttpConnector for Io {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        self.0.connect(options)
    }
}

impl Remote {
    pub(super) fn new(timeouts: RemoteTimeouts, io: RemoteIo) -> Self {
        Self { timeouts, io: Io(Arc::new(io)) }
    }

    /// A client of the storage's bucket; nothing is asked of it yet.
    ///
    /// # Errors
    /// `INVALID_INPUT`, `COLD_STORAGE_UNAVAILABLE`.
    pub(super) fn open(&self, meta: &StorageMeta) -> Result<Arc<dyn ObjectStore>> {
        let place = meta.base.split_once("://").map_or(meta.base.as_str(), |(_, place)| place);
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let prefix = ObjectPath::parse(prefix).map_err(|e| refused(meta, &e))?;
        match meta.kind {
            StorageKind::Filesystem => Err(Error::internal("a folder is no bucket")),
            StorageKind::S3 => Ok(masked(meta, self.s3(meta, bucket)?, prefix)),
            StorageKind::Gcs => Ok(masked(meta, self.gcs(meta, bucket)?, prefix)),
            StorageKind::Azure => Ok(masked(meta, self.azure(meta, bucket)?, prefix)),
        }
    }

    fn s3(&self, meta: &StorageMeta, bucket: &str) -> Result<object_store::aws::AmazonS3> {
        let mut builder = AmazonS3Builder::new()
            .with_client_options(self.client(meta))
            .with_http_connector(self.io.clone())
            .with_retry(self.retry())
            .with_bucket_name(bucket)
            .with_skip_signature(flag(meta, "skip_signature")?)
            .with_virtual_hosted_style_request(flag(meta, "virtual_hosted_style")?);
        if let Some(endpoint) = meta.config.get("endpoint") {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(region) = meta.config.get("region") {
            builder = builder.with_region(region);
        }
        if let Some(id) = meta.credentials.expose("access_key_id") {
            builder = builder.with_access_key_id(id);
        }
        if let Some(key) = meta.credentials.expose("secret_access_key") {
            builder = builder.with_secret_access_key(key);
        }
        if let Some(token) = meta.credentials.expose("session_token") {
            builder = builder.with_token(token);
        }
        builder.build().map_err(|e| refused(meta, &e))
    }

    fn gcs(&self, meta: &StorageMeta, bucket: &str) -> Result<object_store::gcp::GoogleCloudStorage> {
        let mut builder = GoogleCloudStorageBuilder::new()
            .with_client_options(self.client(meta))
            .with_http_connector(self.io.clone())
            .with_retry(self.retry())
            .with_bucket_name(bucket)
            .with_skip_signature(flag(meta, "skip_signature")?);
        if let Some(endpoint) = meta.config.get("endpoint") {
            builder = builder.with_base_url(endpoint);
        }
        if gcs_key(meta) {
            let part = |name: &str| meta.credentials.expose(name).unwrap_or_default();
            let key = serde_json::json!({
                "client_email": part("client_email"),
                "private_key": part("private_key"),
                "private_key_id": part("private_key_id"),
            });
            builder = builder.with_service_account_key(key.to_string());
        }
        builder.build().map_err(|e| refused(meta, &e))
    }

    fn azure(&self, meta: &StorageMeta, container: &str) -> Result<object_store::azure::MicrosoftAzure> {
        let account = meta.config.get("account").map(String::as_str).unwrap_or_default();
        let mut builder = MicrosoftAzureBuilder::new()
            .with_client_options(self.client(meta))
            .with_http_connector(self.io.clone())
            .with_retry(self.retry())
            .with_account(account)
            .with_container_name(container)
            .with_skip_signature(flag(meta, "skip_signature")?);
        if let Some(endpoint) = meta.config.get("endpoint") {
            builder = builder.with_endpoint(endpoint.clone());
        }
        for (name, key) in [
            ("account_key", AzureConfigKey::AccessKey),
            ("sas_token", AzureConfigKey::SasKey),
            ("tenant_id", AzureConfigKey::AuthorityId),
            ("client_id", AzureConfigKey::ClientId),
            ("client_secret", AzureConfigKey::ClientSecret),
        ] {
            if let Some(secret) = meta.credentials.expose(name) {
                builder = builder.with_config(key, secret);
            }
        }
        builder.build().map_err(|e| refused(meta, &e))
    }

    /// A plain `http://` endpoint says itself that it is to be without TLS.
    fn client(&self, meta: &StorageMeta) -> ClientOptions {
        let plain = meta.config.get("endpoint").is_some_and(|endpoint| endpoint.starts_with("http://"));
        ClientOptions::new()
            .with_allow_http(plain)
            .with_connect_timeout(self.timeouts.connect_timeout)
            .with_timeout(self.timeouts.request_timeout)
    }

    fn retry(&self) -> RetryConfig {
        RetryConfig {
            backoff: BackoffConfig { max_backoff: BACKOFF_MAX, ..BackoffConfig::default() },
            max_retries: RETRIES,
            retry_timeout: self.timeouts.request_timeout,
        }
    }
}

fn masked(meta: &StorageMeta, store: impl ObjectStore, prefix: ObjectPath) -> Arc<dyn ObjectStore> {
    let mask = Mask::of(&meta.credentials);
    if prefix.as_ref().is_empty() {
        return Arc::new(Masked::new(store, mask));
    }
    Arc::new(Masked::new(PrefixStore::new(store, prefix), mask))
}
