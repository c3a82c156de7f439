//! The rows of the table in README.md: which servers, which workloads, in which order.
//!
//! Owns what each row runs; `bench.rs` owns how fairly, `drive.rs` how it is sent.

use anyhow::Result;

use crate::differential;
use crate::options::{Options, Row};
use crate::peers::PeerKind;

mod amplification;
mod analytics;
mod burst;
mod cold_read;
mod delivery;
mod fan_out;
mod feed;
mod flush_load;
mod idle;
mod insert;
mod mailboxes;
mod memory;
mod point_select;
mod storm;
mod tenants;
mod upsert;

const EVERYONE: [PeerKind; 3] = [PeerKind::InboxDb, PeerKind::Postgres, PeerKind::Redis];
/// With a way to tell thousands of subscribers.
const LIVE: [PeerKind; 3] = [PeerKind::InboxDb, PeerKind::Redis, PeerKind::Nats];
/// Streams know neither a statement of many rows nor a row by its key.
const TABLES: [PeerKind; 2] = [PeerKind::InboxDb, PeerKind::Postgres];

/// Runs a row, or all of them. Whether nothing was lost.
pub(crate) async fn run(row: Row, options: &Options) -> Result<bool> {
    match row {
        Row::B1 => insert::durable(options).await,
        Row::B2 => insert::buffered(options).await,
        Row::B2b => insert::batches(options).await,
        Row::B3 => delivery::run(options).await,
        Row::B4 => fan_out::run(options).await,
        Row::B5 => mailboxes::run(options).await,
        Row::B6 => feed::run(options).await,
        Row::B7 => burst::run(options).await,
        Row::B8 => storm::run(options).await,
        Row::B9 => idle::run(options).await,
        Row::PointSelect => point_select::run(options).await,
        Row::Memory => memory::run(options).await,
        Row::B10 => cold_read::run(options).await,
        Row::B11 => analytics::run(options).await,
        Row::B12 => amplification::run(options).await,
        Row::B13 => tenants::run(options).await,
        Row::B14 => upsert::run(options).await,
        Row::FlushLoad => flush_load::run(options).await,
        Row::Differential => differential::run(options).await,
        // Those above but for the large ones, which have sizes of their own.
        Row::All => {
            let mut clean = true;
            for row in [Row::B1, Row::B2, Row::B2b, Row::B3, Row::PointSelect, Row::Memory] {
                clean &= Box::pin(run(row, options)).await?;
            }
            Ok(clean)
        }
    }
}

fn clients_text(clients: usize) -> String {
    if clients == 1 { "1 client".to_owned() } else { format!("{clients} clients") }
}
