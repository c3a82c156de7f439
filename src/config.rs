//! The configuration: every knob, its default, and where a value may come from.
//!
//! Owns the sections, the table of keys ([`keys::KEYS`]), the layers (defaults, file, environment, flags) and the
//! checks. `config/default.toml` is generated from [`Config::default`]; a test keeps the two equal.
//! Never reads the environment or the command line itself: [`Sources`] brings them.
//! Start at [`Config::load`].

pub mod audit;
pub mod auth;
pub mod ip_range;
pub mod jobs;
pub mod keys;
pub mod load;
mod secret_files;
pub mod sections;
pub mod streams;
pub mod tls;
pub mod topics;
pub mod units;
mod validate;
pub mod websocket;

use serde::{Deserialize, Serialize};

pub use audit::AuditConfig;
pub use auth::{Argon2Config, AuthConfig};
pub use ip_range::IpRange;
pub use jobs::{ExportsConfig, FlushConfig, JobsConfig, RetentionConfig, UserManagementConfig};
pub use load::{ConfigFaults, Fault, Flag, Sources};
pub use sections::{
    CorsConfig, DataFusionConfig, DurabilityConfig, LimitsConfig, LogFormat, LoggingConfig, RemoteTimeouts,
    SecurityConfig, ServerConfig, StorageConfig,
};
pub use streams::StreamsConfig;
pub use tls::TlsConfig;
pub use topics::TopicsConfig;
pub use units::Secret;
pub use websocket::WebSocketConfig;

/// Every setting of a server. Unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub server: ServerConfig,
    pub tls: TlsConfig,
    pub storage: StorageConfig,
    pub durability: DurabilityConfig,
    pub limits: LimitsConfig,
    pub auth: AuthConfig,
    pub security: SecurityConfig,
    pub websocket: WebSocketConfig,
    pub datafusion: DataFusionConfig,
    pub flush: FlushConfig,
    pub retention: RetentionConfig,
    pub topics: TopicsConfig,
    pub streams: StreamsConfig,
    pub jobs: JobsConfig,
    pub exports: ExportsConfig,
    pub audit: AuditConfig,
    pub user_management: UserManagementConfig,
    pub logging: LoggingConfig,
}
