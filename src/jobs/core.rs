//! All jobs of this server: who is next, who runs, what became of each.
//!
//! Owns every decision about a job. Each step that changes a job answers with the record to store.
//! Never runs a body: it says who may start, and is told how that ended.
//! Start at [`JobCore::submit`], then [`JobCore::start_next`] and [`JobCore::ended`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::job::{Job, JobId, JobOutcome, JobState, micros};
use super::kind::JobParams;
use crate::config::JobsConfig;
use crate::error::{Error, Result};

/// What becomes of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// To be stored; then [`JobCore::stored`].
    New(Job),
    /// The same work is not finished yet.
    Existing(JobId),
}

/// Who goes first: the higher priority, then the earlier one.
type Turn = (Reverse<i32>, u64);

#[derive(Debug)]
pub struct JobCore {
    config: JobsConfig,
    jobs: HashMap<JobId, Entry>,
    /// Queued and retrying jobs. At most `jobs.max_queued`, new ones included; at the bound a submission is `BUSY`.
    waiting: BTreeMap<Turn, JobId>,
    /// New jobs.
    unstored: usize,
    /// Bodies that run, by the key of their work. A cancelled job's body counts until it has ended.
    bodies: HashMap<String, JobId>,
    /// The newest job of each key.
    newest: HashMap<String, JobId>,
    /// Finished jobs, oldest end first.
    history: BTreeSet<(i64, JobId)>,
    last_number: u64,
    stopping: bool,
}

#[derive(Debug)]
struct Entry {
    job: Job,
    turn: Turn,
    /// It had finished before this process began.
    of_before: bool,
}

impl JobCore {
    /// Takes up what is stored. A job that ran goes back into the queue if its kind may begin anew, which counts as a
    /// try; otherwise it has failed. Answers with the records that change by this.
    pub fn restore(config: JobsConfig, mut stored: Vec<Job>, now_us: i64) -> (Self, Vec<Job>) {
        let mut core = Self {
            config,
            jobs: HashMap::new(),
            waiting: BTreeMap::new(),
            unstored: 0,
            bodies: HashMap::new(),
            newest: HashMap::new(),
            history: BTreeSet::new(),
            last_number: 0,
            stopping: false,
        };
        stored.sort_by(|a, b| (a.created_at, &a.job_id).cmp(&(b.created_at, &b.job_id)));
        let mut changed = Vec::new();
        for mut job in stored {
            if job.status == JobState::Running {
                let message = "the server stopped while it ran".to_owned();
                if job.resumable {
                    let backoff = core.config.retry_backoff;
                    job.try_failed(message.clone(), message, backoff, now_us);
                } else {
                    job.step(JobState::Failed, Some(message), now_us);
                }
                changed.push(job.clone());
            }
            core.insert(job, true);
        }
        (core, changed)
    }

    /// Takes a job in.
    ///
    /// # Errors
    /// `BUSY` where `jobs.max_queued` wait, `SHUTTING_DOWN`.
    pub fn submit(
        &mut self,
        params: JobParams,
        id: impl FnOnce(&JobParams) -> JobId,
        now_us: i64,
    ) -> Result<Submitted> {
        if let Some(Entry { job, .. }) = self.newest(&params).filter(|entry| !entry.job.status.is_finished()) {
            return Ok(Submitted::Existing(job.job_id.clone()));
        }
        if self.stopping {
            return Err(Error::ShuttingDown);
        }
        if self.waiting.len() + self.unstored >= self.config.max_queued {
            return Err(Error::Busy);
        }
        let job = Job::new(id(&params), params, self.config.max_retries, now_us);
        self.insert(job.clone(), false);
        Ok(Submitted::New(job))
    }

    /// The job that does this work and has not finished yet.
    pub fn unfinished(&self, params: &JobParams) -> Option<&Job> {
        self.newest(params).map(|entry| &entry.job).filter(|job| !job.status.is_finished())
    }

    /// A new job's record is on disk: it waits for its turn.
    pub fn stored(&mut self, id: &JobId) {
        if let Some(Entry { job, turn, .. }) = self.jobs.get_mut(id)
            && job.status == JobState::New
        {
            job.status = JobState::Queued;
            self.unstored -= 1;
            self.waiting.insert(*turn, id.clone());
        }
    }

    /// A new job's record did not get to the disk: there is no such job.
    pub fn forget(&mut self, id: &JobId) {
        if self.jobs.get(id).is_some_and(|entry| entry.job.status == JobState::New) {
            self.unstored -= 1;
            self.remove(id);
        }
    }

    /// The next job that may run: its record is to be stored, then its body started.
    pub fn start_next(&mut self, now_us: i64) -> Option<Job> {
        if self.stopping || self.bodies.len() >= self.config.max_concurrent {
            return None;
        }
        let ready = |id: &JobId| {
            let job = &self.jobs[id].job;
            job.not_before <= now_us && !self.bodies.contains_key(&job.params.idempotency_key())
        };
        let (turn, id) = self.waiting.iter().find(|(_, id)| ready(id)).map(|(turn, id)| (*turn, id.clone()))?;
        self.waiting.remove(&turn);
        let job = &mut self.jobs.get_mut(&id)?.job;
        job.step(JobState::Running, None, now_us);
        self.bodies.insert(job.params.idempotency_key(), id);
        Some(job.clone())
    }

    /// When the next pause ends: then [`JobCore::start_next`] may find somebody though nothing else happened.
    pub fn next_due(&self, now_us: i64) -> Option<i64> {
        self.waiting.values().map(|id| self.jobs[id].job.not_before).filter(|due| *due > now_us).min()
    }

    /// A running body says how far it is. In memory: the next step stores it.
    pub fn progress(&mut self, id: &JobId, message: String, now_us: i64) {
        if let Some(Entry { job, .. }) = self.jobs.get_mut(id)
            && job.status == JobState::Running
        {
            job.step(JobState::Running, Some(message), now_us);
        }
    }

    /// A body has ended. `None`: its job was cancelled meanwhile, and stays so.
    pub fn ended(&mut self, id: &JobId, outcome: JobOutcome, now_us: i64) -> Option<Job> {
        self.bodies.retain(|_, body| body != id);
        let Entry { job, turn, .. } = self.jobs.get_mut(id)?;
        if job.status != JobState::Running {
            return None;
        }
        match outcome {
            JobOutcome::Completed(message) => job.step(JobState::Completed, Some(message), now_us),
            JobOutcome::Skipped(message) => job.step(JobState::Skipped, Some(message), now_us),
            JobOutcome::Failed { message, trace } => {
                job.try_failed(message, trace, self.config.retry_backoff, now_us);
            }
            JobOutcome::Hopeless { message, trace } => {
                job.exception_trace = Some(trace);
                job.step(JobState::Failed, Some(message), now_us);
            }
        }
        let job = job.clone();
        if job.status.is_finished() {
            self.history.insert((now_us, id.clone()));
        } else {
            self.waiting.insert(*turn, id.clone());
        }
        Some(job)
    }

    /// Cancels one job, whatever it does. Its body, where it runs, is to be told.
    ///
    /// # Errors
    /// `NOT_FOUND`; `INVALID_INPUT` where the job has finished.
    pub fn kill(&mut self, id: &str, reason: &str, now_us: i64) -> Result<Job> {
        let unknown = || Error::NotFound(format!("Job '{id}' not found"));
        let (id, entry) = self.jobs.get_key_value(id).ok_or_else(unknown)?;
        let (id, status) = (id.clone(), entry.job.status);
        if status.is_finished() {
            return Err(Error::InvalidInput(format!("Job '{id}' has finished already: {status}")));
        }
        self.cancel(&id, reason, now_us).ok_or_else(unknown)
    }

    /// Cancels the chosen ones of the jobs that have not finished.
    pub fn cancel_where(&mut self, chosen: impl Fn(&Job) -> bool, reason: &str, now_us: i64) -> Vec<Job> {
        let wanted = |entry: &&Entry| !entry.job.status.is_finished() && chosen(&entry.job);
        let ids: Vec<JobId> = self.jobs.values().filter(wanted).map(|entry| entry.job.job_id.clone()).collect();
        ids.iter().filter_map(|id| self.cancel(id, reason, now_us)).collect()
    }

    /// Nothing is taken or started any more.
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    /// Jobs whose bodies run.
    pub fn running(&self) -> impl Iterator<Item = &Job> {
        self.bodies.values().filter_map(|id| self.get(id))
    }

    /// Forgets what finished longer ago than `jobs.history_retention`, and the oldest above `jobs.history_entries`.
    /// Answers with the records to remove.
    pub fn trim(&mut self, now_us: i64) -> Vec<JobId> {
        let until = now_us.saturating_sub(micros(self.config.history_retention));
        let mut gone = Vec::new();
        while let Some((ended_at, id)) = self.history.first().cloned()
            && (ended_at <= until || self.history.len() > self.config.history_entries)
        {
            self.history.remove(&(ended_at, id.clone()));
            self.remove(&id);
            gone.push(id);
        }
        gone
    }

    pub fn get(&self, id: &JobId) -> Option<&Job> {
        self.jobs.get(id).map(|entry| &entry.job)
    }

    /// All that is known, in no order.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values().map(|entry| &entry.job)
    }

    /// Did this work end since the server's start, well or not? Then nothing but a statement starts it again.
    pub fn has_ended(&self, params: &JobParams) -> bool {
        self.newest(params).is_some_and(|entry| entry.job.status.is_finished() && !entry.of_before)
    }

    fn newest(&self, params: &JobParams) -> Option<&Entry> {
        self.newest.get(&params.idempotency_key()).and_then(|id| self.jobs.get(id))
    }

    fn insert(&mut self, job: Job, of_before: bool) {
        self.last_number += 1;
        let turn = (Reverse(job.priority), self.last_number);
        let id = job.job_id.clone();
        match job.status {
            JobState::New => self.unstored += 1,
            JobState::Queued | JobState::Retrying | JobState::Running => {
                self.waiting.insert(turn, id.clone());
            }
            JobState::Completed | JobState::Failed | JobState::Cancelled | JobState::Skipped => {
                self.history.insert((job.finished_at.unwrap_or(job.updated_at), id.clone()));
            }
        }
        self.newest.insert(job.params.idempotency_key(), id.clone());
        let of_before = of_before && job.status.is_finished();
        self.jobs.insert(id, Entry { job, turn, of_before });
    }

    fn remove(&mut self, id: &JobId) {
        if let Some(Entry { job, .. }) = self.jobs.remove(id) {
            let key = job.params.idempotency_key();
            if self.newest.get(&key) == Some(id) {
                self.newest.remove(&key);
            }
        }
    }

    fn cancel(&mut self, id: &JobId, reason: &str, now_us: i64) -> Option<Job> {
        let Entry { job, turn, .. } = self.jobs.get_mut(id)?;
        if job.status == JobState::New {
            self.unstored -= 1;
        }
        self.waiting.remove(turn);
        job.step(JobState::Cancelled, Some(reason.to_owned()), now_us);
        self.history.insert((now_us, id.clone()));
        Some(job.clone())
    }
}

#[cfg(test)]
mod tests;
