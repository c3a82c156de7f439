//! The physical limits that stand beside the figures: what no server on this machine can go below.
//!
//! Owns the fsync floor, the loopback round trip and the kernel's memory of an idle connection.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::procfs;

const FSYNC_WRITES: usize = 200;
const FSYNC_BYTES: usize = 256;
const ROUND_TRIPS: usize = 2_000;
const ROUND_TRIP_BYTES: usize = 256;

/// The median cost of appending 256 bytes to a file in `folder` and making them durable, now.
pub(crate) fn fsync(folder: &Path) -> Result<Duration> {
    let mut file = tempfile::tempfile_in(folder).context("make the file for the fsync floor")?;
    median_of(FSYNC_WRITES, || {
        file.write_all(&[0x5A; FSYNC_BYTES])?;
        file.sync_data()
    })
    .context("measure the fsync floor")
}

/// The median round trip of 256 bytes to another thread and back over loopback.
pub(crate) fn loopback_round_trip() -> Result<Duration> {
    let (mut near, mut far) = connection().context("connect over loopback")?;
    let echo = std::thread::spawn(move || -> std::io::Result<()> {
        let mut block = [0; ROUND_TRIP_BYTES];
        for _ in 0..ROUND_TRIPS {
            far.read_exact(&mut block)?;
            far.write_all(&block)?;
        }
        Ok(())
    });
    let mut block = [0; ROUND_TRIP_BYTES];
    let median = median_of(ROUND_TRIPS, || {
        near.write_all(&block)?;
        near.read_exact(&mut block)
    });
    // Ends the echo if we stopped early.
    drop(near);
    let echoed = echo.join();
    let median = median.context("measure the loopback round trip")?;
    if !matches!(echoed, Ok(Ok(()))) {
        anyhow::bail!("the echo of the loopback round trip ended badly");
    }
    Ok(median)
}

/// What the kernel's own memory grows by for each idle loopback connection, both ends, in KiB.
pub(crate) fn kernel_connection_kib(connections: usize) -> Result<f64> {
    let slab = || procfs::keyed_number("/proc/meminfo", "Slab").context("/proc/meminfo tells no Slab");
    let before = slab()?;
    let open =
        (0..connections).map(|_| connection()).collect::<std::io::Result<Vec<_>>>().context("connect over loopback")?;
    let after = slab()?;
    drop(open);
    Ok(after.saturating_sub(before) as f64 / connections as f64)
}

fn connection() -> std::io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    Ok((near, far))
}

fn median_of(times: usize, mut act: impl FnMut() -> std::io::Result<()>) -> std::io::Result<Duration> {
    let mut taken = Vec::with_capacity(times);
    for _ in 0..times {
        let began = Instant::now();
        act()?;
        taken.push(began.elapsed());
    }
    taken.sort();
    Ok(taken[times / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_are_times() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(fsync(folder.path()).expect("measured") > Duration::ZERO);
        assert!(loopback_round_trip().expect("measured") > Duration::ZERO);
    }

    #[test]
    fn a_failure_is_told() {
        assert!(median_of(3, || Err(std::io::ErrorKind::Other.into())).is_err());
    }
}
