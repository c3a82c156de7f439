//! The kinds of jobs, and what each is about.
//!
//! Owns their names, the prefixes of their ids, and what makes two jobs the same. Parameters are typed per kind, and
//! JSON on disk and in `system.jobs`: a field is added with a default, never renamed.

use serde::{Deserialize, Serialize};

use crate::model::{NamespaceName, StorageId, TableId, TopicId, UserId};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JobKind {
    /// Writes what is hot of a table into segments.
    Flush,
    /// Merges a table's segments, and drops rows that were replaced.
    Compact,
    /// Removes the keys of a dropped table.
    Cleanup,
    /// Erases the mailbox of a dropped user.
    UserCleanup,
    /// Copies the whole database into a folder.
    Backup,
    /// Brings a backup into the data folder, for the next start.
    Restore,
    /// Writes what a user has into one file.
    UserExport,
    /// Removes a table's tombstones that have expired.
    Retention,
    /// Moves a table's segments to where they are to lie.
    Move,
    /// Removes the keys of a dropped topic.
    TopicCleanup,
    /// Removes a topic's entries that are too old or too many.
    TopicRetention,
}

/// What one job is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "job_type", content = "parameters", rename_all = "snake_case")]
pub enum JobParams {
    /// `forced`: also partitions that are not worth a file.
    Flush {
        table_id: TableId,
        namespace_id: NamespaceName,
        table_name: String,
        forced: bool,
        /// Also partitions with so many hot bytes: there is not room for all that is hot.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from_bytes: Option<u64>,
    },
    Compact {
        table_id: TableId,
        namespace_id: NamespaceName,
        table_name: String,
    },
    /// The name is the one that the table had: another may have it by now.
    Cleanup {
        table_id: TableId,
        namespace_id: NamespaceName,
        table_name: String,
        /// Where its files lie.
        #[serde(default = "StorageId::local", skip_serializing_if = "StorageId::is_local")]
        storage_id: StorageId,
    },
    /// The generation tells apart the holders that a name has had.
    UserCleanup {
        user_id: UserId,
        generation: u32,
    },
    /// The folder that comes to be.
    Backup {
        path: String,
    },
    /// The folder of a backup.
    Restore {
        path: String,
    },
    /// `user_since`, microseconds since the Unix epoch, tells apart the holders that a name has had.
    UserExport {
        user_id: UserId,
        user_since: i64,
    },
    Retention {
        table_id: TableId,
        namespace_id: NamespaceName,
        table_name: String,
    },
    /// Which partitions, and where they come from, records of the store say. The turn tells apart what was asked for at
    /// different times.
    Move {
        table_id: TableId,
        namespace_id: NamespaceName,
        table_name: String,
        turn: i64,
    },
    /// The name is the one that the topic had: another may have it by now.
    TopicCleanup {
        topic_id: TopicId,
        namespace_id: NamespaceName,
        topic_name: String,
    },
    TopicRetention {
        topic_id: TopicId,
        namespace_id: NamespaceName,
        topic_name: String,
    },
}

impl JobKind {
    pub const ALL: &'static [JobKind] = &[
        JobKind::Flush,
        JobKind::Compact,
        JobKind::Cleanup,
        JobKind::UserCleanup,
        JobKind::Backup,
        JobKind::Restore,
        JobKind::UserExport,
        JobKind::Retention,
        JobKind::Move,
        JobKind::TopicCleanup,
        JobKind::TopicRetention,
    ];

    /// `job_type` in `system.jobs`.
    pub fn as_str(self) -> &'static str {
        match self {
            JobKind::Flush => "flush",
            JobKind::Compact => "compact",
            JobKind::Cleanup => "cleanup",
            JobKind::UserCleanup => "user_cleanup",
            JobKind::Backup => "backup",
            JobKind::Restore => "restore",
            JobKind::UserExport => "user_export",
            JobKind::Retention => "retention",
            JobKind::Move => "move",
            JobKind::TopicCleanup => "topic_cleanup",
            JobKind::TopicRetention => "topic_retention",
        }
    }

    /// What an id of this kind begins with.
    pub fn prefix(self) -> &'static str {
        match self {
            JobKind::Flush => "FL",
            JobKind::Compact => "CO",
            JobKind::Cleanup => "CL",
            JobKind::UserCleanup => "UC",
            JobKind::Backup => "BK",
            JobKind::Restore => "RS",
            JobKind::UserExport => "UE",
            JobKind::Retention => "RT",
            JobKind::Move => "MV",
            JobKind::TopicCleanup => "TC",
            JobKind::TopicRetention => "TR",
        }
    }

    /// May its body begin anew after it was cut off at any point?
    pub fn is_resumable(self) -> bool {
        match self {
            JobKind::Flush | JobKind::Compact | JobKind::Cleanup | JobKind::UserCleanup => true,
            JobKind::Backup | JobKind::Restore | JobKind::UserExport => true,
            JobKind::Retention | JobKind::Move => true,
            JobKind::TopicCleanup | JobKind::TopicRetention => true,
        }
    }

    /// Higher goes first.
    pub fn priority(self) -> i32 {
        match self {
            JobKind::Flush | JobKind::Compact | JobKind::Cleanup => 0,
            JobKind::Backup | JobKind::Restore | JobKind::UserExport => 0,
            JobKind::Retention | JobKind::Move => 0,
            JobKind::TopicCleanup | JobKind::TopicRetention => 0,
            // Somebody may wait for the name.
            JobKind::UserCleanup => 10,
        }
    }
}

impl JobParams {
    pub fn kind(&self) -> JobKind {
        match self {
            JobParams::Flush { .. } => JobKind::Flush,
            JobParams::Compact { .. } => JobKind::Compact,
            JobParams::Cleanup { .. } => JobKind::Cleanup,
            JobParams::UserCleanup { .. } => JobKind::UserCleanup,
            JobParams::Backup { .. } => JobKind::Backup,
            JobParams::Restore { .. } => JobKind::Restore,
            JobParams::UserExport { .. } => JobKind::UserExport,
            JobParams::Retention { .. } => JobKind::Retention,
            JobParams::Move { .. } => JobKind::Move,
            JobParams::TopicCleanup { .. } => JobKind::TopicCleanup,
            JobParams::TopicRetention { .. } => JobKind::TopicRetention,
        }
    }

    /// Two jobs with the same key are the same work.
    pub fn idempotency_key(&self) -> String {
        let kind = self.kind().as_str();
        match self {
            // Besides: what is worth a file is not all that there is.
            JobParams::Flush { table_id, forced: true, .. } => format!("{kind}:{table_id}:all"),
            JobParams::Flush { table_id, .. }
            | JobParams::Compact { table_id, .. }
            | JobParams::Cleanup { table_id, .. }
            | JobParams::Retention { table_id, .. } => format!("{kind}:{table_id}"),
            JobParams::Move { table_id, turn, .. } => format!("{kind}:{table_id}:{turn}"),
            JobParams::TopicCleanup { topic_id, .. } | JobParams::TopicRetention { topic_id, .. } => {
                format!("{kind}:{topic_id}")
            }
            JobParams::UserCleanup { user_id, generation } => format!("{kind}:{generation}:{user_id}"),
            JobParams::Backup { path } => format!("{kind}:{path}"),
            // One at a time, whatever it is made of: there is one place for what comes in.
            JobParams::Restore { .. } => kind.to_owned(),
            JobParams::UserExport { user_id, user_since } => format!("{kind}:{user_since}:{user_id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn kinds_are_told_apart() {
        let count = JobKind::ALL.len();
        assert_eq!(JobKind::ALL.iter().map(|kind| kind.as_str()).collect::<HashSet<_>>().len(), count);
        assert_eq!(JobKind::ALL.iter().map(|kind| kind.prefix()).collect::<HashSet<_>>().len(), count);
    }

    #[test]
    fn parameters_are_written_by_kind() {
        let user =
            |name: &str, generation| JobParams::UserCleanup { user_id: UserId::parse(name).unwrap(), generation };
        let cases = [
            (
                JobParams::Cleanup {
                    table_id: TableId(7),
                    namespace_id: NamespaceName::parse("chat").unwrap(),
                    table_name: "mail".to_owned(),
                    storage_id: StorageId::local(),
                },
                r#"{"job_type":"cleanup","parameters":{"table_id":7,"namespace_id":"chat","table_name":"mail"}}"#,
                "cleanup:7",
            ),
            (
                user("al", 3),
                r#"{"job_type":"user_cleanup","parameters":{"user_id":"al","generation":3}}"#,
                "user_cleanup:3:al",
            ),
            (
                JobParams::Backup { path: "/b/1".to_owned() },
                r#"{"job_type":"backup","parameters":{"path":"/b/1"}}"#,
                "backup:/b/1",
            ),
            (
                JobParams::Restore { path: "/b/1".to_owned() },
                r#"{"job_type":"restore","parameters":{"path":"/b/1"}}"#,
                "restore",
            ),
            (
                JobParams::UserExport { user_id: UserId::parse("al").unwrap(), user_since: 7 },
                r#"{"job_type":"user_export","parameters":{"user_id":"al","user_since":7}}"#,
                "user_export:7:al",
            ),
            (
                JobParams::Move {
                    table_id: TableId(7),
                    namespace_id: NamespaceName::parse("chat").unwrap(),
                    table_name: "mail".to_owned(),
                    turn: 5,
                },
                r#"{"job_type":"move","parameters":{"table_id":7,"namespace_id":"chat","table_name":"mail","turn":5}}"#,
                "move:7:5",
            ),
        ];
        for (params, json, key) in cases {
            assert_eq!(serde_json::to_string(&params).unwrap(), json);
            assert_eq!(serde_json::from_str::<JobParams>(json).unwrap(), params);
            assert_eq!(params.idempotency_key(), key);
            assert!(json.contains(params.kind().as_str()));
        }
        assert_ne!(user("al", 3).idempotency_key(), user("al", 4).idempotency_key(), "another holder of the name");
    }
}
