use std::collections::{HashMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::jobs::{JobKind, JobState};
use crate::model::{NamespaceName, TableId, UserId};

const SECOND: i64 = 1_000_000;

fn config() -> JobsConfig {
    JobsConfig {
        max_concurrent: 2,
        max_queued: 4,
        max_retries: 2,
        retry_backoff: Duration::from_secs(1),
        history_retention: Duration::from_secs(100),
        history_entries: 3,
        ..JobsConfig::default()
    }
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

fn of_user(name: &str) -> JobParams {
    JobParams::UserCleanup { user_id: UserId::parse(name).unwrap(), generation: 1 }
}

fn failure() -> JobOutcome {
    JobOutcome::Failed { message: "no luck".to_owned(), trace: "no luck at all".to_owned() }
}

/// A core with the disk and the ids that a shell would bring.
struct Bench {
    core: JobCore,
    disk: HashMap<JobId, Job>,
    ids: u128,
    now: i64,
}

impl Bench {
    fn new() -> Self {
        Self { core: JobCore::restore(config(), Vec::new(), 0).0, disk: HashMap::new(), ids: 0, now: 0 }
    }

    fn id_of(&mut self) -> impl FnOnce(&JobParams) -> JobId + use<> {
        self.ids += 1;
        let uuid = Uuid::from_u128(self.ids);
        move |params| JobId::new(params.kind(), uuid)
    }

    /// Taken in, and its record not stored yet.
    fn submit(&mut self, params: JobParams) -> Result<JobId> {
        let id = self.id_of();
        Ok(match self.core.submit(params, id, self.now)? {
            Submitted::New(job) => job.job_id,
            Submitted::Existing(id) => id,
        })
    }

    fn store(&mut self, job: Job) -> JobId {
        let id = job.job_id.clone();
        let decoded = Job::decode(&job.encode().unwrap()).unwrap();
        assert_eq!(decoded.status == JobState::Queued, matches!(job.status, JobState::New | JobState::Queued));
        self.disk.insert(id.clone(), decoded);
        id
    }

    fn stored(&mut self, id: &JobId) {
        if let Some(job) = self.core.get(id).filter(|job| job.status == JobState::New).cloned() {
            self.store(job);
            self.core.stored(id);
        }
    }

    fn queue(&mut self, params: JobParams) -> JobId {
        let id = self.submit(params).unwrap();
        self.stored(&id);
        id
    }

    fn start(&mut self) -> Option<JobId> {
        let job = self.core.start_next(self.now)?;
        Some(self.store(job))
    }

    fn end(&mut self, id: &JobId, outcome: JobOutcome) {
        if let Some(job) = self.core.ended(id, outcome, self.now) {
            self.store(job);
        }
    }

    fn kill(&mut self, id: &str) -> Result<()> {
        let job = self.core.kill(id, "killed by root", self.now)?;
        self.store(job);
        Ok(())
    }

    fn trim(&mut self) {
        for id in self.core.trim(self.now) {
            self.disk.remove(&id);
        }
    }

    /// Only what was stored is left.
    fn restart(&mut self) {
        let (core, changed) = JobCore::restore(config(), self.disk.values().cloned().collect(), self.now);
        self.core = core;
        for job in changed {
            self.store(job);
        }
    }

    fn state(&self, id: &JobId) -> &'static str {
        self.core.get(id).map_or("gone", |job| job.status.as_str())
    }

    fn message(&self, id: &JobId) -> String {
        self.core.get(id).and_then(|job| job.message.clone()).unwrap_or_default()
    }
}

#[test]
fn a_job_is_taken_stored_run_and_ended() {
    let mut b = Bench::new();
    let id = b.submit(cleanup(1)).unwrap();
    assert!(id.as_str().starts_with("CL-"), "{id}");
    assert_eq!((b.state(&id), b.start()), ("new", None), "it is not on disk: it must not run");
    b.stored(&id);
    assert_eq!(b.state(&id), "queued");
    b.now = 5;
    assert_eq!((b.start(), b.state(&id)), (Some(id.clone()), "running"));
    b.core.progress(&id, "half of it".to_owned(), 6);
    assert_eq!(b.message(&id), "half of it");
    b.now = 7;
    b.end(&id, JobOutcome::Completed("9 keys".to_owned()));
    let job = b.core.get(&id).unwrap();
    assert_eq!((job.created_at, job.started_at, job.finished_at), (0, Some(5), Some(7)));
    assert_eq!((b.state(&id), b.message(&id).as_str()), ("completed", "9 keys"));
    b.core.progress(&id, "too late".to_owned(), 8);
    assert_eq!(b.message(&id), "9 keys");
    assert!(b.disk[&id] == *b.core.get(&id).unwrap(), "what is shown is what is stored");
}

#[test]
fn the_same_work_is_one_job_until_it_has_finished() {
    let mut b = Bench::new();
    let first = b.submit(cleanup(1)).unwrap();
    assert_eq!(b.submit(cleanup(1)).unwrap(), first, "new");
    assert_ne!(b.submit(cleanup(2)).unwrap(), first);
    b.stored(&first);
    assert_eq!(b.submit(cleanup(1)).unwrap(), first, "queued");
    b.start();
    assert_eq!(b.submit(cleanup(1)).unwrap(), first, "running");
    b.end(&first, failure());
    assert_eq!((b.submit(cleanup(1)).unwrap(), b.state(&first)), (first.clone(), "retrying"));
    assert!(!b.core.has_ended(&cleanup(1)));
    b.kill(first.as_str()).unwrap();
    assert!(b.core.has_ended(&cleanup(1)));
    assert_ne!(b.submit(cleanup(1)).unwrap(), first);
}

#[test]
fn a_killed_body_keeps_its_place_until_it_has_ended() {
    let mut b = Bench::new();
    let first = b.queue(cleanup(1));
    b.start();
    b.kill(first.as_str()).unwrap();
    let second = b.queue(cleanup(1));
    assert_eq!(b.start(), None, "two bodies would do the same work at once");
    b.end(&first, JobOutcome::Completed("all".to_owned()));
    assert_eq!((b.state(&first), b.message(&first).as_str()), ("cancelled", "killed by root"));
    assert_eq!(b.start(), Some(second));
}

#[test]
fn order_and_bounds() {
    let mut b = Bench::new();
    let ids: Vec<JobId> = (1..=3).map(|n| b.queue(cleanup(n))).collect();
    let urgent = b.queue(of_user("al"));
    assert!(matches!(b.submit(cleanup(9)), Err(Error::Busy)), "four wait");
    assert_eq!([b.start(), b.start(), b.start()], [Some(urgent.clone()), Some(ids[0].clone()), None]);
    let mut running: Vec<&str> = b.core.running().map(|job| job.job_id.as_str()).collect();
    running.sort_unstable();
    assert_eq!(running, [ids[0].as_str(), urgent.as_str()]);
    b.end(&urgent, JobOutcome::Skipped("nobody".to_owned()));
    assert_eq!((b.state(&urgent), b.start()), ("skipped", Some(ids[1].clone())));
    b.core.stop();
    b.end(&ids[0], JobOutcome::Completed(String::new()));
    assert_eq!(b.start(), None, "nothing starts any more");
    assert!(matches!(b.submit(cleanup(7)), Err(Error::ShuttingDown)));
    assert_eq!(b.submit(cleanup(3)).unwrap(), ids[2]);
}

#[test]
fn a_failed_try_comes_again_with_growing_pauses() {
    let mut b = Bench::new();
    let id = b.queue(cleanup(1));
    for (tries, pause) in [(1, 1), (2, 2)] {
        b.start().unwrap();
        b.end(&id, failure());
        let job = b.core.get(&id).unwrap();
        assert_eq!((job.status.as_str(), job.retry_count), ("retrying", tries));
        assert_eq!(job.exception_trace.as_deref(), Some("no luck at all"));
        assert_eq!((b.start(), b.core.next_due(b.now)), (None, Some(b.now + pause * SECOND)));
        b.now += pause * SECOND;
        assert_eq!(b.core.next_due(b.now), None, "it is due, and nothing else is");
    }
    b.start().unwrap();
    b.end(&id, failure());
    assert_eq!((b.state(&id), b.message(&id).as_str()), ("failed", "no luck"));

    let id = b.queue(cleanup(2));
    b.start().unwrap();
    let hopeless = JobOutcome::Hopeless { message: "it panicked".to_owned(), trace: "at line 1".to_owned() };
    b.end(&id, hopeless);
    assert_eq!((b.state(&id), b.core.get(&id).unwrap().retry_count), ("failed", 0));
}

#[test]
fn pauses_have_an_end() {
    let mut job = Job::new(JobId::new(JobKind::Cleanup, Uuid::nil()), cleanup(1), 1_000, 0);
    for _ in 0..999 {
        job.try_failed(String::new(), String::new(), Duration::from_millis(100), 0);
        assert!(job.not_before <= 300 * SECOND);
    }
    assert_eq!((job.not_before, job.status), (300 * SECOND, JobState::Retrying));
}

#[test]
fn a_restart_queues_again_what_may_begin_anew() {
    let mut b = Bench::new();
    let (cut, fragile) = (b.queue(cleanup(1)), b.queue(cleanup(2)));
    b.start();
    b.start();
    b.disk.get_mut(&fragile).unwrap().resumable = false;
    let (waits, unstored) = (b.queue(cleanup(3)), b.submit(cleanup(4)).unwrap());
    b.restart();
    assert_eq!((b.state(&cut), b.state(&waits), b.state(&unstored)), ("retrying", "queued", "gone"));
    assert_eq!(
        b.core.get(&cut).unwrap().retry_count,
        1,
        "a stop counts: what kills the server must not do so for ever"
    );
    assert_eq!((b.state(&fragile), b.message(&fragile).as_str()), ("failed", "the server stopped while it ran"));
    assert!(!b.core.has_ended(&cleanup(2)), "it was before this start");
    assert_eq!(b.start(), Some(waits), "the other one's pause is not over");
    b.now += SECOND;
    assert_eq!(b.start(), Some(cut.clone()));
    b.end(&cut, JobOutcome::Completed("all".to_owned()));
    assert_eq!(b.core.get(&cut).unwrap().exception_trace, None);
}

#[test]
fn kill_says_what_it_can_not_do() {
    let mut b = Bench::new();
    let id = b.queue(cleanup(1));
    assert_eq!(b.kill("CL-nothing").unwrap_err().to_string(), "Not found: Job 'CL-nothing' not found");
    b.kill(id.as_str()).unwrap();
    assert_eq!((b.state(&id), b.start()), ("cancelled", None));
    let again = b.kill(id.as_str()).unwrap_err();
    assert_eq!(again.to_string(), format!("Job '{id}' has finished already: cancelled"));
    let unstored = b.submit(cleanup(2)).unwrap();
    b.kill(unstored.as_str()).unwrap();
    b.core.stored(&unstored);
    assert_eq!(b.state(&unstored), "cancelled");
    let lost = b.submit(cleanup(3)).unwrap();
    b.core.forget(&lost);
    assert_eq!(b.state(&lost), "gone");
    // None of them takes room in the queue.
    for n in 10..14 {
        b.queue(cleanup(n));
    }
    let cancelled = b.core.cancel_where(|job| job.params == cleanup(10), "its table was dropped", b.now);
    assert_eq!(cancelled.len(), 1);
    assert_eq!(cancelled[0].message.as_deref(), Some("its table was dropped"));
}

#[test]
fn history_ends_by_age_and_by_number() {
    let mut b = Bench::new();
    let mut ids = Vec::new();
    for n in 0..5 {
        b.now = i64::from(n) * SECOND;
        let id = b.queue(cleanup(n));
        b.start();
        b.end(&id, JobOutcome::Completed(String::new()));
        ids.push(id);
    }
    let waits = b.queue(cleanup(9));
    b.trim();
    assert_eq!(ids.iter().map(|id| b.state(id)).collect::<Vec<_>>()[..2], ["gone", "gone"], "three are kept");
    b.now = 103 * SECOND;
    b.trim();
    assert_eq!(ids.iter().map(|id| b.state(id)).collect::<Vec<_>>()[3..], ["gone", "completed"]);
    assert!(!b.core.has_ended(&cleanup(3)));
    assert_eq!((b.disk.len(), b.core.jobs().count(), b.state(&waits)), (2, 2, "queued"));
}

#[derive(Debug, Clone)]
enum Step {
    Submit(u32),
    SubmitUser(u32),
    Stored(usize),
    Lost(usize),
    Start,
    End(usize, bool),
    Kill(usize),
    Trim,
    Pass(i64),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u32..5).prop_map(Step::Submit),
        2 => (0u32..3).prop_map(Step::SubmitUser),
        6 => any::<usize>().prop_map(Step::Stored),
        1 => any::<usize>().prop_map(Step::Lost),
        6 => Just(Step::Start),
        5 => (any::<usize>(), any::<bool>()).prop_map(|(n, good)| Step::End(n, good)),
        2 => any::<usize>().prop_map(Step::Kill),
        1 => Just(Step::Trim),
        2 => (0i64..3).prop_map(Step::Pass),
        1 => Just(Step::Restart),
    ]
}

/// What runs and what was taken in, as the outside saw it.
#[derive(Default)]
struct Outside {
    taken: Vec<JobId>,
    bodies: Vec<JobId>,
}

fn pick<T: Clone>(of: &[T], n: usize) -> Option<T> {
    if of.is_empty() { None } else { Some(of[n % of.len()].clone()) }
}

fn take(b: &mut Bench, outside: &mut Outside, step: Step) {
    match step {
        Step::Submit(n) => outside.taken.extend(b.submit(cleanup(n))),
        Step::SubmitUser(n) => outside.taken.extend(b.submit(of_user(&format!("u{n}")))),
        Step::Stored(n) => {
            if let Some(id) = pick(&outside.taken, n) {
                b.stored(&id);
            }
        }
        Step::Lost(n) => {
            if let Some(id) = pick(&outside.taken, n) {
                b.core.forget(&id);
            }
        }
        Step::Start => outside.bodies.extend(b.start()),
        Step::End(n, good) => {
            if let Some(id) = pick(&outside.bodies, n) {
                outside.bodies.retain(|body| *body != id);
                b.end(&id, if good { JobOutcome::Completed(String::new()) } else { failure() });
            }
        }
        Step::Kill(n) => {
            if let Some(id) = pick(&outside.taken, n) {
                let finished = b.core.get(&id).is_none_or(|job| job.status.is_finished());
                assert_eq!(b.kill(id.as_str()).is_err(), finished);
            }
        }
        Step::Trim => b.trim(),
        Step::Pass(seconds) => b.now += seconds * SECOND,
        Step::Restart => {
            outside.bodies.clear();
            b.restart();
        }
    }
}

fn check(b: &Bench, outside: &Outside) {
    assert!(outside.bodies.len() <= config().max_concurrent, "{:?} run", outside.bodies);
    let mut open = HashSet::new();
    let mut waiting = 0;
    for job in b.core.jobs() {
        let key = job.params.idempotency_key();
        assert!(job.status.is_finished() || open.insert(key.clone()), "two unfinished jobs of {key}");
        waiting += usize::from(matches!(job.status, JobState::Queued | JobState::Retrying | JobState::New));
        assert_eq!(job.finished_at.is_some(), job.status.is_finished());
        let stored = b.disk.get(&job.job_id).map(|stored| stored.status);
        assert!(job.status == JobState::New || stored == Some(job.status), "{job:?} is stored as {stored:?}");
    }
    // A failed try goes back into a queue that may have filled up meanwhile.
    assert!(waiting <= config().max_queued + config().max_concurrent, "{waiting} wait");
    let keys: HashSet<String> = b.core.running().map(|job| job.params.idempotency_key()).collect();
    assert_eq!(keys.len(), b.core.running().count());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_happens_every_job_ends(steps in proptest::collection::vec(step(), 0..120)) {
        let (mut b, mut outside) = (Bench::new(), Outside::default());
        for step in steps {
            take(&mut b, &mut outside, step);
            check(&b, &outside);
        }
        // Left alone, with bodies that all fail, it comes to rest.
        for id in std::mem::take(&mut outside.taken) {
            b.stored(&id);
        }
        for _ in 0..200 {
            while let Some(id) = b.start() {
                outside.bodies.push(id);
                check(&b, &outside);
            }
            for id in std::mem::take(&mut outside.bodies) {
                b.end(&id, failure());
            }
            if let Some(due) = b.core.next_due(b.now) {
                b.now = due;
            }
        }
        prop_assert!(b.core.jobs().all(|job| job.status.is_finished()), "{:?}", b.core);
        prop_assert!(b.core.jobs().all(|job| job.retry_count <= job.max_retries));
        prop_assert_eq!(b.core.running().count(), 0);
        b.now += 1_000 * SECOND;
        b.trim();
        prop_assert!(b.disk.is_empty() && b.core.jobs().count() == 0, "{:?}", b.disk);
    }
}
