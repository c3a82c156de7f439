//! B9: what an idle socket, an idle subscription and an idle user cost the server.
//!
//! PSS of user space, each server started anew: first alone, then with authenticated sockets, then with twenty
//! subscriptions on each of some of them. Users: the server is started again behind ten thousand and behind all of them,
//! so that what their making took is not counted, and without it for the sake of that figure.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::task::JoinSet;

use super::LIVE;
use crate::bench::Bench;
use crate::crowd::{Channel, Crowd, Outcome, Size};
use crate::floors;
use crate::line::Line;
use crate::options::Options;
use crate::peers::{Format, Instance, PeerKind, create_users};
use crate::procfs;
use crate::report::{Limit, Measure};

const LISTENERS: usize = 100;
const SUBSCRIPTIONS: usize = 20;
/// Long enough for a server to give back what its set-up took, and to ask whether sockets are alive.
const SETTLE: Duration = Duration::from_secs(12);
const FIRST_USERS: usize = 10_000;
const USERS_A_REQUEST: usize = 200;
const SOCKET_KIB: f64 = 20.0;
const SUBSCRIPTION_BYTES: f64 = 600.0;
/// None; two starts of the same server differ by some hundred KiB.
const USER_BYTES: f64 = 10.0;
const SOCKETS: &str = "idle sockets";
const SUBSCRIBED: &str = "idle subscriptions";
const MADE: &str = "idle users, just made";
const STARTED: &str = "idle users, started again";

type Figures = BTreeMap<Measure, f64>;

pub(super) async fn run(options: &Options) -> Result<bool> {
    let mut bench = Bench::open(options, "b9", "memory of an idle socket, subscription and user").await?;
    let kernel = floors::kernel_connection_kib(1_000)?;
    bench.configure(
        "kernel memory of a bare loopback connection",
        format!("{kernel:.1} KiB, both ends (growth of Slab)"),
    );
    bench.configure("sockets", format!("{}, {SUBSCRIPTIONS} subscriptions on each", options.crowd));
    for round in 1..=options.rounds {
        for kind in options.of_these(&LIVE) {
            sockets(&mut bench, options, (round, kind)).await?;
        }
    }
    if options.of_these(&LIVE).contains(&PeerKind::InboxDb) {
        users(&mut bench, options).await?;
    }
    for (measure, workload, what, most) in [
        (Measure::SocketKib, SOCKETS, "KiB of an idle socket", SOCKET_KIB),
        (Measure::SubscriptionBytes, SUBSCRIBED, "bytes of an idle subscription", SUBSCRIPTION_BYTES),
        (Measure::UserBytes, STARTED, "bytes of an idle user", USER_BYTES),
    ] {
        if let Some(value) = bench.report().median(measure, workload, PeerKind::InboxDb) {
            bench.limit(Limit::new(what, value, most));
        }
    }
    bench.close().await
}

async fn settled_kib(pid: procfs::Pid) -> Result<f64> {
    tokio::time::sleep(SETTLE).await;
    Ok(procfs::memory(pid)?.proportional_kib as f64)
}

async fn sockets(bench: &mut Bench<'_>, options: &Options, (round, kind): (u32, PeerKind)) -> Result<()> {
    let size = Size { users: LISTENERS, listeners: LISTENERS };
    let crowd = Crowd::start(kind, bench, options, size).await?;
    let pid = crowd.process().pid();
    // What the first sockets bring into memory is no socket's.
    drop(open(&crowd, LISTENERS).await?);
    let alone = settled_kib(pid).await?;
    let mut lines = open(&crowd, options.crowd).await?;
    let mut with_sockets = 0.0;
    let work = async {
        with_sockets = held(&mut lines, settled_kib(pid)).await?;
        let socket = (with_sockets - alone) / options.crowd as f64;
        Ok(Figures::from([(Measure::ProportionalKib, with_sockets), (Measure::SocketKib, socket)]))
    };
    bench.observe((round, SOCKETS, kind), work).await?;
    let work = async {
        for id in 0..SUBSCRIPTIONS {
            // By turns, so that no socket is silent for long: then the server would end it.
            for (number, line) in lines.iter_mut().enumerate() {
                let channel = Channel::Mailbox(number % LISTENERS);
                crowd.subscribe(line, channel, (id, Format::Json)).await?;
            }
        }
        let subscribed = held(&mut lines, settled_kib(pid)).await?;
        let one = (subscribed - with_sockets) * 1024.0 / (options.crowd * SUBSCRIPTIONS) as f64;
        Ok(Figures::from([(Measure::ProportionalKib, subscribed), (Measure::SubscriptionBytes, one)]))
    };
    bench.observe((round, SUBSCRIBED, kind), work).await?;
    drop(lines);
    crowd.close(bench, Outcome::default())
}

async fn open(crowd: &Crowd, sockets: usize) -> Result<Vec<Line>> {
    let mut lines = Vec::with_capacity(sockets);
    for number in 0..sockets {
        lines.push(crowd.connect(number, Format::Json).await?);
    }
    Ok(lines)
}

/// What `work` finds while all lines are read, so that pings are answered.
async fn held<T>(lines: &mut Vec<Line>, work: impl Future<Output = Result<T>>) -> Result<T> {
    let (stop, stopped) = tokio::sync::watch::channel(());
    let mut readers = JoinSet::new();
    for mut line in lines.drain(..) {
        let mut stopped = stopped.clone();
        readers.spawn(async move {
            loop {
                tokio::select! {
                    read = line.receive(|_| Ok(())) => read?,
                    _ = stopped.changed() => return Ok(line),
                }
            }
        });
    }
    let found = work.await;
    drop(stop);
    while let Some(ended) = readers.join_next().await {
        let line: Result<Line> = ended.context("a socket's task")?;
        lines.push(line.context("a socket did not stay open")?);
    }
    found
}

async fn users(bench: &mut Bench<'_>, options: &Options) -> Result<()> {
    ensure!(options.tenants > FIRST_USERS, "--tenants must be above {FIRST_USERS}");
    let mut instance = Instance::start(&options.programs(), &bench.folder("users")?, &[]).await?;
    bench.is_ours(instance.process().pid());
    let (mut made, mut started): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut next = 0;
    for count in [FIRST_USERS, options.tenants] {
        let mut admin = instance.admin().await?;
        let before = settled_kib(instance.process().pid()).await?;
        while next < count {
            let end = count.min(next + USERS_A_REQUEST);
            create_users(&mut admin, next..end).await?;
            next = end;
        }
        made.push(settled_kib(instance.process().pid()).await? - before);
        drop(admin);
        instance.stop()?;
        instance.start_again().await?;
        bench.is_ours(instance.process().pid());
        started.push(settled_kib(instance.process().pid()).await?);
    }
    let ([_, made], [few, many]) = (&made[..], &started[..]) else { bail!("two counts were asked for") };
    let more = (options.tenants - FIRST_USERS) as f64;
    let bytes = |kib: f64| Figures::from([(Measure::UserBytes, kib.max(0.0) * 1024.0 / more)]);
    for (workload, kib) in [(MADE, *made), (STARTED, many - few)] {
        bench.observe((1, workload, PeerKind::InboxDb), async { Ok(bytes(kib)) }).await?;
    }
    bench.configure(
        "users",
        format!("{FIRST_USERS}, then {}; PSS behind a start {few:.0} and {many:.0} KiB", options.tenants),
    );
    let mut audit = bench.new_audit(PeerKind::InboxDb, instance.version(), instance.process().settings());
    audit.peak_memory_kib = procfs::memory(instance.process().pid())?.peak_kib();
    bench.add_audit(audit);
    Ok(())
}
