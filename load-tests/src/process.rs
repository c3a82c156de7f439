//! A server that this tool has started: its process, from spawn to stop.
//!
//! Owns the child and stops it, by its id, at the latest when dropped. Never touches a process it did not start.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::procfs;

const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Short beside a start, which is timed.
const LOOK: Duration = Duration::from_millis(2);
const LOG_TAIL_BYTES: usize = 2_000;

#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
    /// What asks this server to stop soon and in good order.
    stop_signal: Signal,
    settings: String,
}

impl Process {
    /// Starts `command` with its output in a file of `folder`.
    pub(crate) fn spawn(name: &'static str, mut command: Command, folder: &Path, stop_signal: Signal) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let errors = output.try_clone().context("share the log file")?;
        let settings = command.get_args().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("start {name} ({})", command.get_program().to_string_lossy()))?;
        Ok(Self { name, child, log, stop_signal, settings })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The arguments it was started with.
    pub(crate) fn settings(&self) -> &str {
        &self.settings
    }

    /// Asks `ready` again and again until it is, the process ends, or `within` is over.
    pub(crate) async fn wait_until<F: Future<Output = bool>>(
        &mut self,
        within: Duration,
        mut ready: impl FnMut() -> F,
    ) -> Result<()> {
        let give_up = Instant::now() + within;
        loop {
            if ready().await {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait().context("ask after the process")? {
                bail!("{} ended ({status}) before it was ready:\n{}", self.name, self.log_tail());
            }
            if Instant::now() > give_up {
                bail!("{} was not ready within {within:?}:\n{}", self.name, self.log_tail());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The end of what it printed: often why.
    pub(crate) fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&text[text.len().saturating_sub(LOG_TAIL_BYTES)..]).into_owned()
    }

    /// kill -9, of its children too: what a power loss of the process is. Returns when they are gone.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let children = procfs::tree(&procfs::processes()?, self.pid());
        self.child.kill().context("kill the process")?;
        self.child.wait().context("wait for the killed process")?;
        for pid in children.into_iter().filter(|pid| *pid != self.pid()) {
            // They see their parent's end and follow it; memory that they share has to be given back before a restart.
            let gone = || !Path::new(&format!("/proc/{pid}")).exists();
            let give_up = Instant::now() + STOP_WITHIN;
            while !gone() {
                ensure!(Instant::now() < give_up, "process {pid} of {} outlives it", self.name);
                std::thread::sleep(LOOK);
            }
        }
        Ok(())
    }

    /// Asks it to end in good order, and kills it when it takes too long.
    pub(crate) fn stop(&mut self) -> Result<()> {
        if self.child.try_wait().context("ask after the process")?.is_some() {
            return Ok(());
        }
        kill_process(Pid::from_child(&self.child), self.stop_signal).context("signal the process")?;
        let give_up = Instant::now() + STOP_WITHIN;
        while Instant::now() < give_up {
            if self.child.try_wait().context("ask after the process")?.is_some() {
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
        self.child.kill().context("kill the process")?;
        self.child.wait().context("wait for the killed process")?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("could not stop {} (pid {}): {error:#}", self.name, self.child.id());
        }
    }
}

/// An account without rights for servers that refuse to run as root; `None` where we are not root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    user: u32,
    group: u32,
}

impl Account {
    pub(crate) fn for_servers() -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let accounts = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
        let found = ["postgres", "nobody"].iter().find_map(|name| account_of(&accounts, name));
        found.map(Some).context("neither of the accounts postgres and nobody exists")
    }

    pub(crate) fn apply(self, command: &mut Command) {
        command.uid(self.user).gid(self.group);
    }

    pub(crate) fn own(self, folder: &Path) -> Result<()> {
        std::os::unix::fs::chown(folder, Some(self.user), Some(self.group))
            .with_context(|| format!("hand {} over", folder.display()))
    }
}

fn account_of(accounts: &str, name: &str) -> Option<Account> {
    accounts.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        if fields.first() != Some(&name) {
            return None;
        }
        Some(Account { user: fields.get(2)?.parse().ok()?, group: fields.get(3)?.parse().ok()? })
    })
}

/// A port of loopback that was free a moment ago, for servers that cannot be told to choose one.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("ask for a free port")?;
    Ok(listener.local_addr().context("ask for a free port")?.port())
}

/// The first line that `program --version` prints.
pub(crate) fn version_of(program: &Path) -> Result<String> {
    let output =
        Command::new(program).arg("--version").output().with_context(|| format!("run {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_their_whole_name() {
        let accounts = "root:x:0:0::/root:/bin/sh\npostgres2:x:7:8::/:/bin/sh\npostgres:x:101:104:a:/var:/bin/sh\n";
        let found = account_of(accounts, "postgres").expect("it is there");
        assert_eq!((found.user, found.group), (101, 104));
        assert!(account_of(accounts, "nobody").is_none());
    }
}
