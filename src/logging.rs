//! Log lines: for people, or one JSON object a line; always on stderr, since stdout is for what was asked for. The last
//! ones are remembered, too ([`recent`]).

mod recent;

use std::io::{self, IsTerminal as _};

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

use crate::config::{LogFormat, LoggingConfig};
pub use recent::{LogLine, RecentLog};

/// Crates that log every step of theirs at `info`: a plain level does not count for them.
const QUIET: &str = "actix_server=warn,actix_http=warn,fjall=warn,lsm_tree=warn,h2=warn,mio=warn,datafusion=warn,\
    object_store=warn,reqwest=warn,hyper_util=warn,rustls=warn";

/// Starts logging, and answers where the last lines are. The first call of a process wins; tests start several servers in
/// one.
pub fn start(config: &LoggingConfig, now_us: impl Fn() -> i64 + Send + Sync + 'static) -> RecentLog {
    let is_plain = config.level.parse::<tracing::level_filters::LevelFilter>().is_ok();
    let directives = if is_plain { format!("{},{QUIET}", config.level) } else { config.level.clone() };
    let lines = match config.format {
        LogFormat::Compact => {
            fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal()).compact().boxed()
        }
        LogFormat::Json => fmt::layer().with_writer(io::stderr).json().flatten_event(true).boxed(),
    };
    let log = RecentLog::default();
    let started = tracing_subscriber::registry()
        .with(EnvFilter::new(directives))
        .with(lines)
        .with(recent::Remember { log: log.clone(), now_us })
        .try_init();
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
    log
}
