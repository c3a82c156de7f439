//! What the jobs' actor is asked and told.
//!
//! Owns the translation from messages to the core's calls. Each message is one call.

use actix::{Context, Handler, Message};
use tokio::sync::oneshot;

use super::JobActor;
use crate::error::Result;
use crate::jobs::{JobId, JobOutcome, JobParams, JobState};

/// Takes a job in; answers when its record is durable.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Submit {
    pub params: JobParams,
    pub reply: oneshot::Sender<Result<JobId>>,
}

impl Handler<Submit> for JobActor {
    type Result = ();

    fn handle(&mut self, Submit { params, reply }: Submit, ctx: &mut Context<Self>) {
        // Nobody waits any more: nothing to do.
        self.submit(params, ctx, |outcome| drop(reply.send(outcome)));
    }
}

/// Takes a job in, unless it ended since the server's start: then somebody has killed it, or it fails. Answers when that
/// is decided.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct SubmitOwed {
    pub params: JobParams,
    pub taken: oneshot::Sender<()>,
}

impl Handler<SubmitOwed> for JobActor {
    type Result = ();

    fn handle(&mut self, SubmitOwed { params, taken }: SubmitOwed, ctx: &mut Context<Self>) {
        let ended = self.core().has_ended(&params);
        if !ended {
            self.submit(params, ctx, |_| {});
        }
        // Nobody waits any more: nothing to do.
        let _ = taken.send(());
    }
}

/// KILL JOB.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Kill {
    pub id: String,
    pub reason: String,
    pub reply: oneshot::Sender<Result<()>>,
}

impl Handler<Kill> for JobActor {
    type Result = ();

    fn handle(&mut self, msg: Kill, ctx: &mut Context<Self>) {
        let Kill { id, reason, reply } = msg;
        let killed = self.core().kill(&id, &reason, self.now_us());
        match killed {
            Ok(job) => self.cancelled(&[job], ctx, |stored| drop(reply.send(stored))),
            // Nobody waits any more: nothing to do.
            Err(error) => drop(reply.send(Err(error))),
        }
    }
}

/// Cancels every job whose body runs.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct CancelRunning {
    pub reason: String,
    pub reply: oneshot::Sender<()>,
}

impl Handler<CancelRunning> for JobActor {
    type Result = ();

    fn handle(&mut self, msg: CancelRunning, ctx: &mut Context<Self>) {
        let CancelRunning { reason, reply } = msg;
        let now = self.now_us();
        let jobs = self.core().cancel_where(|job| job.status == JobState::Running, &reason, now);
        self.cancelled(&jobs, ctx, |_| {
            // Nobody waits any more: nothing to do.
            let _ = reply.send(());
        });
    }
}

/// How far a body is.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Progress {
    pub id: JobId,
    pub message: String,
}

impl Handler<Progress> for JobActor {
    type Result = ();

    fn handle(&mut self, Progress { id, message }: Progress, _ctx: &mut Context<Self>) {
        let now = self.now_us();
        self.core().progress(&id, message, now);
    }
}

#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct BodyEnded {
    pub id: JobId,
    pub outcome: JobOutcome,
}

impl Handler<BodyEnded> for JobActor {
    type Result = ();

    fn handle(&mut self, BodyEnded { id, outcome }: BodyEnded, ctx: &mut Context<Self>) {
        self.body_ended(&id, outcome, ctx);
    }
}

/// Tells when a job has finished, or is not known.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct WaitFor {
    pub id: JobId,
    pub reply: oneshot::Sender<()>,
}

impl Handler<WaitFor> for JobActor {
    type Result = ();

    fn handle(&mut self, WaitFor { id, reply }: WaitFor, _ctx: &mut Context<Self>) {
        let finished = self.core().get(&id).is_none_or(|job| job.status.is_finished());
        if finished {
            // Nobody waits any more: nothing to do.
            let _ = reply.send(());
        } else {
            self.waiters.entry(id).or_default().push(reply);
        }
    }
}

/// Tells when no body runs any more and all records are durable. The actor ends then.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Drain {
    pub reply: oneshot::Sender<()>,
}

impl Handler<Drain> for JobActor {
    type Result = ();

    fn handle(&mut self, Drain { reply }: Drain, ctx: &mut Context<Self>) {
        self.core().stop();
        self.drained.push(reply);
        self.tell_drained(ctx);
    }
}
