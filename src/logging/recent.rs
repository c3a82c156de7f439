//! The last lines of the log, in memory: what `system.server_logs` shows.
//!
//! Owns their bound. Holds what was written to the log and nothing else, so whatever must not be logged is not here.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines that are remembered.
const LINES: usize = 1_000;
/// Of one of them; the rest is cut off.
const MESSAGE_MAX: usize = 4 << 10;

/// A line of the log.
#[derive(Debug, Clone)]
pub struct LogLine {
    /// Microseconds since the Unix epoch.
    pub at_us: i64,
    pub level: &'static str,
    pub thread: Option<String>,
    pub target: String,
    pub line: Option<u32>,
    /// With its fields.
    pub message: String,
}

/// The last lines. Cheap to clone: all clones are the same.
#[derive(Debug, Clone, Default)]
pub struct RecentLog {
    lines: Arc<Mutex<VecDeque<LogLine>>>,
}

impl RecentLog {
    /// The oldest first.
    pub fn lines(&self) -> Vec<LogLine> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn push(&self, line: LogLine) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() >= LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}

/// Hands each event to a [`RecentLog`].
pub(super) struct Remember<C> {
    pub log: RecentLog,
    pub now_us: C,
}

impl<S: Subscriber, C: Fn() -> i64 + 'static> Layer<S> for Remember<C> {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let mut end = text.0.len().min(MESSAGE_MAX);
        while !text.0.is_char_boundary(end) {
            end -= 1;
        }
        text.0.truncate(end);
        let about = event.metadata();
        self.log.push(LogLine {
            at_us: (self.now_us)(),
            level: about.level().as_str(),
            thread: std::thread::current().name().map(str::to_owned),
            target: about.target().to_owned(),
            line: about.line(),
            message: text.0,
        });
    }
}

/// The message, then `name=value` of each field.
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a String does not fail.
        let _ = match field.name() {
            "message" => {
                let rest = std::mem::take(&mut self.0);
                write!(self.0, "{value:?}{rest}")
            }
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn the_last_lines_are_remembered_and_no_more() {
        let log = RecentLog::default();
        let subscriber = tracing_subscriber::registry().with(Remember { log: log.clone(), now_us: || 7 });
        tracing::subscriber::with_default(subscriber, || {
            for n in 0..LINES + 5 {
                tracing::warn!(n, name = "x", "line");
            }
            tracing::info!("{}", "ä".repeat(MESSAGE_MAX));
        });
        let lines = log.lines();
        assert_eq!(lines.len(), LINES);
        assert_eq!((lines[0].message.as_str(), lines[0].level, lines[0].at_us), ("line n=6 name=\"x\"", "WARN", 7));
        assert_eq!(lines[LINES - 1].message.len(), MESSAGE_MAX);
    }
}
