//! The jobs' actor. Shell of [`JobCore`]: stores what it says, runs bodies on threads of their own, tells who waits.
//!
//! Owns the threads of the bodies, and who waits for a job. A job's record is durable before its body starts, and before
//! anybody is told how it ended.
//! Never decides which job runs or what becomes of it, and knows no kind: the bodies are [`JobBodies`]', whose one home
//! is `database/jobs.rs`.
//! Start at [`Jobs`], which everybody else holds.

mod handle;
mod messages;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::fut::{ActorFutureExt as _, WrapFuture as _};
use actix::{Actor, ActorContext as _, Addr, AsyncContext as _, Context, SpawnHandle};
use async_trait::async_trait;
use futures_util::FutureExt as _;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::committer::CommitterHandle;
use super::fatal::{Fatal, PanicGuard};
use super::inbox;
use crate::config::JobsConfig;
use crate::error::{Error, Result};
use crate::jobs::{Job, JobCore, JobId, JobOutcome, JobParams, JobState, Submitted};
use crate::model::Durability;
use crate::sql::bind::IdSource;
use crate::storage::{CommitEntry, RecordKind, RecordWrite};
use crate::time::Clock;

pub use handle::Jobs;
use messages::{BodyEnded, Progress};

/// A body that says more often how far it is is not heard: `system.jobs` is for people.
const PROGRESS_EVERY_US: i64 = 250_000;

/// How often the history is looked through.
const TRIM_ROUND: Duration = Duration::from_secs(60);

/// The work of each kind of job.
#[async_trait]
pub trait JobBodies: Send + Sync + 'static {
    /// Runs on a thread that other bodies share: what blocks goes to `tokio::task::spawn_blocking`. May be cut off at any
    /// point by the end of the process, and begin anew where its kind says so.
    ///
    /// # Errors
    /// The job is tried again later, as often as it may be.
    async fn run(&self, params: &JobParams, control: &JobControl) -> Result<JobDone>;
}

/// How a body ends well. The text is for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobDone {
    Completed(String),
    /// There was nothing to do.
    Skipped(String),
}

/// What a body is told while it runs, and can say.
pub struct JobControl {
    id: JobId,
    actor: Addr<JobActor>,
    clock: Clock,
    cancelled: Arc<AtomicBool>,
    last_said: AtomicI64,
}

impl JobControl {
    /// Whose body it is.
    pub fn id(&self) -> &JobId {
        &self.id
    }

    /// Asked between two steps, as often as one wants a kill to be heard.
    ///
    /// # Errors
    /// `ABORTED`: the job was cancelled; the body ends with it.
    pub fn check(&self) -> Result<()> {
        self.cancelled().check()
    }

    /// The same question, for whoever works on another thread.
    pub fn cancelled(&self) -> Cancelled {
        Cancelled(self.cancelled.clone())
    }

    /// How far it is, now and then.
    pub fn say(&self, progress: impl FnOnce() -> String) {
        let now = self.clock.now_us();
        let last = self.last_said.load(Ordering::Relaxed);
        if now.saturating_sub(last) >= PROGRESS_EVERY_US {
            self.last_said.store(now, Ordering::Relaxed);
            inbox::send(&self.actor, Progress { id: self.id.clone(), message: progress() });
        }
    }
}

/// Whether a job is cancelled.
#[derive(Clone)]
pub struct Cancelled(Arc<AtomicBool>);

impl Cancelled {
    /// # Errors
    /// `ABORTED`, as [`JobControl::check`].
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Acquire) { Err(Error::Aborted) } else { Ok(()) }
    }
}

/// What the actor is made of.
pub struct JobParts {
    pub config: JobsConfig,
    pub committer: CommitterHandle,
    pub clock: Clock,
    pub ids: Arc<IdSource>,
    pub bodies: Arc<dyn JobBodies>,
    pub fatal: Fatal,
}

pub(super) struct JobActor {
    /// Changed here only, but for the word to stop; others look at it.
    core: Arc<Mutex<JobCore>>,
    parts: JobParts,
    threads: Threads,
    /// To be stored at the start.
    restored: Vec<Job>,
    /// Tells running bodies that they are cancelled.
    cancels: HashMap<JobId, Arc<AtomicBool>>,
    waiters: HashMap<JobId, Vec<oneshot::Sender<()>>>,
    /// Records on their way to the disk.
    storing: usize,
    /// Who waits for the end of it all.
    drained: Vec<oneshot::Sender<()>>,
    alarm: Option<SpawnHandle>,
    _guard: PanicGuard,
}

/// The bodies' runtime. Dropped on another runtime's thread it would block it, which tokio answers with a panic.
struct Threads(Option<Runtime>);

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl JobActor {
    fn new(core: Arc<Mutex<JobCore>>, restored: Vec<Job>, parts: JobParts) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            // One a body, and one for what that one waits for: local files are read in a blocking task of their own.
            .max_blocking_threads(parts.config.max_concurrent.saturating_mul(2))
            .thread_name("job")
            .enable_time()
            .build()
            .map_err(Error::internal)?;
        let guard = PanicGuard { fatal: parts.fatal.clone(), what: "the jobs' actor panicked" };
        Ok(Self {
            core,
            parts,
            threads: Threads(Some(runtime)),
            restored,
            cancels: HashMap::new(),
            waiters: HashMap::new(),
            storing: 0,
            drained: Vec::new(),
            alarm: None,
            _guard: guard,
        })
    }

    fn core(&self) -> MutexGuard<'_, JobCore> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_us(&self) -> i64 {
        self.parts.clock.now_us()
    }

    /// Records go to the disk in the order of these calls; `then` comes when they are there, or will never be.
    fn store(
        &mut self,
        records: Result<Vec<RecordWrite>>,
        ctx: &mut Context<Self>,
        then: impl FnOnce(&mut Self, &mut Context<Self>, Result<()>) + 'static,
    ) {
        let begun =
            records.and_then(|records| self.parts.committer.begin(CommitEntry::Records(records), Durability::Sync));
        self.storing += 1;
        let stored = async move { begun?.await.unwrap_or(Err(Error::StorageUnavailable)).map(drop) };
        ctx.spawn(stored.into_actor(self).map(move |outcome: Result<()>, actor, ctx| {
            actor.storing -= 1;
            if let Err(error) = &outcome {
                tracing::warn!(%error, "a job's record is not stored");
            }
            then(actor, ctx, outcome);
            actor.tell_drained(ctx);
        }));
    }

    /// `answer` comes when the job's record is durable, or never will be.
    fn submit(&mut self, params: JobParams, ctx: &mut Context<Self>, answer: impl FnOnce(Result<JobId>) + 'static) {
        let now = self.now_us();
        let (uuid, kind) = (self.parts.ids.uuid_v7(now), params.kind());
        let submitted = self.core().submit(params, |params| JobId::new(params.kind(), uuid), now);
        match submitted {
            Ok(Submitted::New(job)) => {
                let record = record(&job).map(|record| vec![record]);
                self.store(record, ctx, move |actor, ctx, stored| {
                    match stored {
                        Ok(()) => actor.core().stored(&job.job_id),
                        Err(_) => actor.core().forget(&job.job_id),
                    }
                    answer(stored.map(|()| job.job_id));
                    actor.pump(ctx);
                });
            }
            Ok(Submitted::Existing(id)) => answer(Ok(id)),
            Err(error) => {
                tracing::warn!(kind = kind.as_str(), %error, "a job is not taken");
                answer(Err(error));
            }
        }
    }

    /// Starts whoever may start.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        // One moment for both questions: a pause that ended between two would be over for the one, and not for the other.
        let now = self.now_us();
        loop {
            let next = self.core().start_next(now);
            let Some(job) = next else { break };
            let record = record(&job).map(|record| vec![record]);
            self.store(record, ctx, move |actor, ctx, stored| match stored {
                Ok(()) => actor.launch(job, ctx),
                Err(error) => actor.body_ended(&job.job_id, failed(&error), ctx),
            });
        }
        if let Some(alarm) = self.alarm.take() {
            ctx.cancel_future(alarm);
        }
        let due = self.core().next_due(now);
        self.alarm = due.map(|due| {
            let pause = Duration::from_micros(due.saturating_sub(now).unsigned_abs());
            ctx.run_later(pause, |actor, ctx| actor.pump(ctx))
        });
    }

    /// The job's record says that it runs.
    fn launch(&mut self, job: Job, ctx: &mut Context<Self>) {
        let id = job.job_id.clone();
        let cancelled = self.core().get(&id).is_none_or(|job| job.status != JobState::Running);
        let Some(runtime) = self.threads.0.as_ref().filter(|_| !cancelled) else {
            return self.body_ended(&id, JobOutcome::Skipped("cancelled before it began".to_owned()), ctx);
        };
        tracing::debug!(job = %id, kind = job.params.kind().as_str(), "job runs");
        let cancelled = Arc::new(AtomicBool::new(false));
        let actor = ctx.address();
        let control = JobControl {
            id: id.clone(),
            actor: actor.clone(),
            clock: self.parts.clock.clone(),
            cancelled: cancelled.clone(),
            last_said: AtomicI64::new(i64::MIN),
        };
        let bodies = self.parts.bodies.clone();
        self.cancels.insert(id.clone(), cancelled);
        runtime.spawn(async move {
            let ended = AssertUnwindSafe(bodies.run(&job.params, &control)).catch_unwind().await;
            let outcome = match ended {
                Ok(Ok(JobDone::Completed(message))) => JobOutcome::Completed(message),
                Ok(Ok(JobDone::Skipped(message))) => JobOutcome::Skipped(message),
                Ok(Err(error)) => failed(&error),
                // The log has where; a further try would end there as well.
                Err(_) => JobOutcome::Hopeless {
                    message: "it panicked; the server's log says more".to_owned(),
                    trace: "a panic".to_owned(),
                },
            };
            inbox::send(&actor, BodyEnded { id, outcome });
        });
    }

    fn body_ended(&mut self, id: &JobId, outcome: JobOutcome, ctx: &mut Context<Self>) {
        self.cancels.remove(id);
        let ended = self.core().ended(id, outcome, self.now_us());
        if let Some(job) = ended {
            let (kind, status) = (job.params.kind().as_str(), job.status);
            let message = job.message.as_deref().unwrap_or_default();
            match status {
                JobState::Failed | JobState::Retrying => {
                    tracing::warn!(job = %id, kind, %status, message, "job failed")
                }
                _ => tracing::info!(job = %id, kind, %status, message, "job ended"),
            }
            let (record, id) = (record(&job).map(|record| vec![record]), id.clone());
            self.store(record, ctx, move |actor, _, _| {
                if status.is_finished() {
                    actor.tell_waiters(&id);
                }
            });
        }
        self.trim(ctx);
        self.pump(ctx);
        self.tell_drained(ctx);
    }

    fn trim(&mut self, ctx: &mut Context<Self>) {
        let gone = self.core().trim(self.now_us());
        if !gone.is_empty() {
            let removal = |id: JobId| RecordWrite { kind: RecordKind::Job, key: id.to_string(), value: None };
            // Where it fails, they are removed after the next start.
            self.store(Ok(gone.into_iter().map(removal).collect()), ctx, |_, _, _| {});
        }
    }

    /// Stores what was cancelled, and tells their bodies; `then` comes when it is durable.
    fn cancelled(&mut self, jobs: &[Job], ctx: &mut Context<Self>, then: impl FnOnce(Result<()>) + 'static) {
        let ids: Vec<JobId> = jobs.iter().map(|job| job.job_id.clone()).collect();
        for job in jobs {
            let (id, message) = (&job.job_id, job.message.as_deref().unwrap_or_default());
            tracing::info!(job = %id, kind = job.params.kind().as_str(), message, "job cancelled");
            if let Some(flag) = self.cancels.get(id) {
                flag.store(true, Ordering::Release);
            }
        }
        self.store(jobs.iter().map(record).collect(), ctx, move |actor, _, stored| {
            ids.iter().for_each(|id| actor.tell_waiters(id));
            then(stored);
        });
        self.pump(ctx);
    }

    fn tell_waiters(&mut self, id: &JobId) {
        for waiter in self.waiters.remove(id).unwrap_or_default() {
            // Nobody waits any more: nothing to do.
            let _ = waiter.send(());
        }
    }

    /// The actor ends with its last job: its bodies' hold on the store goes with it.
    fn tell_drained(&mut self, ctx: &mut Context<Self>) {
        if self.drained.is_empty() || self.storing > 0 || self.core().running().next().is_some() {
            return;
        }
        for waiter in self.drained.drain(..) {
            let _ = waiter.send(());
        }
        ctx.stop();
    }
}

impl Actor for JobActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let restored = std::mem::take(&mut self.restored);
        if !restored.is_empty() {
            self.store(restored.iter().map(record).collect(), ctx, |_, _, _| {});
        }
        ctx.run_interval(TRIM_ROUND, |actor, ctx| actor.trim(ctx));
        self.trim(ctx);
        self.pump(ctx);
    }
}

fn record(job: &Job) -> Result<RecordWrite> {
    Ok(RecordWrite { kind: RecordKind::Job, key: job.job_id.to_string(), value: Some(job.encode()?) })
}

/// The error and what is behind it: jobs are shown to administrators only.
fn failed(error: &Error) -> JobOutcome {
    let mut trace = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        trace += &format!("\ncaused by: {cause}");
        source = cause.source();
    }
    JobOutcome::Failed { message: error.to_string(), trace }
}

#[cfg(test)]
mod tests;
