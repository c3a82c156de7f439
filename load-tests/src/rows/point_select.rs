//! Point SELECT: one row of 100,000 hot ones by its primary key, keys evenly drawn, each answer checked.
//!
//! An open loop on one connection for the latency; a closed loop on sixteen for the throughput.

use std::iter::repeat_n;

use anyhow::Result;

use super::TABLES;
use crate::bench::{Bench, TurnSpec};
use crate::drive::{Phases, Tally, Work, closed_loop, open_loop};
use crate::floors;
use crate::options::Options;
use crate::peers::{BATCH_ROWS, Durability, Population};

const ROWS: usize = 100_000;
/// Far below what one connection can do, so that requests do not wait for each other.
const RATE: f64 = 1_000.0;
const CLIENTS: usize = 16;
/// All of them are the one user whose mailbox holds the rows.
const OWNER: usize = 0;

pub(super) async fn run(options: &Options) -> Result<bool> {
    let mut bench =
        Bench::open(options, "point-select", "point SELECT by primary key, 100,000 hot rows of one user").await?;
    bench.start(&TABLES, Population::Pool(1)).await?;
    bench.configure("loopback round trip, p50", format!("{:?}", floors::loopback_round_trip()?));
    for index in bench.peers() {
        seed(&mut bench, index, options.phases()).await?;
    }
    let work = Work::Select { rows: ROWS };
    for round in 1..=options.rounds {
        for index in bench.peers() {
            let one = bench.clients(index, [OWNER], Durability::Sync).await?;
            let spec = TurnSpec { round, workload: format!("1 connection, {RATE} requests/s"), level: None };
            bench.turn(index, spec, open_loop(one, RATE, options.phases(), work)).await?;
        }
        for index in bench.peers() {
            let many = bench.clients(index, repeat_n(OWNER, CLIENTS), Durability::Sync).await?;
            let spec = TurnSpec { round, workload: format!("{CLIENTS} connections, closed loop"), level: None };
            bench.turn(index, spec, closed_loop(many, options.phases(), work)).await?;
        }
    }
    bench.close().await
}

/// The rows 1 to [`ROWS`], with the bodies that [`Work::Select`] expects.
async fn seed(bench: &mut Bench<'_>, index: usize, phases: Phases) -> Result<()> {
    let mut tally = Tally::new(phases.measured)?;
    for mut client in bench.clients(index, [OWNER], Durability::Buffered).await? {
        for _ in 0..ROWS / BATCH_ROWS.unsigned_abs() as usize {
            tally.acknowledged += client.perform(Work::InsertBatch).await?;
        }
    }
    bench.seeded(index, tally);
    Ok(())
}
