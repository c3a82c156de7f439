//! The table of keys: what each means and what is allowed; and the two texts made of it.
//!
//! Owns the order and the comments of `config/default.toml`. A test holds table, file and structs equal.

use std::fmt::Write as _;

use super::Config;

/// A key as people know it.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// `section.key`, with the sub-section before the key where there is one.
    pub path: &'static str,
    /// A sentence or two: what it does.
    pub about: &'static str,
    /// Which values it takes.
    pub allowed: &'static str,
    /// Shown as `***` where the configuration is printed.
    pub secret: bool,
}

const fn key(path: &'static str, about: &'static str, allowed: &'static str) -> Key {
    Key { path, about, allowed, secret: false }
}

const fn secret(path: &'static str, about: &'static str, allowed: &'static str) -> Key {
    Key { path, about, allowed, secret: true }
}

const DURATION: &str = "a duration, like 50ms, 30s or 5m";
const SIZE: &str = "a size, like 512 KiB or 64 MiB";
const SWITCH: &str = "true or false";
const COUNT: &str = "a whole number from 1";
const COUNT_OR_ZERO: &str = "a whole number; 0 = as the comment says";
const TEXTS: &str = "a list of texts, like [\"a\", \"b\"]";

/// Every key of [`Config`], in the order of the file.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("server.host", "Address to listen on. Anything but loopback also needs auth.jwt_secret.", "an IP address or a host name"),
    key("server.port", "TCP port to listen on. 0 takes any free one.", "a port number, 0 to 65535"),
    key("server.workers", "HTTP worker threads. 0: one for two cores.", "0 to 1024"),
    key("server.enable_http2", "Also accept HTTP/2 in clear text (h2c) on the same port.", SWITCH),
    key("server.public_origin", "The origin that clients use, when a proxy hides it. Empty: taken from each request.", "\"\" or an origin, like https://db.example.org"),
    key("server.max_connections", "Connections open at one time, all workers together; more wait in the backlog.", COUNT),
    key("server.backlog", "Connections that may wait to be accepted.", "1 to 65535"),
    key("server.keep_alive", "How long an idle connection is kept open.", DURATION),
    key("server.peer_timeout", "How long a peer may take nothing of what is sent to it, or be out of reach, before its connection is given up.", DURATION),
    key("server.client_request_timeout", "How long a client may take to send a request's head.", DURATION),
    key("server.client_body_timeout", "How long a client may take to send a request's body; then it is answered 408.", DURATION),
    key("server.shutdown_timeout", "How long requests under way may take to finish when the server stops.", DURATION),
    key("server.request_body_limit", "Larger request bodies are refused with 413.", SIZE),
    key("server.enable_connection_protection", "Limits per client address (the three keys below). Loopback is exempt.", SWITCH),
    key("server.max_requests_per_ip_per_sec", "Requests a second from one address; more are refused with 429.", COUNT),
    key("server.max_connections_per_ip", "Connections from one address; more are refused with 503.", COUNT),
    key("server.ban_duration", "How long an address that keeps breaking the limits is refused. Grows with repetition.", DURATION),

    key("tls.certificate_file", "Certificate chain (PEM): with it, the server speaks TLS only. Read again at SIGHUP.", "\"\" or a path"),
    key("tls.key_file", "The certificate's private key (PEM).", "\"\" or a path"),

    key("storage.data_path", "Folder of the database. One server at a time.", "a path"),
    key("storage.cache_size", "Memory for blocks of the hot store, and as much again for what is read of cold files.", SIZE),
    key("storage.node_id", "This server's number, part of every _seq it gives.", "0 to 1023"),

    key("storage.remote_timeouts.request_timeout", "How long a storage in a bucket (S3, GCS, Azure) may take to answer a request; after that, it is not tried again.", DURATION),
    key("storage.remote_timeouts.connect_timeout", "How long a connection to it may take to come about.", DURATION),

    key("durability.default", "When a write is acknowledged. sync: after fdatasync, it survives power loss. buffered: after the journal write, it survives the death of the process. A table or a request may choose for itself.", "\"sync\" or \"buffered\""),
    key("durability.buffered_sync_interval", "How often buffered writes are synced to disk: the most that power loss can take.", DURATION),

    key("limits.default_query_limit", "LIMIT of a SELECT that has none. 0: none, all rows are streamed.", COUNT_OR_ZERO),
    key("limits.max_query_limit", "The largest LIMIT. 0: no such limit.", COUNT_OR_ZERO),
    key("limits.max_result_bytes", "A larger result ends in RESULT_TOO_LARGE.", SIZE),
    key("limits.max_sql_bytes", "Longest SQL text of a request.", SIZE),
    key("limits.max_statements", "Most statements of a request.", "1 to 1000"),
    key("limits.max_nesting", "How deep brackets and sub-queries may nest.", "1 to 50"),
    key("limits.max_operators", "Operators in a row, as in a AND b AND c: each makes a statement one deeper.", "1 to 300"),
    key("limits.max_tables", "Tables and sub-queries that one query reads.", "1 to 1000"),
    key("limits.max_pattern_bytes", "Longest pattern of LIKE, SIMILAR TO, ~ and regexp functions.", SIZE),
    key("limits.max_parameters", "Most parameters of a request.", COUNT),
    key("limits.max_parameter_bytes", "Largest parameter.", SIZE),
    key("limits.statement_timeout", "A statement that runs longer is stopped.", DURATION),

    secret("auth.jwt_secret", "Signs access tokens. Empty: one is made and kept in the data folder, on loopback only.", "\"\" or at least 32 bytes"),
    key("auth.jwt_secret_file", "A file with the secret, in place of jwt_secret.", "\"\" or a path"),
    key("auth.jwt_expiry", "Life of an access token; a refresh token lives seven times as long.", DURATION),
    secret("auth.root_password", "Given to the user root at a start where it has no password yet. Empty: set it through the set-up call.", "\"\" or a password"),
    key("auth.root_password_file", "A file with the password, in place of root_password.", "\"\" or a path"),
    key("auth.cookie_secure", "Mark cookies Secure on https requests.", SWITCH),
    key("auth.min_password_length", "Shortest password.", "1 to 72"),
    key("auth.allow_remote_setup", "Let other machines than this one do the first-run set-up.", SWITCH),
    key("auth.login_rate_per_ip", "Log-ins, refreshes and Basic checks a second from one address.", COUNT),
    key("auth.query_rate_per_user", "SQL requests a second of one user; more are refused with 429.", COUNT),
    key("auth.lockout_attempts", "Wrong passwords in a row that lock an account.", COUNT),
    key("auth.lockout_duration", "How long an account stays locked.", DURATION),
    key("auth.argon2.memory", "Memory that checking one password takes.", "a size from 8 KiB, like 19 MiB"),
    key("auth.argon2.iterations", "Passes that checking one password takes.", COUNT),
    key("auth.argon2.parallelism", "Lanes of one check; each needs 8 KiB of the memory.", COUNT),

    key("security.trusted_proxy_ranges", "Peers whose X-Forwarded-For is believed, beside loopback.", "a list of addresses or ranges, like [\"10.0.0.0/8\"]"),
    key("security.strict_ws_origin_check", "Refuse WebSocket connections without an Origin when allowed_origins is set.", SWITCH),
    key("security.cors.allowed_origins", "Origins of web pages that may call. Empty or \"*\": any.", TEXTS),
    key("security.cors.allowed_methods", "Methods such pages may use.", TEXTS),
    key("security.cors.allowed_headers", "Headers such pages may send.", TEXTS),
    key("security.cors.expose_headers", "Headers such pages may read.", TEXTS),
    key("security.cors.allow_credentials", "Let such pages send cookies. Needs allowed_origins.", SWITCH),
    key("security.cors.max_age", "How long a browser may remember the answer to a preflight.", DURATION),

    key("websocket.auth_timeout", "How long a socket may stay without authentication.", DURATION),
    key("websocket.client_timeout", "A peer that is silent for longer is closed.", DURATION),
    key("websocket.heartbeat_interval", "How often silent peers are pinged and looked for.", DURATION),
    key("websocket.max_message_size", "Largest message of a client.", SIZE),
    key("websocket.max_messages_per_sec", "Messages a second of one connection.", COUNT),
    key("websocket.max_subscriptions_per_user", "Live queries of one user.", COUNT),
    key("websocket.max_subscriptions_per_connection", "Live queries of one connection.", COUNT),
    key("websocket.outbox_bytes", "What may wait for a slow subscriber before it is closed with SLOW_CONSUMER.", SIZE),
    key("websocket.outbox_bytes_total", "What may wait for all subscribers together. Beyond, the one for which most waits is closed with SLOW_CONSUMER.", SIZE),
    key("websocket.max_concurrent_opens", "Subscriptions being opened at a time, over all sockets: the others wait for their turn.", COUNT),
    key("websocket.max_waiting_opens", "Subscriptions that may wait for it. Beyond, they are answered SUBSCRIBE_BUSY with a time to come back.", COUNT),
    key("websocket.max_cursors_per_user", "Durable cursors (groups) of one user.", COUNT),
    key("websocket.cursor_idle", "A cursor that nobody has read with for so long is removed.", DURATION),

    key("datafusion.memory_limit", "Memory of all running queries together.", SIZE),
    key("datafusion.query_memory_limit", "Memory of one query; beyond, it ends in OUT_OF_MEMORY.", SIZE),
    key("datafusion.threads", "Threads of the query engine. 0: one per core.", "0 to 1024"),
    key(
        "datafusion.rows_per_thread",
        "Cold rows that are worth a further thread to a query that aggregates them, or asks for its top rows.",
        COUNT,
    ),
    key("datafusion.plan_cache_entries", "Plans that are kept for queries that come again; any DDL drops them. 0: none.", COUNT_OR_ZERO),

    key("flush.default_row_limit", "Hot rows of a partition at which it is flushed into a segment, unless its table's FLUSH_POLICY says otherwise.", COUNT),
    key("flush.default_byte_limit", "The same by their size.", SIZE),
    key("flush.default_time_interval", "The same by the age of the oldest of them, if there are minimum_rows or 4 MiB.", DURATION),
    key("flush.minimum_rows", "Fewer rows are not worth a file for their age alone.", COUNT),
    key("flush.max_hot", "Hot rows of all tables together; beyond it the largest partitions are flushed, due or not. They take disk, memory for their filters and indexes, and time at a start.", SIZE),
    key("flush.min_free_disk", "Free bytes of the data folder's disk; where there are less, the largest partitions are flushed, which makes them smaller.", SIZE),
    key("flush.check_interval", "How often is looked for what is due.", DURATION),

    key("retention.default_deleted_retention_hours", "How long what was deleted can be told to whoever resumes from a position before, in hours, unless the table's DELETED_RETENTION_HOURS says otherwise. 0: not at all.", "0 to 876600"),
    key("retention.check_interval", "How often is looked for deleted rows that are older.", DURATION),
    key("retention.enable_dba_stats", "Keep figures of this server over time in the table dba.stats.", SWITCH),
    key("retention.dba_stats_interval", "How often they are sampled.", DURATION),
    key("retention.dba_stats_retention", "How long samples stay.", DURATION),

    key("topics.visibility_timeout", "How long a delivered message is hidden from its group before it is delivered again, unless its topic says otherwise.", DURATION),
    key("topics.default_retention", "How long entries of a topic stay, unless its RETENTION_SECONDS says otherwise.", DURATION),
    key("topics.default_retention_bytes", "How much of a topic stays, all its partitions together, unless its RETENTION_MAX_BYTES says otherwise.", SIZE),
    key("topics.check_interval", "How often is looked for entries that are older, or more.", DURATION),
    key("topics.max_waiters", "Consumers that wait for messages at one time; more are refused with BUSY.", COUNT),
    key("topics.max_groups", "Groups of one topic.", COUNT),
    key("topics.max_in_flight", "Messages that a group may hold unacknowledged in one partition; then it gets no new ones.", COUNT),
    key("topics.max_batch", "Messages of one answer.", COUNT),
    key("topics.max_batch_bytes", "Their payloads; one message is answered whatever it takes.", SIZE),

    key("streams.max_rows_per_owner", "Rows of one user in one STREAM table; with more, the oldest give way. 0: no bound but their TTL.", COUNT_OR_ZERO),
    key("streams.max_bytes_per_owner", "The same by their size.", SIZE),
    key("streams.long_poll_timeout", "How long a reader of a stream waits for what comes next (live=long-poll).", DURATION),
    key("streams.sse_lifetime", "After how long a stream's events end, and their reader comes back (live=sse).", DURATION),

    key("jobs.max_concurrent", "Background jobs that run at one time.", COUNT),
    key("jobs.max_queued", "Jobs that may wait for their turn; more are refused with BUSY.", COUNT),
    key("jobs.max_retries", "Further tries of a job that failed, or that a stop of the server cut off.", "0 to 1000"),
    key("jobs.retry_backoff", "Pause before the first of them; it doubles each time, up to five minutes.", DURATION),
    key("jobs.history_retention", "How long system.jobs shows a job that has finished.", DURATION),
    key("jobs.history_entries", "Finished jobs that system.jobs shows at most.", COUNT),
    key("jobs.shutdown_timeout", "How long running jobs may take to finish when the server stops; then they are cancelled, and go on at the next start if they may.", DURATION),

    key("exports.retention", "How long the file of EXPORT USER DATA can be fetched; then it is removed.", DURATION),

    key("audit.retention", "How long system.audit_log keeps an entry.", DURATION),
    key("audit.max_entries", "Entries that it keeps at most; the oldest go.", "1 to 10000000"),

    key("user_management.deletion_grace_period", "How long the mailbox of a dropped user is kept, invisible, for ALTER USER … RESTORE. 0s: erased at once. A CREATE USER of the name erases it at once, too.", DURATION),

    key("logging.level", "What is logged: a level, or a filter by module.", "error, warn, info, debug, trace, or a filter like info,inboxdb::sql=debug"),
    key("logging.format", "compact: for people. json: one object a line.", "\"compact\" or \"json\""),
    key("logging.slow_query_threshold", "Statements that take so long, from their start to their last row, are logged at warn, without their literals. 0s: none.", DURATION),
];

const FILE_HEAD: &str = "\
# InboxDB's configuration: every key with its default. Made by `inboxdb config --default`; do not edit this copy.
#
# A server reads the file of --config (or ./inboxdb.toml, where there is one), then the environment
# (INBOXDB_SERVER__PORT=9000), then the flags (--port 9000, --set server.port=9000); the last one wins.
# Durations and sizes are text: \"30s\", \"64 MiB\". Unknown keys are refused.
";

/// The key with this path.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Is `path` a section, or a section's section?
pub(crate) fn is_section(path: &str) -> bool {
    KEYS.iter().any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// `config/default.toml`: the defaults with a comment for every key.
pub fn default_file() -> String {
    let mut text = FILE_HEAD.to_owned();
    render(&Config::default(), &mut text, |key, value, out| {
        out.push('\n');
        for line in wrap(&format!("{} ({})", key.about, key.allowed)) {
            let _ = writeln!(out, "# {line}");
        }
        let _ = writeln!(out, "{} = {value}", last_segment(key.path));
    });
    text
}

/// The values in effect, secrets hidden, without comments.
pub fn effective(config: &Config) -> String {
    let mut text = String::new();
    render(config, &mut text, |key, value, out| {
        let hidden = key.secret && value.as_str().is_some_and(|text| !text.is_empty());
        let shown = if hidden { "\"***\"".to_owned() } else { value.to_string() };
        let _ = writeln!(out, "{} = {shown}", last_segment(key.path));
    });
    text.trim_start().to_owned()
}

/// Each key with its value in effect as text, secrets hidden.
pub fn in_effect(config: &Config) -> Vec<(&'static Key, String)> {
    let tree = tree(config);
    let shown = |key: &'static Key| {
        let value = lookup(&tree, key.path)?;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Some((key, if key.secret && !text.is_empty() { "***".to_owned() } else { text }))
    };
    KEYS.iter().filter_map(shown).collect()
}

fn render(config: &Config, out: &mut String, write: impl Fn(&Key, &toml::Value, &mut String)) {
    let tree = tree(config);
    let mut section = "";
    for key in KEYS {
        let this = key.path.rsplit_once('.').map_or("", |(section, _)| section);
        if this != section {
            let _ = writeln!(out, "\n[{this}]");
            section = this;
        }
        if let Some(value) = lookup(&tree, key.path) {
            write(key, value, out);
        }
    }
}

/// The configuration as a tree of TOML values.
pub(crate) fn tree(config: &Config) -> toml::Table {
    // Every section is a table of plain values, which TOML can always hold; a test goes over all keys.
    toml::Table::try_from(config).unwrap_or_default()
}

pub(crate) fn lookup<'a>(tree: &'a toml::Table, path: &str) -> Option<&'a toml::Value> {
    match path.split_once('.') {
        Some((section, rest)) => lookup(tree.get(section)?.as_table()?, rest),
        None => tree.get(path),
    }
}

pub(crate) fn last_segment(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(_, last)| last)
}

const COMMENT_WIDTH: usize = 110;

fn wrap(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last().map_or(0, String::len);
        if last > 0 && last + 1 + word.len() > COMMENT_WIDTH {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(prefix: &str, table: &toml::Table, out: &mut Vec<String>) {
        for (name, value) in table {
            let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            match value {
                toml::Value::Table(inner) => leaves(&path, inner, out),
                _ => out.push(path),
            }
        }
    }

    #[test]
    fn the_table_has_every_key_and_no_other() {
        let mut of_structs = Vec::new();
        leaves("", &tree(&Config::default()), &mut of_structs);
        let mut of_table: Vec<String> = KEYS.iter().map(|key| key.path.to_owned()).collect();
        of_structs.sort();
        of_table.sort();
        assert_eq!(of_structs, of_table);
    }

    #[test]
    fn the_default_file_is_the_defaults() {
        let on_disk = include_str!("../../config/default.toml");
        assert_eq!(on_disk, default_file(), "run: cargo run -- config --default > config/default.toml");
        assert_eq!(toml::from_str::<Config>(on_disk).unwrap(), Config::default());
    }

    #[test]
    fn secrets_are_hidden_where_the_configuration_is_printed() {
        let mut config = Config::default();
        config.auth.jwt_secret = Some(crate::config::Secret::new("a-secret-of-more-than-thirty-two-bytes"));
        let text = effective(&config);
        assert!(text.contains("jwt_secret = \"***\"") && text.contains("root_password = \"\""), "{text}");
        assert!(!text.contains("thirty-two"), "{text}");
    }
}
