//! Settings of TLS: where the certificate and its key are.

use serde::{Deserialize, Serialize};

use super::units::optional_text;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    #[serde(with = "optional_text")]
    pub certificate_file: Option<String>,
    #[serde(with = "optional_text")]
    pub key_file: Option<String>,
}
