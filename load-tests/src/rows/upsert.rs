//! B14: durable upserts, one row a request: half of the keys drawn are there, the others come in.
//!
//! An open loop on one connection for the latency; closed loops for the throughput. What is stored is not counted against
//! what was acknowledged: an upsert's answer does not say which of the two it was.

use anyhow::Result;

use super::{TABLES, clients_text};
use crate::bench::{Bench, TurnSpec};
use crate::drive::{Tally, Work, closed_loop, open_loop};
use crate::options::Options;
use crate::peers::{BATCH_ROWS, Durability, Population};

const ROWS: usize = 50_000;
/// Far below what one connection can do, so that requests do not wait for each other.
const RATE: f64 = 100.0;
const CLIENTS: usize = 16;
/// All of them are the one user whose mailbox holds the rows.
const OWNER: usize = 0;

pub(super) async fn run(options: &Options) -> Result<bool> {
    let mut bench = Bench::open(options, "b14", "durable upsert, one row a request, half of them updates").await?;
    bench.start(&TABLES, Population::Pool(1)).await?;
    for index in bench.peers() {
        let mut tally = Tally::new(options.phases().measured)?;
        for mut client in bench.clients(index, [OWNER], Durability::Buffered).await? {
            for _ in 0..ROWS / BATCH_ROWS.unsigned_abs() as usize {
                tally.acknowledged += client.perform(Work::InsertBatch).await?;
            }
        }
        bench.seeded(index, tally);
    }
    let work = Work::Upsert { rows: ROWS };
    for round in 1..=options.rounds {
        for index in bench.peers() {
            let one = bench.clients(index, [OWNER], Durability::Sync).await?;
            let spec =
                TurnSpec { round, workload: format!("1 connection, {RATE} requests/s"), level: Some(Durability::Sync) };
            bench.turn(index, spec, open_loop(one, RATE, options.phases(), work)).await?;
        }
        for clients in [1, CLIENTS] {
            for index in bench.peers() {
                let many = bench.clients(index, std::iter::repeat_n(OWNER, clients), Durability::Sync).await?;
                let workload = format!("sync, {}, closed loop", clients_text(clients));
                let spec = TurnSpec { round, workload, level: Some(Durability::Sync) };
                bench.turn(index, spec, closed_loop(many, options.phases(), work)).await?;
            }
        }
    }
    bench.close().await
}
