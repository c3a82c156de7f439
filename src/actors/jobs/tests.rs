//! The shell over a real store: what is durable when, who is told what.

use std::future::Future;
use std::pin::Pin;

use tokio::sync::Notify;

use super::*;
use crate::actors::Committer;
use crate::model::{NamespaceName, Seq, TableId};
use crate::storage::{FjallLog, Store};

type Running<'a> = Pin<Box<dyn Future<Output = Result<JobDone>> + Send + 'a>>;

/// A body made of a closure.
struct Body<F>(F);

#[async_trait]
impl<F> JobBodies for Body<F>
where
    F: for<'a> Fn(&'a JobParams, &'a JobControl) -> Running<'a> + Send + Sync + 'static,
{
    async fn run(&self, params: &JobParams, control: &JobControl) -> Result<JobDone> {
        (self.0)(params, control).await
    }
}

fn body<F>(run: F) -> Arc<dyn JobBodies>
where
    F: for<'a> Fn(&'a JobParams, &'a JobControl) -> Running<'a> + Send + Sync + 'static,
{
    Arc::new(Body(run))
}

fn cleanup(table: u32) -> JobParams {
    let namespace_id = NamespaceName::parse("n").unwrap();
    JobParams::Cleanup {
        table_id: TableId(table),
        namespace_id,
        table_name: "t".to_owned(),
        storage_id: crate::model::StorageId::local(),
    }
}

struct Bench {
    store: Arc<Store>,
    committer: Option<Committer>,
    handle: CommitterHandle,
    config: JobsConfig,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, recovered) = Store::open(folder.path(), 1 << 20).unwrap();
        let log = FjallLog::new(store.clone(), recovered);
        let sync = log.journal_sync();
        let (committer, handle) =
            Committer::spawn(log, sync, Duration::from_secs(1), Arc::default(), Arc::default(), fatal()).unwrap();
        let config = JobsConfig { retry_backoff: Duration::from_micros(1), max_retries: 2, ..JobsConfig::default() };
        Self { store, committer: Some(committer), handle, config, _folder: folder }
    }

    fn start(&self, bodies: Arc<dyn JobBodies>) -> Jobs {
        let parts = JobParts {
            config: self.config.clone(),
            committer: self.handle.clone(),
            clock: Clock::system(),
            ids: Arc::new(IdSource::new(0, Seq::ZERO)),
            bodies,
            fatal: fatal(),
        };
        Jobs::start(parts, self.stored()).unwrap()
    }

    fn stored(&self) -> Vec<Job> {
        let records = self.store.records(RecordKind::Job).unwrap();
        records.iter().map(|(_, value)| Job::decode(value).unwrap()).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.committer.take().unwrap().stop();
    }
}

fn fatal() -> Fatal {
    Fatal::new(|reason| panic!("it gave up: {reason}"))
}

fn statuses(jobs: &[Job]) -> Vec<&'static str> {
    jobs.iter().map(|job| job.status.as_str()).collect()
}

fn run(test: impl Future<Output = ()>) {
    actix::System::new().block_on(test);
}

#[test]
fn a_record_comes_before_its_body_and_its_end_before_whoever_waits() {
    run(async {
        let bench = Bench::new();
        let store = bench.store.clone();
        let jobs = bench.start(body(move |params, _| {
            let records = store.records(RecordKind::Job).unwrap();
            let mine = records.iter().map(|(_, value)| Job::decode(value).unwrap()).find(|job| job.params == *params);
            Box::pin(async move { Ok(JobDone::Completed(mine.unwrap().status.to_string())) })
        }));
        let id = jobs.submit(cleanup(1)).await.unwrap();
        assert_eq!(bench.stored().len(), 1, "durable, when the answer comes");
        jobs.finished(&id).await;
        let stored = bench.stored();
        assert_eq!((statuses(&stored), stored[0].message.as_deref()), (vec!["completed"], Some("running")));
        assert_eq!(jobs.list(), stored);
        jobs.finished(&id).await;
        jobs.submit_owed(cleanup(1)).await;
        let again = jobs.submit(cleanup(1)).await.unwrap();
        assert_ne!(again, id);
        assert_eq!(jobs.list().len(), 2, "what is owed was done already");
    });
}

#[test]
fn failures_are_tried_again_and_panics_are_not() {
    run(async {
        let bench = Bench::new();
        let tries = Arc::new(Mutex::new(0));
        let jobs = bench.start(body(move |params, _| {
            assert!(*params != cleanup(2), "a panic that is meant");
            let mut tries = tries.lock().unwrap();
            *tries += 1;
            let outcome = match *tries {
                1 | 2 => Err(Error::internal("the disk is away")),
                _ if *params == cleanup(3) => Err(Error::Busy),
                _ => Ok(JobDone::Skipped("nothing there".to_owned())),
            };
            Box::pin(async move { outcome })
        }));
        for (table, expected) in [
            (1, ("skipped", 2, "nothing there", None)),
            (2, ("failed", 0, "it panicked; the server's log says more", Some("a panic"))),
            (3, ("failed", 2, "The server is busy; try again", Some("The server is busy; try again"))),
        ] {
            let id = jobs.submit(cleanup(table)).await.unwrap();
            jobs.finished(&id).await;
            let job = jobs.list().into_iter().find(|job| job.job_id == id).unwrap();
            let (message, trace) = (job.message.as_deref().unwrap(), job.exception_trace.as_deref());
            assert_eq!((job.status.as_str(), job.retry_count, message, trace), expected);
        }
        let JobOutcome::Failed { trace, .. } = failed(&Error::internal("the disk is away")) else { panic!() };
        assert!(trace.ends_with("caused by: the disk is away"), "{trace}");
    });
}

/// Runs until it is cancelled; says when it has begun.
fn endless(begun: Arc<Notify>) -> Arc<dyn JobBodies> {
    body(move |_, control| {
        let begun = begun.clone();
        Box::pin(async move {
            control.say(|| "at it".to_owned());
            begun.notify_one();
            loop {
                control.check()?;
                tokio::task::yield_now().await;
            }
        })
    })
}

#[test]
fn a_kill_is_durable_and_heard() {
    run(async {
        let bench = Bench::new();
        let begun = Arc::new(Notify::new());
        let jobs = bench.start(endless(begun.clone()));
        assert!(matches!(jobs.kill("CL-nothing", String::new()).await, Err(Error::NotFound(_))));
        let id = jobs.submit(cleanup(1)).await.unwrap();
        begun.notified().await;
        jobs.kill(id.as_str(), "killed by root".to_owned()).await.unwrap();
        assert_eq!(statuses(&bench.stored()), ["cancelled"]);
        assert_eq!(bench.stored()[0].message.as_deref(), Some("killed by root"));
        assert!(matches!(jobs.kill(id.as_str(), String::new()).await, Err(Error::InvalidInput(_))));
        // Its place is free once the body has heard.
        jobs.submit(cleanup(1)).await.unwrap();
        begun.notified().await;
        jobs.submit_owed(cleanup(1)).await;
        jobs.cancel_running("enough").await;
        assert_eq!(statuses(&jobs.list()), ["cancelled", "cancelled"]);
        jobs.submit_owed(cleanup(1)).await;
        jobs.stop(Duration::from_secs(60)).await;
        assert_eq!(jobs.list().len(), 2, "a killed job does not come back by itself");
    });
}

#[test]
fn a_stop_waits_for_bodies_and_cancels_those_that_take_too_long() {
    run(async {
        let bench = Bench::new();
        let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (told, gate) = (begun.clone(), go.clone());
        let jobs = bench.start(body(move |_, _| {
            let (told, gate) = (told.clone(), gate.clone());
            Box::pin(async move {
                told.notify_one();
                gate.notified().await;
                Ok(JobDone::Completed("all of it".to_owned()))
            })
        }));
        jobs.submit(cleanup(1)).await.unwrap();
        begun.notified().await;
        jobs.begin_stop();
        assert!(matches!(jobs.submit(cleanup(2)).await, Err(Error::ShuttingDown)));
        go.notify_one();
        jobs.stop(Duration::from_secs(60)).await;
        assert_eq!(statuses(&bench.stored()), ["completed"]);
        assert!(matches!(jobs.submit(cleanup(2)).await, Err(Error::ShuttingDown)), "the actor has ended");
        assert!(matches!(jobs.kill("CL-1", String::new()).await, Err(Error::ShuttingDown)));

        let jobs = bench.start(endless(begun.clone()));
        jobs.submit(cleanup(3)).await.unwrap();
        begun.notified().await;
        jobs.stop(Duration::ZERO).await;
        let stored = bench.stored().into_iter().find(|job| job.params == cleanup(3)).unwrap();
        assert_eq!(stored.status.as_str(), "cancelled");
        assert!(stored.message.unwrap().contains("jobs.shutdown_timeout"));
    });
}

#[test]
fn what_was_cut_off_begins_anew_and_what_is_old_is_forgotten() {
    run(async {
        let mut bench = Bench::new();
        let begun = Arc::new(Notify::new());
        let jobs = bench.start(endless(begun.clone()));
        let id = jobs.submit(cleanup(1)).await.unwrap();
        begun.notified().await;
        // As a kill -9 leaves it: the record says that it runs. The old actor is not asked any more.
        assert_eq!(statuses(&bench.stored()), ["running"]);
        let done = || body(|_, _| Box::pin(async { Ok(JobDone::Completed("all of it".to_owned())) }));
        let again = bench.start(done());
        again.finished(&id).await;
        let stored = bench.stored();
        assert_eq!((statuses(&stored), stored[0].retry_count), (vec!["completed"], 1));
        bench.config.history_retention = Duration::ZERO;
        let later = bench.start(done());
        later.stop(Duration::from_secs(60)).await;
        assert!(later.list().is_empty() && bench.stored().is_empty());
        jobs.cancel_running("the test is over").await;
    });
}
