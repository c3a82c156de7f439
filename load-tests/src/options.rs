//! The command line.
//!
//! Owns the defaults: they are what README.md describes and what a committed result was measured with.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::drive::Phases;
use crate::peers::{PeerKind, Population, Programs};

#[derive(Debug, Parser)]
#[command(name = "inboxdb-load", version, about = "Load tests: InboxDB beside the servers a user would pick instead")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) row: Row,
    #[command(flatten)]
    pub(crate) options: Options,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub(crate) enum Row {
    /// Durable insert, one row a request, 1, 16 and 64 clients
    B1,
    /// Buffered insert, one row a request, 16 clients
    B2,
    /// Batch insert, 100 rows a request, 16 clients, both levels
    B2b,
    /// Publish → receive latency, idle and at half load, both levels
    B3,
    /// Fan-out: one table, 1,000 and 5,000 subscribers, JSON and MessagePack
    B4,
    /// Mailboxes: 10,000 users, 5,000 sockets, 2,000 random writes/s
    B5,
    /// All-owners feed whose consumer is killed every few seconds
    B6,
    /// Burst: 10,000 rows in one statement, a reader at 1,000/s
    B7,
    /// Reconnect storm: 5,000 sockets cut, 100 events behind
    B8,
    /// Memory of an idle socket, an idle subscription, an idle user
    B9,
    /// Point SELECT by primary key over 100,000 hot rows
    PointSelect,
    /// Memory of an idle server, and of an idle subscribed socket
    Memory,
    /// Point SELECT by primary key, hot and cold, and over 1,000 segments
    B10,
    /// Analytics on cold segments, beside DuckDB on the same files
    B11,
    /// Bytes written and kept for each byte of payload; memory of a flush; kill -9 → first read
    B12,
    /// Many tenants: 100,000 users with ten rows each
    B13,
    /// Durable upserts, one row a request, half of them updates
    B14,
    /// Inserts and reads while rows become cold all the time, and while none do
    FlushLoad,
    /// Generated queries, whose answers are held against PostgreSQL's
    Differential,
    /// B1, B2, B2b, B3, point-select and memory, one after the other
    All,
}

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// The InboxDB program
    #[arg(long, global = true, default_value = "target/release/inboxdb", value_name = "PATH")]
    inboxdb: PathBuf,
    /// A setting for InboxDB (repeatable), beside the raised limit of queries per second
    #[arg(long = "set", global = true, value_name = "SECTION.KEY=VALUE")]
    settings: Vec<String>,
    /// The folder of PostgreSQL's programs
    #[arg(long, global = true, default_value = "/usr/lib/postgresql/15/bin", value_name = "PATH")]
    postgres: PathBuf,
    /// The Redis server program
    #[arg(long, global = true, default_value = "/usr/bin/redis-server", value_name = "PATH")]
    redis: PathBuf,
    /// The NATS server program
    #[arg(long, global = true, default_value = "/usr/sbin/nats-server", value_name = "PATH")]
    nats: PathBuf,
    /// Which servers take part, where the row has them
    #[arg(long, global = true, value_delimiter = ',', default_values = ["inboxdb", "postgres", "redis", "nats", "sqlite", "duckdb"])]
    pub(crate) peers: Vec<PeerKind>,
    /// How often each server gets its turn
    #[arg(long, global = true, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// The measured seconds of a turn
    #[arg(long, global = true, default_value_t = 10.0)]
    seconds: f64,
    /// The seconds of a turn before it is measured
    #[arg(long, global = true, default_value_t = 2.0)]
    warm_up: f64,
    /// B1 and B2: write to the mailboxes of this many users, picked by Zipf 0.99, through a service account's
    /// `EXECUTE AS USER`; without it each client writes to its own user's mailbox
    #[arg(long, global = true)]
    pub(crate) users: Option<usize>,
    /// B1: how many clients
    #[arg(long, global = true, value_delimiter = ',', default_values_t = [1, 16, 64])]
    pub(crate) clients: Vec<usize>,
    /// Memory: how many idle sockets (at most 200 for PostgreSQL, where each is a process)
    #[arg(long, global = true, default_value_t = 1_000)]
    pub(crate) sockets: usize,
    /// B10 (default 1,000,000) and B11 (10,000,000): how many rows
    #[arg(long, global = true)]
    pub(crate) rows: Option<usize>,
    /// B10: how many segments the table of the last part has
    #[arg(long, global = true, default_value_t = 1_000)]
    pub(crate) segments: usize,
    /// B12 (default 1024) and flush-load (256 a round): how many MiB of payload are hot, and are then flushed
    #[arg(long, global = true)]
    pub(crate) megabytes: Option<usize>,
    /// Flush-load: the writers' rate, as a share of what they reach when nothing holds them
    #[arg(long, global = true, default_value_t = 0.25)]
    pub(crate) load: f64,
    /// Flush-load: the writers' rate in rows a second, instead of a share
    #[arg(long, global = true)]
    pub(crate) rate: Option<f64>,
    /// B4 (default 1,000 and 5,000): how many subscribers
    #[arg(long, global = true, value_delimiter = ',', default_values_t = [1_000, 5_000])]
    pub(crate) subscribers: Vec<usize>,
    /// B5, B8 and B9: how many sockets
    #[arg(long, global = true, default_value_t = 5_000)]
    pub(crate) crowd: usize,
    /// B9 (10,000 first, then so many) and B13: how many users
    #[arg(long, global = true, default_value_t = 100_000)]
    pub(crate) tenants: usize,
    /// Differential: how many queries
    #[arg(long, global = true, default_value_t = 2_000)]
    pub(crate) queries: u64,
    /// Differential: what tables and queries are drawn from; the same gives the same
    #[arg(long, global = true, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Differential: begin with the query of this number, to see one again
    #[arg(long, global = true, default_value_t = 0)]
    pub(crate) first: u64,
    /// B11: what pip installs DuckDB from: a requirement, or the path of a wheel
    #[arg(long, global = true, default_value = "duckdb", value_name = "REQUIREMENT")]
    pub(crate) duckdb: String,
    /// Run although other processes are busy; the result says so
    #[arg(long, global = true)]
    pub(crate) even_if_busy: bool,
    /// Where the servers' data goes, in a temporary folder, on a disk
    #[arg(long, global = true, value_name = "FOLDER")]
    pub(crate) scratch: Option<PathBuf>,
    /// Where the results go
    #[arg(long, global = true, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results"), value_name = "FOLDER")]
    pub(crate) results: PathBuf,
}

impl Options {
    pub(crate) fn phases(&self) -> Phases {
        Phases { warm_up: Duration::from_secs_f64(self.warm_up), measured: Duration::from_secs_f64(self.seconds) }
    }

    /// Whose mailboxes an insert load of at most `clients` clients writes to.
    pub(crate) fn population(&self, clients: usize) -> Population {
        self.users.map_or(Population::Pool(clients), Population::Agents)
    }

    /// Of `kinds`, those that were not left out on the command line.
    pub(crate) fn of_these(&self, kinds: &[PeerKind]) -> Vec<PeerKind> {
        kinds.iter().copied().filter(|kind| self.peers.contains(kind)).collect()
    }

    /// The temporary folder of a server's data.
    pub(crate) fn scratch_folder(&self) -> std::io::Result<tempfile::TempDir> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("inboxdb-load-");
        self.scratch.as_ref().map_or_else(|| builder.tempdir(), |folder| builder.tempdir_in(folder))
    }

    pub(crate) fn programs(&self) -> Programs {
        Programs {
            inboxdb: self.inboxdb.clone(),
            inboxdb_settings: self.settings.clone(),
            postgres_folder: self.postgres.clone(),
            redis_server: self.redis.clone(),
            nats_server: self.nats.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_may_follow_the_row() {
        let parsed = Arguments::try_parse_from([
            "inboxdb-load",
            "b1",
            "--peers",
            "redis",
            "--users",
            "10000",
            "--clients",
            "1,4",
        ])
        .expect("a good command line");
        assert_eq!((parsed.row, parsed.options.clients.as_slice()), (Row::B1, &[1, 4][..]));
        assert_eq!(parsed.options.of_these(&[PeerKind::InboxDb, PeerKind::Redis]), [PeerKind::Redis]);
        assert!(matches!(parsed.options.population(64), Population::Agents(10_000)));
    }
}
