//! The sections of the configuration, each with its defaults.
//!
//! Owns the shape only: what each key means stands in [`super::keys::KEYS`], what is allowed in `validate.rs`.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::ip_range::IpRange;
use super::units::{duration, optional_text, size};
use crate::model::Durability;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    pub host: String,
    pub port: u16,
    pub workers: usize,
    pub enable_http2: bool,
    #[serde(with = "optional_text")]
    pub public_origin: Option<String>,
    pub max_connections: usize,
    pub backlog: u32,
    #[serde(with = "duration")]
    pub keep_alive: Duration,
    #[serde(with = "duration")]
    pub peer_timeout: Duration,
    #[serde(with = "duration")]
    pub client_request_timeout: Duration,
    #[serde(with = "duration")]
    pub client_body_timeout: Duration,
    #[serde(with = "duration")]
    pub shutdown_timeout: Duration,
    #[serde(with = "size")]
    pub request_body_limit: ByteSize,
    pub enable_connection_protection: bool,
    pub max_requests_per_ip_per_sec: u32,
    pub max_connections_per_ip: u32,
    #[serde(with = "duration")]
    pub ban_duration: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 8080,
            workers: 0,
            enable_http2: true,
            public_origin: None,
            max_connections: 25_000,
            backlog: 4_096,
            keep_alive: Duration::from_secs(75),
            peer_timeout: Duration::from_secs(60),
            client_request_timeout: Duration::from_secs(5),
            client_body_timeout: Duration::from_secs(60),
            shutdown_timeout: Duration::from_secs(30),
            request_body_limit: ByteSize::mib(10),
            enable_connection_protection: true,
            max_requests_per_ip_per_sec: 200,
            max_connections_per_ip: 100,
            ban_duration: Duration::from_secs(300),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    pub data_path: PathBuf,
    #[serde(with = "size")]
    pub cache_size: ByteSize,
    pub node_id: u16,
    pub remote_timeouts: RemoteTimeouts,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            data_path: PathBuf::from("./data"),
            cache_size: ByteSize::mib(64),
            node_id: 1,
            remote_timeouts: RemoteTimeouts::default(),
        }
    }
}

/// Of storages that are reached over the network.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemoteTimeouts {
    #[serde(with = "duration")]
    pub request_timeout: Duration,
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
}

impl Default for RemoteTimeouts {
    fn default() -> Self {
        Self { request_timeout: Duration::from_secs(60), connect_timeout: Duration::from_secs(10) }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DurabilityConfig {
    pub default: Durability,
    #[serde(with = "duration")]
    pub buffered_sync_interval: Duration,
}

impl Default for DurabilityConfig {
    fn default() -> Self {
        Self { default: Durability::Sync, buffered_sync_interval: Duration::from_millis(50) }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    pub default_query_limit: u64,
    pub max_query_limit: u64,
    #[serde(with = "size")]
    pub max_result_bytes: ByteSize,
    #[serde(with = "size")]
    pub max_sql_bytes: ByteSize,
    pub max_statements: usize,
    pub max_nesting: usize,
    pub max_operators: usize,
    pub max_tables: usize,
    #[serde(with = "size")]
    pub max_pattern_bytes: ByteSize,
    pub max_parameters: usize,
    #[serde(with = "size")]
    pub max_parameter_bytes: ByteSize,
    #[serde(with = "duration")]
    pub statement_timeout: Duration,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            default_query_limit: 0,
            max_query_limit: 0,
            max_result_bytes: ByteSize::mib(64),
            max_sql_bytes: ByteSize::mib(1),
            max_statements: 1_000,
            max_nesting: 50,
            max_operators: 300,
            max_tables: 64,
            max_pattern_bytes: ByteSize::kib(4),
            max_parameters: 50,
            max_parameter_bytes: ByteSize::kib(512),
            statement_timeout: Duration::from_secs(30),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecurityConfig {
    pub trusted_proxy_ranges: Vec<IpRange>,
    pub strict_ws_origin_check: bool,
    pub cors: CorsConfig,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CorsConfig {
    pub allowed_origins: Vec<String>,
    pub allowed_methods: Vec<String>,
    pub allowed_headers: Vec<String>,
    pub expose_headers: Vec<String>,
    pub allow_credentials: bool,
    #[serde(with = "duration")]
    pub max_age: Duration,
}

impl Default for CorsConfig {
    fn default() -> Self {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            allowed_origins: Vec::new(),
            allowed_methods: list(&["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]),
            allowed_headers: list(&[
                "Authorization",
                "Content-Type",
                "Accept",
                "Origin",
                "X-Requested-With",
                "X-Request-ID",
                "If-None-Match",
                "Last-Event-ID",
                "Stream-TTL",
                "Stream-Expires-At",
                "Stream-Closed",
                "Stream-Seq",
                "Stream-Expected-Offset",
                "Stream-Forked-From",
                "Stream-Fork-Offset",
                "Stream-Fork-Sub-Offset",
                "Producer-Id",
                "Producer-Epoch",
                "Producer-Seq",
            ]),
            expose_headers: list(&[
                "ETag",
                "Location",
                "Retry-After",
                "X-Request-ID",
                "Stream-Next-Offset",
                "Stream-Cursor",
                "Stream-Up-To-Date",
                "Stream-Closed",
                "Stream-TTL",
                "Stream-Expires-At",
                "Stream-SSE-Data-Encoding",
                "Producer-Epoch",
                "Producer-Seq",
                "Producer-Expected-Seq",
                "Producer-Received-Seq",
            ]),
            allow_credentials: false,
            max_age: Duration::from_secs(3_600),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataFusionConfig {
    #[serde(with = "size")]
    pub memory_limit: ByteSize,
    #[serde(with = "size")]
    pub query_memory_limit: ByteSize,
    pub threads: usize,
    pub rows_per_thread: u64,
    pub plan_cache_entries: u64,
}

impl Default for DataFusionConfig {
    fn default() -> Self {
        Self {
            memory_limit: ByteSize::mib(256),
            query_memory_limit: ByteSize::mib(128),
            threads: 0,
            rows_per_thread: 65_536,
            plan_cache_entries: 200,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Compact,
    Json,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoggingConfig {
    pub level: String,
    pub format: LogFormat,
    #[serde(with = "duration")]
    pub slow_query_threshold: Duration,
}

impl Default for LoggingConfig {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Compact,
            slow_query_threshold: Duration::from_millis(1_200),
        }
    }
}
