//! What serde can not see: ranges, and keys that must agree with each other.

use std::time::Duration;

use bytesize::ByteSize;

use super::Config;

/// Key and problem of everything that is wrong.
pub(super) fn check(config: &Config) -> Vec<(&'static str, String)> {
    let mut faults = Faults(Vec::new());
    counts(config, &mut faults);
    durations(config, &mut faults);
    sizes(config, &mut faults);
    agreement(config, &mut faults);
    texts(config, &mut faults);
    faults.0
}

struct Faults(Vec<(&'static str, String)>);

impl Faults {
    fn when(&mut self, wrong: bool, key: &'static str, problem: &str) {
        if wrong {
            self.0.push((key, problem.to_owned()));
        }
    }

    fn outside(&mut self, key: &'static str, value: u64, low: u64, high: u64) {
        if value < low || value > high {
            let range = if high == u64::MAX { format!("{low} or more") } else { format!("{low} to {high}") };
            self.0.push((key, format!("expected {range}")));
        }
    }
}

fn counts(config: &Config, faults: &mut Faults) {
    let Config { server, storage, limits, auth, websocket, datafusion, flush, topics, jobs, .. } = config;
    let retention_hours = config.retention.default_deleted_retention_hours;
    let any = u64::MAX;
    for (key, value, low, high) in [
        ("server.workers", server.workers as u64, 0, 1_024),
        ("server.max_connections", server.max_connections as u64, 1, any),
        ("server.backlog", u64::from(server.backlog), 1, 65_535),
        ("server.max_requests_per_ip_per_sec", u64::from(server.max_requests_per_ip_per_sec), 1, any),
        ("server.max_connections_per_ip", u64::from(server.max_connections_per_ip), 1, any),
        ("storage.node_id", u64::from(storage.node_id), 0, 1_023),
        ("limits.max_statements", limits.max_statements as u64, 1, 1_000),
        ("limits.max_nesting", limits.max_nesting as u64, 1, 50),
        ("limits.max_operators", limits.max_operators as u64, 1, 300),
        ("limits.max_tables", limits.max_tables as u64, 1, 1_000),
        ("audit.max_entries", config.audit.max_entries as u64, 1, 10_000_000),
        ("limits.max_parameters", limits.max_parameters as u64, 1, any),
        ("auth.min_password_length", auth.min_password_length as u64, 1, 72),
        ("auth.argon2.iterations", u64::from(auth.argon2.iterations), 1, 1_000),
        ("auth.argon2.parallelism", u64::from(auth.argon2.parallelism), 1, 64),
        ("websocket.max_messages_per_sec", u64::from(websocket.max_messages_per_sec), 1, any),
        ("websocket.max_subscriptions_per_user", websocket.max_subscriptions_per_user as u64, 1, any),
        ("websocket.max_subscriptions_per_connection", websocket.max_subscriptions_per_connection as u64, 1, any),
        ("websocket.max_concurrent_opens", websocket.max_concurrent_opens as u64, 1, any),
        ("websocket.max_waiting_opens", websocket.max_waiting_opens as u64, 1, any),
        ("websocket.max_cursors_per_user", websocket.max_cursors_per_user as u64, 1, any),
        ("datafusion.threads", datafusion.threads as u64, 0, 1_024),
        ("datafusion.rows_per_thread", datafusion.rows_per_thread, 1, any),
        ("flush.default_row_limit", flush.default_row_limit, 1, any),
        ("flush.minimum_rows", flush.minimum_rows, 1, any),
        ("topics.max_waiters", topics.max_waiters as u64, 1, any),
        ("topics.max_groups", topics.max_groups as u64, 1, any),
        ("topics.max_in_flight", topics.max_in_flight, 1, 1_000_000),
        ("topics.max_batch", topics.max_batch, 1, 100_000),
        ("retention.default_deleted_retention_hours", u64::from(retention_hours), 0, 876_600),
        ("jobs.max_concurrent", jobs.max_concurrent as u64, 1, any),
        ("jobs.max_queued", jobs.max_queued as u64, 1, any),
        ("jobs.max_retries", u64::from(jobs.max_retries), 0, 1_000),
        ("jobs.history_entries", jobs.history_entries as u64, 1, any),
    ] {
        faults.outside(key, value, low, high);
    }
}

fn durations(config: &Config, faults: &mut Faults) {
    for (key, value) in [
        ("server.keep_alive", config.server.keep_alive),
        ("server.peer_timeout", config.server.peer_timeout),
        ("server.client_request_timeout", config.server.client_request_timeout),
        ("server.client_body_timeout", config.server.client_body_timeout),
        ("server.shutdown_timeout", config.server.shutdown_timeout),
        ("server.ban_duration", config.server.ban_duration),
        ("storage.remote_timeouts.request_timeout", config.storage.remote_timeouts.request_timeout),
        ("storage.remote_timeouts.connect_timeout", config.storage.remote_timeouts.connect_timeout),
        ("durability.buffered_sync_interval", config.durability.buffered_sync_interval),
        ("limits.statement_timeout", config.limits.statement_timeout),
        ("auth.jwt_expiry", config.auth.jwt_expiry),
        ("auth.lockout_duration", config.auth.lockout_duration),
        ("websocket.auth_timeout", config.websocket.auth_timeout),
        ("websocket.client_timeout", config.websocket.client_timeout),
        ("websocket.heartbeat_interval", config.websocket.heartbeat_interval),
        ("streams.long_poll_timeout", config.streams.long_poll_timeout),
        ("streams.sse_lifetime", config.streams.sse_lifetime),
        ("websocket.cursor_idle", config.websocket.cursor_idle),
        ("flush.default_time_interval", config.flush.default_time_interval),
        ("flush.check_interval", config.flush.check_interval),
        ("retention.check_interval", config.retention.check_interval),
        ("retention.dba_stats_interval", config.retention.dba_stats_interval),
        ("retention.dba_stats_retention", config.retention.dba_stats_retention),
        ("topics.visibility_timeout", config.topics.visibility_timeout),
        ("topics.default_retention", config.topics.default_retention),
        ("topics.check_interval", config.topics.check_interval),
        ("jobs.retry_backoff", config.jobs.retry_backoff),
        ("jobs.history_retention", config.jobs.history_retention),
        ("exports.retention", config.exports.retention),
        ("audit.retention", config.audit.retention),
    ] {
        faults.when(value == Duration::ZERO, key, "expected a duration above zero");
    }
}

fn sizes(config: &Config, faults: &mut Faults) {
    for (key, value, least) in [
        ("server.request_body_limit", config.server.request_body_limit, ByteSize::kib(1)),
        ("storage.cache_size", config.storage.cache_size, ByteSize::mib(1)),
        ("flush.default_byte_limit", config.flush.default_byte_limit, ByteSize::kib(1)),
        ("flush.max_hot", config.flush.max_hot, ByteSize::kib(64)),
        ("topics.default_retention_bytes", config.topics.default_retention_bytes, ByteSize::kib(64)),
        ("topics.max_batch_bytes", config.topics.max_batch_bytes, ByteSize::kib(1)),
        ("limits.max_result_bytes", config.limits.max_result_bytes, ByteSize::kib(1)),
        ("limits.max_pattern_bytes", config.limits.max_pattern_bytes, ByteSize::b(1)),
        ("limits.max_sql_bytes", config.limits.max_sql_bytes, ByteSize::b(1)),
        ("limits.max_parameter_bytes", config.limits.max_parameter_bytes, ByteSize::b(1)),
        ("auth.argon2.memory", config.auth.argon2.memory, ByteSize::kib(8 * u64::from(config.auth.argon2.parallelism))),
        ("websocket.max_message_size", config.websocket.max_message_size, ByteSize::kib(1)),
        ("websocket.outbox_bytes", config.websocket.outbox_bytes, ByteSize::kib(16)),
        ("websocket.outbox_bytes_total", config.websocket.outbox_bytes_total, ByteSize::kib(64)),
        ("datafusion.memory_limit", config.datafusion.memory_limit, ByteSize::mib(1)),
        ("datafusion.query_memory_limit", config.datafusion.query_memory_limit, ByteSize::mib(1)),
    ] {
        faults.when(value < least, key, &format!("expected at least {least}"));
    }
}

fn agreement(config: &Config, faults: &mut Faults) {
    let Config { limits, websocket, security, .. } = config;
    faults.when(
        limits.max_query_limit > 0 && limits.default_query_limit > limits.max_query_limit,
        "limits.default_query_limit",
        "is above limits.max_query_limit",
    );
    faults.when(
        websocket.heartbeat_interval >= websocket.client_timeout,
        "websocket.heartbeat_interval",
        "must be shorter than websocket.client_timeout, or no peer is pinged before it is given up",
    );
    faults.when(
        websocket.outbox_bytes_total < websocket.outbox_bytes,
        "websocket.outbox_bytes_total",
        "must not be below websocket.outbox_bytes, which one socket may have",
    );
    faults.when(
        config.tls.certificate_file.is_some() != config.tls.key_file.is_some(),
        "tls.key_file",
        "a certificate and its key are set together, or neither",
    );
    let any_origin = security.cors.allowed_origins.is_empty() || security.cors.allowed_origins.iter().any(|o| o == "*");
    faults.when(
        security.cors.allow_credentials && any_origin,
        "security.cors.allow_credentials",
        "needs security.cors.allowed_origins: cookies for pages of any origin would give every page the user's rights",
    );
}

fn texts(config: &Config, faults: &mut Faults) {
    faults.when(config.server.host.trim().is_empty(), "server.host", "expected an IP address or a host name");
    let not_origin = |text: &String| text != "*" && !is_origin(text);
    faults.when(
        config.server.public_origin.as_ref().is_some_and(|origin| !is_origin(origin)),
        "server.public_origin",
        "expected an origin, like https://db.example.org, without a path",
    );
    faults.when(
        config.security.cors.allowed_origins.iter().any(not_origin),
        "security.cors.allowed_origins",
        "expected origins, like https://app.example.org, without a path",
    );
    faults.when(
        config.security.cors.allowed_methods.iter().any(|m| m.is_empty() || !m.bytes().all(|b| b.is_ascii_uppercase())),
        "security.cors.allowed_methods",
        "expected HTTP methods, like GET",
    );
    let is_header = |name: &String| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    for (key, headers) in [
        ("security.cors.allowed_headers", &config.security.cors.allowed_headers),
        ("security.cors.expose_headers", &config.security.cors.expose_headers),
    ] {
        faults.when(!headers.iter().all(is_header), key, "expected header names, like Content-Type");
    }
    faults.when(
        tracing_subscriber::EnvFilter::builder().parse(&config.logging.level).is_err(),
        "logging.level",
        "expected error, warn, info, debug, trace, or a filter like info,inboxdb::sql=debug",
    );
}

fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    host.is_some_and(|host| !host.is_empty() && !host.contains(|c: char| c == '/' || c == '@' || c.is_whitespace()))
}
