//! Log lines: for people, or one JSON object a line; always on stderr, since stdout is for what was asked for.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogFormat, LoggingConfig};

/// Crates that log every step of theirs at `info`: a plain level does not count for them.
const QUIET: &str = "actix_server=warn,actix_http=warn,fjall=warn,lsm_tree=warn,h2=warn,mio=warn,datafusion=warn,\
    object_store=warn,reqwest=warn,hyper_util=warn,rustls=warn";

/// Starts logging. The first call of a process wins; tests start several servers in one.
pub fn start(config: &LoggingConfig) {
    let is_plain = config.level.parse::<tracing::level_filters::LevelFilter>().is_ok();
    let directives = if is_plain { format!("{},{QUIET}", config.level) } else { config.level.clone() };
    let builder = tracing_subscriber::fmt().with_env_filter(EnvFilter::new(directives)).with_writer(io::stderr);
    let started = match config.format {
        LogFormat::Compact => builder.with_ansi(io::stderr().is_terminal()).compact().finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
}
