//! Tools rely on the columns: their names, order, types, and which may be NULL.

use super::*;

/// Each table, its columns as published, and those that stand behind them.
const PUBLISHED: &[(&str, &str, &str)] = &[
    (
        "users",
        "user_id Text; password_hash Text; role Text; email Text null; auth_type Text; auth_data Json null; \
         storage_mode Text; storage_id Text null; failed_login_attempts Int; locked_until Timestamp null; \
         last_login_at Timestamp null; created_at Timestamp; updated_at Timestamp; last_seen Timestamp null; \
         deleted_at Timestamp null",
        "",
    ),
    ("namespaces", "namespace_id Text; name Text; created_at Timestamp; options Json null; table_count Int", ""),
    (
        "schemas",
        "table_id Text; table_name Text; namespace_id Text; table_type Text; created_at Timestamp; schema_version Int; \
         columns Json; table_comment Text null; updated_at Timestamp; options Json null; access_level Text null; \
         is_latest Boolean; storage_id Text null; use_user_storage Boolean null",
        "",
    ),
    (
        "storages",
        "storage_id Text; storage_name Text; description Text null; storage_type Text; base_directory Text; \
         credentials Json null; config_json Json null; shared_tables_template Text; user_tables_template Text; \
         created_at Timestamp; updated_at Timestamp",
        "",
    ),
    (
        "jobs",
        "job_id Text; job_type Text; status Text; leader_status Text null; parameters Json null; message Text null; \
         exception_trace Text null; idempotency_key Text null; queue Text null; priority Int null; \
         retry_count SmallInt; max_retries SmallInt; memory_used BigInt null; cpu_used BigInt null; \
         created_at Timestamp; updated_at Timestamp; started_at Timestamp null; finished_at Timestamp null; \
         node_id BigInt; leader_node_id BigInt null",
        "",
    ),
    (
        "job_nodes",
        "job_id Text; node_id BigInt; status Text; error_message Text null; created_at Timestamp; \
         started_at Timestamp null; finished_at Timestamp null; updated_at Timestamp",
        "",
    ),
    (
        "audit_log",
        "audit_id Text; timestamp Timestamp; actor_user_id Text; action Text; target Text; details Text null; \
         ip_address Text null; subject_user_id Text null",
        "",
    ),
    (
        // Both times are of a cache of manifests, which there is none of: NULL where there is no copy of one.
        "manifest",
        "cache_key Text; namespace_id Text; table_name Text; scope Text; etag Text null; \
         last_refreshed Timestamp null; last_accessed Timestamp null; in_memory Boolean; sync_state Text; \
         manifest_json Json",
        "",
    ),
    (
        "topics",
        "topic_id Text; name Text; alias Text null; partitions Int; retention_seconds BigInt null; \
         retention_max_bytes BigInt null; routes Json; created_at Timestamp; updated_at Timestamp",
        "visibility_timeout_seconds BigInt null; max_deliveries Int null; dead_letter_topic Text null",
    ),
    (
        "topic_offsets",
        "topic_id Text; group_id Text; partition_id Int; last_acked_offset BigInt; updated_at Timestamp",
        "",
    ),
    (
        "tables",
        "namespace_id Text; table_name Text; table_type Text; storage_id Text null; version BigInt; options Text null; \
         comment Text null; updated_at Timestamp; created_at Timestamp",
        "",
    ),
    (
        "columns",
        "namespace_id Text; table_name Text; version BigInt; column_id BigInt; column_name Text; comment Text null; \
         data_type Text; default_value Text null; ordinal BigInt; nullable Boolean; primary_key Boolean; \
         primary_key_pos BigInt null",
        "",
    ),
    (
        "live",
        "live_id Text; connection_id Text; subscription_id Text; namespace_id Text; table_name Text; user_id Text; \
         query Text; options Json null; status Text; created_at Timestamp; last_update Timestamp; changes BigInt; \
         node_id BigInt; last_ping_at Timestamp",
        "",
    ),
    (
        "sessions",
        "session_id Text; backend_pid BigInt null; current_schema Text null; state Text; transaction_id Text null; \
         transaction_state Text null; transaction_has_writes Boolean; client_addr Text null; transport Text; \
         opened_at Timestamp; last_seen_at Timestamp; last_method Text null",
        "user_id Text null",
    ),
    ("settings", "name Text; value Text; description Text; category Text", ""),
    (
        "server_logs",
        "timestamp Text; level Text; thread Text null; target Text null; line BigInt null; message Text",
        "",
    ),
    (
        "cluster",
        "cluster_id Text; node_id BigInt; role Text; status Text; rpc_addr Text; api_addr Text; is_self Boolean; \
         is_leader Boolean; groups_leading Int; total_groups Int; current_term BigInt null; \
         last_applied_log BigInt null; leader_last_log_index BigInt null; snapshot_index BigInt null; \
         catchup_progress_pct SmallInt null; replication_lag BigInt null; hostname Text null; version Text null; \
         memory_mb BigInt null; memory_usage_mb BigInt null; cpu_usage_percent Float null; uptime_seconds BigInt null; \
         uptime_human Text null; os Text null; arch Text null",
        "",
    ),
    (
        "cluster_groups",
        "group_id BigInt; cluster_id Text; node_id BigInt; group_type Text; current_term BigInt null; vote Json null; \
         last_log_index BigInt null; last_applied BigInt null; snapshot BigInt null; purged BigInt null; \
         committed BigInt null; state Text null; current_leader BigInt null; millis_since_quorum_ack BigInt null",
        "",
    ),
    ("datatypes", "arrow_type Text; kalam_type Text; sql_name Text; description Text", ""),
    (
        "describe",
        "column_name Text; ordinal_position Int; column_id BigInt; data_type Text; is_nullable Boolean; \
         is_primary_key Boolean; column_default Text null; column_comment Text null; schema_version Int",
        "namespace_id Text; table_name Text",
    ),
    ("stats", "metric_name Text; metric_value Text", ""),
    // Of ours alone.
    (
        "cursors",
        "",
        "user_id Text; group_id Text; target Text; position Text null; lag_ms BigInt null; live_id Text null; \
         created_at Timestamp; used_at Timestamp",
    ),
    (
        "deliveries",
        "",
        "topic_id Text; group_id Text; partition_id Int; first_offset BigInt; next_offset BigInt; \
         last_acked_offset BigInt; lag BigInt; in_flight BigInt; most_deliveries Int; dead_lettered BigInt; \
         lost BigInt; updated_at Timestamp",
    ),
];

#[test]
fn columns_are_as_published() {
    for (name, published, ours) in PUBLISHED {
        let table = SystemTable::named(name).unwrap_or_else(|| panic!("no table {name}"));
        let shown = |field: &arrow::datatypes::FieldRef| {
            let null = if field.is_nullable() { " null" } else { "" };
            format!("{} {:?}{null}", field.name(), DataType::of_field(field))
        };
        let columns: Vec<String> = table.schema().fields().iter().map(shown).collect();
        let split = |list: &'static str| list.split("; ").filter(|column| !column.is_empty());
        let expected: Vec<&str> = split(published).chain(split(ours)).collect();
        assert_eq!(columns, expected, "system.{name}");
    }
}

#[test]
fn every_table_is_listed() {
    for table in SystemTable::ALL {
        let listed = PUBLISHED.iter().filter(|(name, ..)| *name == table.name()).count();
        assert_eq!(listed, 1, "system.{}", table.name());
    }
}
