//! The syncer: one thread that makes buffered commits durable, beside the committer.
//!
//! Owns when: an interval after the first commit that is owed a sync, and before it ends. Idle, it sleeps.
//! Invariant: a buffered commit is synced at most an interval, and the time of a sync, after it was made (PT-2).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::fatal::{Fatal, PanicGuard};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::storage::LogSync;

/// The committer's end. The syncer ends when it is dropped.
pub(super) struct Owed {
    /// The syncer will look at what is appended by now.
    told: Arc<AtomicBool>,
    /// One place: a message goes only to a syncer that was not told.
    wake: SyncSender<()>,
}

impl Owed {
    /// A commit was appended and not synced.
    pub fn add(&self) {
        if !self.told.swap(true, Ordering::SeqCst) {
            // Full or gone: it is awake, or the process ends.
            let _ = self.wake.try_send(());
        }
    }
}

/// # Errors
/// `INTERNAL` where the operating system gives no thread.
pub(super) fn spawn(
    sync: impl LogSync + 'static,
    interval: Duration,
    metrics: Arc<Metrics>,
    fatal: Fatal,
) -> Result<(JoinHandle<()>, Owed)> {
    let (wake, owed) = sync_channel(1);
    let told = Arc::new(AtomicBool::new(false));
    let syncer = Syncer { sync, told: told.clone(), owed, interval, metrics, fatal };
    let thread = std::thread::Builder::new().name("syncer".to_owned()).spawn(move || syncer.run());
    Ok((thread.map_err(Error::internal)?, Owed { told, wake }))
}

struct Syncer<S> {
    sync: S,
    told: Arc<AtomicBool>,
    owed: Receiver<()>,
    interval: Duration,
    metrics: Arc<Metrics>,
    fatal: Fatal,
}

impl<S: LogSync> Syncer<S> {
    fn run(mut self) {
        let _guard = PanicGuard { fatal: self.fatal.clone(), what: "the syncer panicked" };
        while self.owed.recv().is_ok() {
            // Nobody sends while it is told; so this is the interval, or the end.
            let ended = self.owed.recv_timeout(self.interval) == Err(RecvTimeoutError::Disconnected);
            // In this order: whoever appends behind this look tells anew.
            self.told.store(false, Ordering::SeqCst);
            if self.fatal.is_raised() {
                return;
            }
            let begun = Instant::now();
            if self.sync.sync().is_err() {
                return self.fatal.raise("fdatasync failed");
            }
            self.metrics.journal_sync(begun.elapsed());
            if ended {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    /// Sends how far the commits were at each sync.
    struct Log {
        appended: Arc<AtomicU64>,
        synced: SyncSender<u64>,
        fails: bool,
    }

    impl LogSync for Log {
        fn sync(&mut self) -> Result<()> {
            self.synced.send(self.appended.load(Ordering::SeqCst)).unwrap();
            if self.fails { Err(Error::StorageUnavailable) } else { Ok(()) }
        }
    }

    #[test]
    fn every_buffered_commit_is_synced_also_those_of_the_end() {
        let appended = Arc::new(AtomicU64::new(0));
        let (synced, seen) = sync_channel(2000);
        let fatal = Fatal::new(|reason| panic!("{reason}"));
        let log = Log { appended: appended.clone(), synced, fails: false };
        let (thread, owed) = spawn(log, Duration::from_millis(1), Arc::default(), fatal).unwrap();
        let append = || {
            appended.fetch_add(1, Ordering::SeqCst);
            owed.add();
        };
        append();
        assert_eq!(seen.recv().unwrap(), 1);
        for _ in 0..1000 {
            append();
        }
        drop(owed);
        thread.join().unwrap();
        assert_eq!(seen.iter().last(), Some(1001));
    }

    #[test]
    fn a_sync_that_fails_is_fatal() {
        let (told, reason) = sync_channel(1);
        let fatal = Fatal::new(move |reason| told.send(reason.to_owned()).unwrap());
        let (synced, _seen) = sync_channel(1);
        let log = Log { appended: Arc::default(), synced, fails: true };
        let (thread, owed) = spawn(log, Duration::from_millis(1), Arc::default(), fatal).unwrap();
        owed.add();
        assert_eq!(reason.recv().unwrap(), "fdatasync failed");
        thread.join().unwrap();
    }
}
