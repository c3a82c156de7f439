//! Wakes consumers that wait for entries of a topic.
//!
//! Owns who waits for which topic. A consumer registers, looks, and only then waits, so no entry comes in between.
//! Never says what there is: whoever is woken looks. Who waits is bounded by whoever lets them (`topics.max_waiters`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::model::TopicId;

#[derive(Debug, Default)]
pub struct TopicSignals(Mutex<HashMap<TopicId, Arc<Notify>>>);

impl TopicSignals {
    /// What is notified of each commit that appends to the topic, and where the topic goes.
    pub fn of(&self, topic: TopicId) -> Arc<Notify> {
        self.lock().entry(topic).or_default().clone()
    }

    pub fn wake(&self, topic: TopicId) {
        if let Some(waiting) = self.lock().get(&topic) {
            waiting.notify_waiters();
        }
    }

    /// The topic is gone: its consumers look once more.
    pub fn forget(&self, topic: TopicId) {
        if let Some(waiting) = self.lock().remove(&topic) {
            waiting.notify_waiters();
        }
    }

    /// All look: the server stops.
    pub fn wake_all(&self) {
        self.lock().values().for_each(|waiting| waiting.notify_waiters());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TopicId, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn wakes_those_of_the_topic() {
        let signals = TopicSignals::default();
        let (one, other) = (signals.of(TopicId(1)), signals.of(TopicId(2)));
        let (mut one, mut other) = (Box::pin(one.notified()), Box::pin(other.notified()));
        assert!((&mut one).now_or_never().is_none() && (&mut other).now_or_never().is_none());
        signals.wake(TopicId(1));
        signals.wake(TopicId(3));
        assert!((&mut one).now_or_never().is_some() && (&mut other).now_or_never().is_none());
        signals.forget(TopicId(2));
        assert!(other.now_or_never().is_some());
    }
}
