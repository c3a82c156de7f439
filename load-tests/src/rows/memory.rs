//! Memory: what an idle server takes, and what each idle subscribed socket adds.
//!
//! Every round starts the servers anew, one at a time, so that no round inherits what another grew. PSS of user space;
//! what the kernel holds for a connection is the same for all and stands in the configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::task::JoinSet;

use super::EVERYONE;
use crate::bench::Bench;
use crate::conditions::Snapshot;
use crate::floors;
use crate::options::Options;
use crate::peers::{Peer, PeerKind, Population};
use crate::procfs::Memory;
use crate::report::{Measure, Turn};

/// The sockets belong to these in turn; a user may have only so many subscriptions.
const USERS: usize = 16;
/// Each session of PostgreSQL is a process: a thousand would measure how it swaps.
const MOST_POSTGRES_SESSIONS: usize = 200;
/// Long enough for a server to give back what its set-up took, and to ask whether sockets are alive.
const SETTLE: Duration = Duration::from_secs(12);

pub(super) async fn run(options: &Options) -> Result<bool> {
    let mut bench =
        Bench::open(options, "memory", "memory of an idle server, and of an idle subscribed socket").await?;
    let kernel = floors::kernel_connection_kib(options.sockets)?;
    bench.configure(
        "kernel memory of a bare loopback connection",
        format!("{kernel:.1} KiB, both ends (growth of Slab)"),
    );
    for round in 1..=options.rounds {
        for kind in options.of_these(&EVERYONE) {
            bench.start(&[kind], Population::Pool(USERS)).await?;
            one_server(&mut bench, round, options.sockets).await?;
            bench.audit_and_stop().await?;
        }
    }
    bench.close().await
}

/// Measures the one server that runs.
async fn one_server(bench: &mut Bench<'_>, round: u32, sockets: usize) -> Result<()> {
    let began = Snapshot::take()?;
    tokio::time::sleep(SETTLE).await;
    bench.wait_until_idle().await?;
    let idle = bench.memory(0)?;
    let (kind, sockets) = match bench.peer(0).kind() {
        PeerKind::Postgres => (PeerKind::Postgres, sockets.min(MOST_POSTGRES_SESSIONS)),
        other => (other, sockets),
    };
    let mut held = subscribe(bench.peer(0), sockets).await?;
    tokio::time::sleep(SETTLE).await;
    bench.wait_until_idle().await?;
    let with_sockets = bench.memory(0)?;
    ensure!(held.try_join_next().is_none(), "a socket did not stay open");
    drop(held);

    let ended = Snapshot::take()?;
    let grown = with_sockets.proportional_kib.saturating_sub(idle.proportional_kib);
    let mut with_sockets = memory_figures(with_sockets);
    with_sockets.insert(Measure::SocketKib, grown as f64 / sockets as f64);
    let workloads =
        [("idle server".to_owned(), memory_figures(idle)), (format!("{sockets} subscribed sockets"), with_sockets)];
    for (workload, figures) in workloads {
        let client_cpu_percent = ended.own_percent_since(&began);
        let others = ended.others_since(&began, &bench.pids());
        bench.record(Turn { round, workload, peer: kind, figures, client_cpu_percent, others });
    }
    Ok(())
}

fn memory_figures(memory: Memory) -> BTreeMap<Measure, f64> {
    BTreeMap::from([
        (Measure::ResidentKib, memory.resident_kib as f64),
        (Measure::ProportionalKib, memory.proportional_kib as f64),
    ])
}

/// Subscriptions that are read, so that pings are answered, until they are dropped.
async fn subscribe(peer: &Peer, sockets: usize) -> Result<JoinSet<()>> {
    let mut held = JoinSet::new();
    for number in 0..sockets {
        let mut subscription = peer.subscribe(number % USERS).await?;
        held.spawn(async move { while subscription.next().await.is_ok() {} });
    }
    Ok(held)
}
