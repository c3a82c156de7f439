//! One job: its identity, its state, its record.
//!
//! Owns what is stored of a job (JSON, times in microseconds since the Unix epoch) and the steps of its life.
//! Never decides when a step is taken: that is [`JobCore`](super::JobCore)'s.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::kind::{JobKind, JobParams};
use crate::error::{Error, Result};

/// The longest pause between two tries.
const BACKOFF_MAX: Duration = Duration::from_secs(5 * 60);

/// The prefix of the job's kind and a UUID of version 7: `CL-0197…`. Text that names no job is only unknown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(Arc<str>);

impl JobId {
    pub fn new(kind: JobKind, uuid: Uuid) -> Self {
        Self(format!("{}-{uuid}", kind.prefix()).into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `None` in text that names no job.
    pub fn uuid(&self) -> Option<Uuid> {
        Uuid::parse_str(self.0.split_once('-')?.1).ok()
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for JobId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Taken, and not on disk yet.
    New,
    Queued,
    Running,
    /// A try failed; the next one comes after a pause.
    Retrying,
    Completed,
    Failed,
    Cancelled,
    /// There was nothing to do.
    Skipped,
}

impl JobState {
    pub fn as_str(self) -> &'static str {
        match self {
            JobState::New => "new",
            JobState::Queued => "queued",
            JobState::Running => "running",
            JobState::Retrying => "retrying",
            JobState::Completed => "completed",
            JobState::Failed => "failed",
            JobState::Cancelled => "cancelled",
            JobState::Skipped => "skipped",
        }
    }

    /// For good?
    pub fn is_finished(self) -> bool {
        match self {
            JobState::New | JobState::Queued | JobState::Running | JobState::Retrying => false,
            JobState::Completed | JobState::Failed | JobState::Cancelled | JobState::Skipped => true,
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a body ended; the text becomes the job's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobOutcome {
    Completed(String),
    Skipped(String),
    /// It is tried again, as often as the job may be. `trace`: what the server's log would say.
    Failed {
        message: String,
        trace: String,
    },
    /// A try more would end the same way.
    Hopeless {
        message: String,
        trace: String,
    },
}

/// A job as stored, and as `system.jobs` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    pub job_id: JobId,
    #[serde(flatten)]
    pub params: JobParams,
    pub status: JobState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exception_trace: Option<String>,
    pub priority: i32,
    /// May its body begin anew after it was cut off?
    pub resumable: bool,
    /// Tries that failed or were cut off.
    pub retry_count: u16,
    pub max_retries: u16,
    pub created_at: i64,
    pub updated_at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<i64>,
    /// The next try does not come before this.
    #[serde(default)]
    pub not_before: i64,
}

impl Job {
    pub(super) fn new(job_id: JobId, params: JobParams, max_retries: u16, now_us: i64) -> Self {
        let kind = params.kind();
        Self {
            job_id,
            params,
            status: JobState::New,
            message: None,
            exception_trace: None,
            priority: kind.priority(),
            resumable: kind.is_resumable(),
            retry_count: 0,
            max_retries,
            created_at: now_us,
            updated_at: now_us,
            started_at: None,
            finished_at: None,
            not_before: 0,
        }
    }

    /// A stored job.
    ///
    /// # Errors
    /// `INTERNAL` where the bytes are none.
    pub fn decode(value: &[u8]) -> Result<Self> {
        serde_json::from_slice(value).map_err(Error::internal)
    }

    /// What to store: a job whose record is on disk waits in the queue.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn encode(&self) -> Result<Vec<u8>> {
        if self.status == JobState::New {
            return Job { status: JobState::Queued, ..self.clone() }.encode();
        }
        serde_json::to_vec(self).map_err(Error::internal)
    }

    pub(super) fn step(&mut self, status: JobState, message: Option<String>, now_us: i64) {
        self.status = status;
        self.updated_at = now_us;
        if message.is_some() {
            self.message = message;
        }
        if status.is_finished() {
            self.finished_at = Some(now_us);
        }
        match status {
            JobState::Running => _ = self.started_at.get_or_insert(now_us),
            // What went wrong before does not matter any more.
            JobState::Completed | JobState::Skipped => self.exception_trace = None,
            JobState::New | JobState::Queued | JobState::Retrying | JobState::Failed | JobState::Cancelled => {}
        }
    }

    /// A try is over without an end: another one comes, or there were enough. The pause doubles with each try.
    pub(super) fn try_failed(&mut self, message: String, trace: String, backoff: Duration, now_us: i64) {
        self.exception_trace = Some(trace);
        if self.retry_count >= self.max_retries {
            return self.step(JobState::Failed, Some(message), now_us);
        }
        let factor = 2u32.saturating_pow(u32::from(self.retry_count));
        let pause = backoff.saturating_mul(factor).min(BACKOFF_MAX.max(backoff));
        self.retry_count += 1;
        self.not_before = now_us.saturating_add(micros(pause));
        self.step(JobState::Retrying, Some(message), now_us);
    }
}

pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}
