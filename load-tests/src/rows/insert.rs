//! B1, B2 and B2b: rows go in, one or a hundred a request, acknowledged at a level of durability.
//!
//! Closed loops: each client sends its next request when the last is acknowledged.

use anyhow::Result;

use super::{EVERYONE, TABLES, clients_text};
use crate::bench::{Bench, TurnSpec};
use crate::drive::{Work, closed_loop};
use crate::options::Options;
use crate::peers::{BATCH_ROWS, Durability, PeerKind};

const CLIENTS: usize = 16;

struct Insert<'a> {
    kinds: &'a [PeerKind],
    levels: &'a [Durability],
    clients: &'a [usize],
    work: Work,
}

pub(super) async fn durable(options: &Options) -> Result<bool> {
    let bench = Bench::open(options, "b1", "durable insert, one row a request").await?;
    let insert =
        Insert { kinds: &EVERYONE, levels: &[Durability::Sync], clients: &options.clients, work: Work::Insert };
    run(bench, options, &insert).await
}

pub(super) async fn buffered(options: &Options) -> Result<bool> {
    let bench = Bench::open(options, "b2", "buffered insert, one row a request").await?;
    let insert = Insert { kinds: &EVERYONE, levels: &[Durability::Buffered], clients: &[CLIENTS], work: Work::Insert };
    run(bench, options, &insert).await
}

pub(super) async fn batches(options: &Options) -> Result<bool> {
    let mut bench = Bench::open(options, "b2b", "batch insert, 100 rows a request").await?;
    bench.configure(
        "rows a request",
        format!("{BATCH_ROWS}: literals (InboxDB), parameters of a prepared statement (PostgreSQL)"),
    );
    let levels = [Durability::Sync, Durability::Buffered];
    let insert = Insert { kinds: &TABLES, levels: &levels, clients: &[CLIENTS], work: Work::InsertBatch };
    run(bench, options, &insert).await
}

async fn run(mut bench: Bench<'_>, options: &Options, insert: &Insert<'_>) -> Result<bool> {
    let most_clients = insert.clients.iter().copied().max().unwrap_or(1);
    bench.start(insert.kinds, options.population(most_clients)).await?;
    for round in 1..=options.rounds {
        for &level in insert.levels {
            for &clients in insert.clients {
                for index in bench.peers() {
                    let connected = bench.clients(index, 0..clients, level).await?;
                    let workload = format!("{level}, {}", clients_text(clients));
                    let spec = TurnSpec { round, workload, level: Some(level) };
                    bench.turn(index, spec, closed_loop(connected, options.phases(), insert.work)).await?;
                }
            }
        }
    }
    bench.close().await
}
