//! Waiting awake: for a lone writer, whose wait is mostly that of sleeping cores for being woken.
//!
//! Waking a thread takes 10 µs, and 40 µs where its core has gone to sleep; an fdatasync takes 150. A writer who is alone
//! would pay for that three times an insert. So whoever serves a lone writer looks for what comes next for a moment
//! before it sleeps, and yields the core at each look to whoever is ready to run. With many writers nobody waits awake:
//! there the next piece of work is there already.
//! An idle server does not look at all.

use std::cell::Cell;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::{RecvError, TryRecvError};

/// How long the committer looks for the next entry behind a commit of few.
pub(super) const FOR_ENTRY: Duration = Duration::from_micros(200);

/// How long a worker looks for the answer to a lone write: an fdatasync, and some more.
const FOR_ANSWER: Duration = Duration::from_micros(400);

/// How long a worker looks for a lone writer's next request, behind an answer.
const FOR_REQUEST: Duration = Duration::from_micros(100);

thread_local! {
    /// Until when this worker looks out; a task does it while there is one.
    static LOOKING_UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The answer to a lone write. Other work of this thread goes on meanwhile.
pub(super) async fn answer<T>(mut answer: oneshot::Receiver<T>) -> Result<T, RecvError> {
    let until = Instant::now() + FOR_ANSWER;
    while Instant::now() < until {
        match answer.try_recv() {
            Ok(found) => {
                look_for_request();
                return Ok(found);
            }
            Err(TryRecvError::Closed) => break,
            Err(TryRecvError::Empty) => look_again().await,
        }
    }
    answer.await
}

/// Keeps this worker from sleeping for a moment. One task a thread does it, however many ask.
fn look_for_request() {
    let looking = LOOKING_UNTIL.replace(Some(Instant::now() + FOR_REQUEST)).is_some();
    if looking {
        return;
    }
    actix::spawn(async {
        while LOOKING_UNTIL.get().is_some_and(|until| Instant::now() < until) {
            look_again().await;
        }
        LOOKING_UNTIL.set(None);
    });
}

/// Lets other threads and this thread's other tasks run, sockets included.
async fn look_again() {
    std::thread::yield_now();
    tokio::task::yield_now().await;
}
