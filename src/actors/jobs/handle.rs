//! What the rest of the server holds of the jobs: asks the actor, looks at the core.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::{Actor as _, Addr};
use tokio::sync::oneshot;

use super::super::inbox;
use super::messages::{CancelRunning, Drain, Kill, Submit, SubmitOwed, WaitFor};
use super::{JobActor, JobParts};
use crate::error::{Error, Result};
use crate::jobs::{Job, JobCore, JobId, JobParams};

/// How long cancelled bodies may take to hear of it, at the server's end.
const LAST_PATIENCE: Duration = Duration::from_secs(5);

/// Cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    actor: Addr<JobActor>,
    core: Arc<Mutex<JobCore>>,
}

impl Jobs {
    /// Takes up the stored jobs, and starts those that may start. Needs a running actix system.
    ///
    /// # Errors
    /// `INTERNAL` where the operating system gives no threads.
    pub fn start(parts: JobParts, stored: Vec<Job>) -> Result<Self> {
        let (core, restored) = JobCore::restore(parts.config.clone(), stored, parts.clock.now_us());
        let core = Arc::new(Mutex::new(core));
        let actor = JobActor::new(core.clone(), restored, parts)?.start();
        Ok(Self { actor, core })
    }

    /// Takes a job in. The same work that is not finished yet is not taken twice: the answer is its id.
    ///
    /// # Errors
    /// `BUSY` where `jobs.max_queued` wait, `SHUTTING_DOWN`, `STORAGE_UNAVAILABLE`.
    pub async fn submit(&self, params: JobParams) -> Result<JobId> {
        let (reply, answer) = oneshot::channel();
        inbox::send(&self.actor, Submit { params, reply });
        answer.await.unwrap_or(Err(Error::ShuttingDown))
    }

    /// Takes in work that stands in the store anyway: it is not waited for that the job is durable as well, and the next
    /// round asks again where the queue was full. Not once it has ended since the server's start: then it was killed, or
    /// fails.
    pub async fn submit_owed(&self, params: JobParams) {
        let (taken, answer) = oneshot::channel();
        inbox::send(&self.actor, SubmitOwed { params, taken });
        // An error: the server stops, and the next start looks for what is owed.
        let _ = answer.await;
    }

    /// Cancels a job, whatever it does; the answer comes when that is durable. Its body ends at its next step.
    ///
    /// # Errors
    /// `NOT_FOUND`; `INVALID_INPUT` where it has finished; `STORAGE_UNAVAILABLE`.
    pub async fn kill(&self, id: &str, reason: String) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        inbox::send(&self.actor, Kill { id: id.to_owned(), reason, reply });
        answer.await.unwrap_or(Err(Error::ShuttingDown))
    }

    /// The job that does this work and has not finished yet.
    pub fn unfinished(&self, params: &JobParams) -> Option<JobId> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner).unfinished(params).map(|job| job.job_id.clone())
    }

    /// Cancels the jobs that do such work, and waits until their bodies have ended.
    pub async fn call_off(&self, which: impl Fn(&JobParams) -> bool, reason: &str) {
        for job in self.list().into_iter().filter(|job| !job.status.is_finished() && which(&job.params)) {
            // An error: it has finished meanwhile, or the server stops.
            let _ = self.kill(job.job_id.as_str(), reason.to_owned()).await;
            self.finished(&job.job_id).await;
        }
    }

    /// Waits until the job has finished, well or not, or the server stops.
    pub async fn finished(&self, id: &JobId) {
        let (reply, answer) = oneshot::channel();
        inbox::send(&self.actor, WaitFor { id: id.clone(), reply });
        // An error: the actor has ended.
        let _ = answer.await;
    }

    /// All jobs that are remembered, in the order they came.
    pub fn list(&self) -> Vec<Job> {
        let mut jobs: Vec<Job> = self.core.lock().unwrap_or_else(PoisonError::into_inner).jobs().cloned().collect();
        jobs.sort_by(|a, b| (a.created_at, &a.job_id).cmp(&(b.created_at, &b.job_id)));
        jobs
    }

    /// Nothing is taken or started any more.
    pub fn begin_stop(&self) {
        self.core.lock().unwrap_or_else(PoisonError::into_inner).stop();
    }

    /// Waits until running jobs have ended, and says for which; those that take longer than `patience` are cancelled. The
    /// actor ends with the last.
    pub async fn stop(&self, patience: Duration) {
        self.begin_stop();
        for job in self.running() {
            let message = job.message.as_deref().unwrap_or_default();
            tracing::info!(job = %job.job_id, kind = job.params.kind().as_str(), message, "waiting for a job to finish");
        }
        let (reply, mut drained) = oneshot::channel();
        inbox::send(&self.actor, Drain { reply });
        if tokio::time::timeout(patience, &mut drained).await.is_err() {
            self.cancel_running("the server stopped, and it took longer than jobs.shutdown_timeout").await;
            if tokio::time::timeout(LAST_PATIENCE, drained).await.is_err() {
                tracing::warn!("a cancelled job does not end");
            }
        }
    }

    /// Cancels every running job; returns when that is durable.
    pub async fn cancel_running(&self, reason: &str) {
        let (reply, answer) = oneshot::channel();
        inbox::send(&self.actor, CancelRunning { reason: reason.to_owned(), reply });
        // An error: the actor has ended, and nothing runs.
        let _ = answer.await;
    }

    fn running(&self) -> Vec<Job> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner).running().cloned().collect()
    }
}
