//! The Committer: one thread that makes everything durable, in batches that fill by themselves.
//!
//! Owns the channel to the log. While a commit runs, the next batch gathers; no timer delays one. What was only
//! buffered is synced beside it ([`super::syncer`]).
//! Never decides what is written.
//! Invariants: PT-2, LQ-2 (an entry is told only when its batch is durable at its level); one log, one thread.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use actix::Addr;
use tokio::sync::oneshot;

use super::awake;
use super::fatal::{Fatal, PanicGuard};
use super::inbox;
use super::syncer::{self, Owed};
use super::table::{CommitFailed, Committed, TableActor};
use super::topic_signals::TopicSignals;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::model::{Durability, TopicId, WriteAck};
use crate::storage::{CommitEntry, CommitLog, CommitReceipt, LogSync, TopicChange};

/// More than the router's credits plus whatever DDL and jobs can have under way, so that `try_send` never fails.
pub const CHANNEL_CAPACITY: usize = 8192;

/// One batch takes at most this many entries: bounds the memory and the time of one journal write.
const BATCH_ENTRIES: usize = 1024;

/// Behind a larger commit the next entries are there already, or a sleep costs each of them little.
const FEW: usize = 4;

/// One entry with the address of whoever waits for it.
pub(super) struct Submission {
    pub entry: CommitEntry,
    /// Durable with the entry, behind it: what topics are told of it.
    pub topics: Vec<TopicChange>,
    pub durability: Durability,
    pub then: Then,
}

/// Whom to tell.
pub(super) enum Then {
    /// The writer, at once: it waits on another thread than the table, and a hop between threads costs more than
    /// everything else it waits for but the fdatasync. Then the table, whose oldest entry in flight this is: tables
    /// submit in `_seq` order and are told in that order.
    Table(Addr<TableActor>, Answer),
    Reply(oneshot::Sender<Result<CommitReceipt>>),
}

/// What is owed to a writer, once its changes are durable.
pub(super) struct Answer {
    pub reply: oneshot::Sender<Result<WriteAck>>,
    pub ack: WriteAck,
}

impl Answer {
    fn give<T>(self, outcome: &Result<T>) {
        // Nobody waits any more: the changes are durable all the same.
        drop(self.reply.send(outcome.as_ref().map(|_| self.ack).map_err(Error::clone)));
    }
}

#[expect(clippy::large_enum_variant, reason = "nearly all are submissions: a box would be one more allocation a write")]
enum Message {
    Submit(Submission),
    Stop,
}

/// Hands entries to the committer. Cheap to clone.
#[derive(Clone)]
pub struct CommitterHandle {
    sender: SyncSender<Message>,
}

impl CommitterHandle {
    /// Where it fails, whoever waits is answered; the table is not told.
    ///
    /// # Errors
    /// `SHUTTING_DOWN` when the thread has ended, `BUSY` when the channel is full (more than the credits allow).
    pub(super) fn submit(&self, submission: Submission) -> Result<()> {
        let (error, back) = match self.sender.try_send(Message::Submit(submission)) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(back)) => (Error::Busy, back),
            Err(TrySendError::Disconnected(back)) => (Error::ShuttingDown, back),
        };
        if let Message::Submit(Submission { then: Then::Table(_, answer), .. }) = back {
            answer.give(&Err::<(), _>(error.clone()));
        }
        Err(error)
    }

    /// Makes one entry durable at [`Durability::Sync`].
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `SHUTTING_DOWN`, `BUSY`.
    pub async fn commit(&self, entry: CommitEntry) -> Result<CommitReceipt> {
        self.commit_at(entry, Durability::Sync).await
    }

    /// Makes one entry durable at a level.
    ///
    /// # Errors
    /// As [`CommitterHandle::commit`].
    pub async fn commit_at(&self, entry: CommitEntry, durability: Durability) -> Result<CommitReceipt> {
        self.begin(entry, durability)?.await.unwrap_or(Err(Error::StorageUnavailable))
    }

    /// Submits one entry now, before any that is submitted later; the answer comes when it is durable.
    pub(crate) fn begin(
        &self,
        entry: CommitEntry,
        durability: Durability,
    ) -> Result<oneshot::Receiver<Result<CommitReceipt>>> {
        let (reply, answer) = oneshot::channel();
        self.submit(Submission { entry, topics: Vec::new(), durability, then: Then::Reply(reply) })?;
        Ok(answer)
    }
}

/// The running thread.
pub struct Committer {
    thread: JoinHandle<()>,
    syncer: JoinHandle<()>,
    sender: SyncSender<Message>,
}

impl Committer {
    /// Spawns the threads: of the log, and of its sync, which buffered commits get within `sync_interval`. Consumers
    /// of topics wait at `signals`.
    ///
    /// # Errors
    /// `INTERNAL` where the operating system gives no thread.
    pub fn spawn(
        log: impl CommitLog + 'static,
        sync: impl LogSync + 'static,
        sync_interval: Duration,
        signals: Arc<TopicSignals>,
        metrics: Arc<Metrics>,
        fatal: Fatal,
    ) -> Result<(Self, CommitterHandle)> {
        let (sender, receiver) = sync_channel(CHANNEL_CAPACITY);
        let (syncer, owed) = syncer::spawn(sync, sync_interval, metrics.clone(), fatal.clone())?;
        let thread = std::thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || {
                let _guard = PanicGuard { fatal: fatal.clone(), what: "the committer panicked" };
                Loop { log, receiver, stopped: false, owed, look_out_until: None, signals, metrics, fatal }.run();
            })
            .map_err(Error::internal)?;
        Ok((Self { thread, syncer, sender: sender.clone() }, CommitterHandle { sender }))
    }

    /// Waits until everything submitted so far is durable and the threads have ended. Later submissions answer
    /// `SHUTTING_DOWN`.
    pub fn stop(self) {
        // Gone already: that is what was asked for.
        let _ = self.sender.send(Message::Stop);
        // In this order: the syncer ends when nothing more can be owed.
        for (thread, name) in [(self.thread, "committer"), (self.syncer, "syncer")] {
            if thread.join().is_err() {
                tracing::error!("the {name} had panicked");
            }
        }
    }
}

struct Loop<L> {
    log: L,
    receiver: Receiver<Message>,
    stopped: bool,
    owed: Owed,
    /// Behind a commit of few entries: until when to wait awake.
    look_out_until: Option<Instant>,
    signals: Arc<TopicSignals>,
    metrics: Arc<Metrics>,
    fatal: Fatal,
}

impl<L: CommitLog> Loop<L> {
    fn run(mut self) {
        let mut batch: Vec<Submission> = Vec::new();
        while self.gather(&mut batch) {
            self.commit(&mut batch);
        }
    }

    /// Waits for the first submission; takes what is there already. `false`: nothing more will come.
    fn gather(&mut self, batch: &mut Vec<Submission>) -> bool {
        if self.stopped {
            return false;
        }
        let mut next = self.look_out().or_else(|| self.receiver.recv().ok());
        while let Some(message) = next {
            match message {
                Message::Submit(submission) => batch.push(submission),
                Message::Stop => self.stopped = true,
            }
            let more = batch.len() < BATCH_ENTRIES && !self.stopped;
            next = if more { self.receiver.try_recv().ok() } else { None };
        }
        !batch.is_empty()
    }

    /// The next message, if it comes while it is worth waiting awake.
    fn look_out(&mut self) -> Option<Message> {
        let until = self.look_out_until.take()?;
        loop {
            match self.receiver.try_recv() {
                Ok(message) => return Some(message),
                Err(_) if Instant::now() >= until => return None,
                Err(_) => std::thread::yield_now(),
            }
        }
    }

    fn commit(&mut self, batch: &mut Vec<Submission>) {
        // One fdatasync serves all who need one; buffered entries in the same batch get it for free.
        let durability = batch.iter().map(|s| s.durability).max().unwrap_or_default();
        let few = batch.len() <= FEW;
        let mut entries = Vec::with_capacity(batch.len());
        let mut thens = Vec::with_capacity(batch.len());
        for submission in batch.drain(..) {
            entries.push(submission.entry);
            if !submission.topics.is_empty() {
                entries.push(CommitEntry::Topics(submission.topics));
            }
            thens.push(submission.then);
        }
        let begun = Instant::now();
        let outcome =
            if self.fatal.is_raised() { Err(Error::StorageUnavailable) } else { self.log.append(&entries, durability) };
        if outcome.is_ok() && durability == Durability::Buffered {
            self.owed.add();
        }
        let took = begun.elapsed();
        tell(thens, &outcome);
        // Behind the answers: nobody waits for a count.
        self.metrics.commit(entries.len(), durability.as_str(), took);
        if outcome.is_ok() {
            self.wake_consumers(&entries);
        }
        self.look_out_until = few.then(|| Instant::now() + awake::FOR_ENTRY);
        if outcome.is_err() {
            self.fatal.raise("a commit failed");
        }
    }
    /// What was appended to topics is there for whoever looks now.
    fn wake_consumers(&self, entries: &[CommitEntry]) {
        let changes = entries.iter().filter_map(|entry| match entry {
            CommitEntry::Topics(changes) => Some(changes),
            _ => None,
        });
        let topics: BTreeSet<TopicId> = changes.flatten().flat_map(TopicChange::appended).collect();
        topics.into_iter().for_each(|topic| self.signals.wake(topic));
    }
}

/// Answers each waiter, then tells each table once how many of its entries are durable.
fn tell(thens: Vec<Then>, outcome: &Result<CommitReceipt>) {
    let mut tables: Vec<(Addr<TableActor>, usize)> = Vec::new();
    for then in thens {
        match then {
            Then::Reply(reply) => {
                // Nobody waits any more: nothing to do.
                let _ = reply.send(outcome.clone());
            }
            Then::Table(table, answer) => {
                answer.give(outcome);
                match tables.iter_mut().find(|(t, _)| *t == table) {
                    Some((_, count)) => *count += 1,
                    None => tables.push((table, 1)),
                }
            }
        }
    }
    for (table, count) in tables {
        match outcome {
            Ok(_) => inbox::send(&table, Committed { count }),
            Err(_) => inbox::send(&table, CommitFailed),
        }
    }
}
