//! `inboxdb-load`: measures InboxDB beside the servers a user would pick instead. README.md has a section for each row.
//!
//! Owns the choice of the row and the exit code: 0 done, 1 not to be run, failed, a row that lost something, or an answer that
//! differs from PostgreSQL's and is on no list.
//! One thread for all clients, the same for every server. An interrupt stops every server that was started.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};

mod bench;
mod conditions;
mod crowd;
mod differential;
mod drive;
mod duckdb;
mod floors;
mod http;
mod line;
mod options;
mod pacer;
mod payload;
mod peers;
mod process;
mod procfs;
mod report;
mod resp;
mod rows;
mod seed;
mod sqlite;
mod statistics;
mod wire;
mod zipf;

use options::Arguments;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether every row kept what it was given.
fn run(arguments: &Arguments) -> Result<bool> {
    raise_descriptor_limit().context("raise the limit of open files")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("make a runtime")?;
    runtime.block_on(async {
        let mut terminated = signal(SignalKind::terminate()).context("watch for signals")?;
        // The servers stop when the row is dropped.
        tokio::select! {
            outcome = rows::run(arguments.row, &arguments.options) => outcome,
            _ = terminated.recv() => anyhow::bail!("terminated"),
            _ = tokio::signal::ctrl_c() => anyhow::bail!("interrupted"),
        }
    })
}

/// A thousand sockets here and as many in each server, which inherits the limit.
fn raise_descriptor_limit() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit)?;
    Ok(())
}
