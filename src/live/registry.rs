//! Who is subscribed to the changes of one partition (or, over all owners, of one table).
//!
//! Owns which queries are distinct: each is evaluated and encoded once per change batch, however many subscribers it has.
//! Never waits for a subscriber: one that can not take its events is detached, and its session closes itself.
//! Invariant: a subscriber whose query can not be evaluated is told so, never left in silence.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::change_batch::{ChangeBatch, events};
use super::encoding::{Format, Formats};
use super::equality::{EqualityIndex, Identity};
use super::outbox::{Delivery, Outbox, Overflow, SubscriptionKey};
use super::{LiveEvent, LiveQuery};
use crate::error::{Error, Result};

/// Where the events of one subscription go.
#[derive(Debug, Clone)]
pub struct Subscriber {
    pub key: SubscriptionKey,
    pub format: Format,
    pub outbox: Arc<Outbox>,
    /// It follows other tables as well: that this one ends does not end it.
    pub of_many: bool,
}

/// The subscribers of one partition, by query. Empty, it owns no memory.
#[derive(Debug, Default)]
pub struct QueryRegistry {
    queries: HashMap<Identity, Entry>,
    /// Those that every change is asked of, and the others by what their filters ask for.
    of_all_changes: HashSet<Identity>,
    by_equality: EqualityIndex,
    identities: HashMap<SubscriptionKey, Identity>,
}

#[derive(Debug)]
struct Entry {
    query: Arc<dyn LiveQuery>,
    subscribers: Vec<Subscriber>,
}

impl QueryRegistry {
    /// From the next [`QueryRegistry::deliver`] on, `subscriber` is told what changes are to `query`.
    pub fn attach(&mut self, query: Arc<dyn LiveQuery>, subscriber: Subscriber) {
        self.detach(subscriber.key);
        let identity: Identity = query.identity().into();
        self.identities.insert(subscriber.key, identity.clone());
        if let Some(entry) = self.queries.get_mut(&identity) {
            entry.subscribers.push(subscriber);
            return;
        }
        match query.equality() {
            Some(equality) => self.by_equality.insert(equality, identity.clone()),
            None => {
                self.of_all_changes.insert(identity.clone());
            }
        }
        self.queries.insert(identity, Entry { query, subscribers: vec![subscriber] });
    }

    /// After this, `key` gets nothing. Unknown keys are ignored: an overflow may have detached it before.
    pub fn detach(&mut self, key: SubscriptionKey) {
        let Some(identity) = self.identities.remove(&key) else { return };
        let Some(entry) = self.queries.get_mut(&identity) else { return };
        entry.subscribers.retain(|subscriber| subscriber.key != key);
        if !entry.subscribers.is_empty() {
            return;
        }
        match entry.query.equality() {
            Some(equality) => self.by_equality.remove(equality, &identity),
            None => {
                self.of_all_changes.remove(&identity);
            }
        }
        self.queries.remove(&identity);
        if self.queries.is_empty() {
            *self = Self::default();
        }
    }

    pub fn is_empty(&self) -> bool {
        self.queries.is_empty()
    }

    pub fn len(&self) -> usize {
        self.identities.len()
    }

    /// Tells all subscribers what the changes are to their queries. Gives back those that are detached by it: their
    /// outbox was full, or their query could not be evaluated. Their sessions know already.
    pub fn deliver(&mut self, batch: &ChangeBatch) -> Vec<SubscriptionKey> {
        let mut lost = Vec::new();
        let concerned = match self.by_equality.concerned(batch) {
            Ok(concerned) => concerned,
            Err(error) => {
                lost.extend(self.identities.keys());
                self.end_all(&error);
                return lost;
            }
        };
        for entry in self.of_all_changes.iter().filter_map(|query| self.queries.get(query)) {
            lost.extend(entry.deliver(batch));
        }
        for (queries, changes) in concerned {
            let part = batch.only(&changes);
            for entry in queries.iter().filter_map(|query| self.queries.get(query)) {
                lost.extend(match &part {
                    Ok(part) => entry.deliver(part),
                    Err(error) => entry.end(error),
                });
            }
        }
        for key in &lost {
            self.detach(*key);
        }
        lost
    }

    /// Ends every subscription with `error`.
    pub fn end_all(&mut self, error: &Error) {
        for entry in self.queries.values() {
            entry.end(error);
        }
        *self = Self::default();
    }
}

impl Entry {
    fn events(&self, batch: &ChangeBatch) -> Result<Vec<Arc<LiveEvent>>> {
        let mut formats = Formats::default();
        for subscriber in &self.subscribers {
            formats.add(subscriber.format);
        }
        events(&*self.query, batch, formats)
    }

    /// Those that are detached by it.
    fn deliver(&self, batch: &ChangeBatch) -> Vec<SubscriptionKey> {
        match self.events(batch) {
            Ok(events) if events.is_empty() => Vec::new(),
            Ok(events) => self.push(&events),
            Err(error) => self.end(&error),
        }
    }

    fn push(&self, events: &[Arc<LiveEvent>]) -> Vec<SubscriptionKey> {
        let overflowed = |s: &&Subscriber| s.outbox.push(s.key, events) == Err(Overflow);
        self.subscribers.iter().filter(overflowed).map(|s| s.key).collect()
    }

    fn end(&self, error: &Error) -> Vec<SubscriptionKey> {
        for subscriber in &self.subscribers {
            let ended = match subscriber.of_many {
                true => Delivery::TableEnded(subscriber.key, self.query.table().id, error.clone()),
                false => Delivery::Ended(subscriber.key, error.clone()),
            };
            subscriber.outbox.tell(ended);
        }
        self.subscribers.iter().map(|s| s.key).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::live::outbox::{OutboxLimits, Taken};
    use crate::live::testing::{ScoreQuery, note, rows};
    use crate::model::ChangeKind;

    struct Session {
        outbox: Arc<Outbox>,
    }

    impl Session {
        fn new(events: usize) -> Self {
            Self { outbox: Outbox::new(OutboxLimits { events, bytes: 1 << 20 }) }
        }

        fn subscriber(&self, key: u64, format: Format) -> Subscriber {
            Subscriber { key: SubscriptionKey(key), format, outbox: self.outbox.clone(), of_many: false }
        }

        /// "key:seq" of each event, "key!CODE" of each ending; "overflow".
        fn told(&self) -> Vec<String> {
            let mut into = VecDeque::new();
            if self.outbox.take(100, &mut into) == Taken::Overflowed {
                return vec!["overflow".into()];
            }
            let text = |delivery| match delivery {
                Delivery::Event(key, event) => format!("{}:{}", key.0, event.seq),
                Delivery::Ended(key, error) => format!("{}!{}", key.0, error.code().live_wire()),
                other => format!("{other:?}"),
            };
            into.into_iter().map(text).collect()
        }
    }

    fn insert(score: i32, seq: i64) -> ChangeBatch {
        ChangeBatch::new(vec![ChangeKind::Insert], rows(&[note(1, 1, score, seq)]), None).unwrap()
    }

    fn at_least(score: i32) -> Arc<dyn LiveQuery> {
        Arc::new(ScoreQuery::all(Some(score)))
    }

    #[test]
    fn each_subscriber_hears_what_its_query_sees() {
        let (one, two) = (Session::new(10), Session::new(10));
        let mut registry = QueryRegistry::default();
        registry.attach(at_least(5), one.subscriber(1, Format::Json));
        registry.attach(at_least(5), two.subscriber(2, Format::MsgPack));
        registry.attach(at_least(8), two.subscriber(3, Format::Json));
        assert_eq!(registry.queries.len(), 2, "equal queries are one");
        for (score, seq) in [(4, 10), (6, 11), (9, 12)] {
            assert!(registry.deliver(&insert(score, seq)).is_empty());
        }
        assert_eq!(one.told(), ["1:11", "1:12"]);
        let mut told = two.told();
        told.sort();
        assert_eq!(told, ["2:11", "2:12", "3:12"]);
    }

    #[test]
    fn subscribers_of_one_query_share_the_bytes() {
        let (one, two) = (Session::new(10), Session::new(10));
        let mut registry = QueryRegistry::default();
        registry.attach(at_least(5), one.subscriber(1, Format::Json));
        registry.attach(at_least(5), two.subscriber(2, Format::Json));
        registry.deliver(&insert(6, 11));
        let event = |session: &Session| {
            let mut into = VecDeque::new();
            session.outbox.take(1, &mut into);
            let Some(Delivery::Event(_, event)) = into.pop_front() else { panic!("no event") };
            event
        };
        assert!(Arc::ptr_eq(&event(&one), &event(&two)));
    }

    #[test]
    fn who_can_not_keep_up_is_detached_and_the_others_hear_on() {
        let (slow, quick) = (Session::new(1), Session::new(10));
        let mut registry = QueryRegistry::default();
        registry.attach(at_least(0), slow.subscriber(1, Format::Json));
        registry.attach(at_least(0), quick.subscriber(2, Format::Json));
        assert!(registry.deliver(&insert(6, 11)).is_empty());
        assert_eq!(registry.deliver(&insert(6, 12)), [SubscriptionKey(1)]);
        assert!(registry.deliver(&insert(6, 13)).is_empty(), "nobody is told twice");
        assert_eq!(slow.told(), ["overflow"]);
        assert_eq!(quick.told(), ["2:11", "2:12", "2:13"]);
        assert_eq!(registry.len(), 1);
    }

    #[test]
    fn a_query_that_can_not_be_evaluated_ends_its_subscriptions_only() {
        let (one, two) = (Session::new(10), Session::new(10));
        let mut registry = QueryRegistry::default();
        registry.attach(at_least(5), one.subscriber(1, Format::Json));
        registry.attach(at_least(7), two.subscriber(2, Format::Json));
        let mut lost = registry.deliver(&insert(-1, 11));
        lost.sort();
        assert_eq!(lost, [SubscriptionKey(1), SubscriptionKey(2)]);
        assert_eq!(one.told(), ["1!SUBSCRIPTION_FAILED"]);
        assert!(registry.is_empty());
    }

    #[test]
    fn after_detach_nothing_comes() {
        let session = Session::new(10);
        let mut registry = QueryRegistry::default();
        registry.attach(at_least(0), session.subscriber(1, Format::Json));
        registry.attach(at_least(5), session.subscriber(1, Format::Json));
        assert_eq!((registry.len(), registry.queries.len()), (1, 1), "attached anew, not twice");
        registry.detach(SubscriptionKey(1));
        registry.detach(SubscriptionKey(1));
        registry.deliver(&insert(6, 11));
        assert!(session.told().is_empty());
        assert!(registry.is_empty());
    }

    proptest! {
        /// Queries that are found by their equality hear what they would hear if they were asked of every change.
        #[test]
        fn an_index_changes_nothing_that_is_told(
            changes in prop::collection::vec((0..3u8, prop::option::of(0..4i32), prop::option::of(0..4i32)), 1..30),
            batch_rows in 1..9usize,
        ) {
            let told = |query: fn(i32) -> ScoreQuery| {
                let session = Session::new(10_000);
                let mut registry = QueryRegistry::default();
                for score in 0..3 {
                    registry.attach(Arc::new(query(score)), session.subscriber(score.unsigned_abs().into(), Format::Json));
                }
                registry.attach(at_least(2), session.subscriber(9, Format::Json));
                for (number, part) in changes.chunks(batch_rows).enumerate() {
                    assert!(registry.deliver(&batch_of(part, number * batch_rows)).is_empty());
                }
                registry.detach(SubscriptionKey(1));
                assert!(registry.deliver(&insert(1, 1_000)).is_empty());
                let mut told = session.told();
                told.sort();
                told
            };
            prop_assert_eq!(told(ScoreQuery::exactly), told(|score| ScoreQuery::exactly(score).of_all_changes()));
        }
    }

    /// Kinds by number, each with the scores after and before it.
    fn batch_of(changes: &[(u8, Option<i32>, Option<i32>)], first: usize) -> ChangeBatch {
        let (mut kinds, mut new, mut old) = (Vec::new(), Vec::new(), Vec::new());
        for (at, (kind, score, before)) in changes.iter().enumerate() {
            let seq = 10 + (first + at) as i64;
            let before = note(seq, 1, *before, seq - 1);
            match kind {
                0 => new.push(note(seq, 1, *score, seq)),
                1 => new.push(note(seq, 1, *score, seq)),
                _ => new.push(crate::live::testing::Note { seq, ..before }.deleted()),
            }
            kinds.push([ChangeKind::Insert, ChangeKind::Update, ChangeKind::Delete][usize::from(*kind)]);
            old.extend((*kind > 0).then_some(before));
        }
        ChangeBatch::new(kinds, rows(&new), (!old.is_empty()).then(|| rows(&old))).unwrap()
    }

    #[test]
    fn an_empty_index_is_left_behind_by_none() {
        let session = Session::new(10);
        let mut registry = QueryRegistry::default();
        for score in 0..5i32 {
            let subscriber = session.subscriber(score.unsigned_abs().into(), Format::Json);
            registry.attach(Arc::new(ScoreQuery::exactly(score)), subscriber);
        }
        registry.deliver(&insert(3, 11));
        assert_eq!(session.told(), ["3:11"]);
        for score in 0..5 {
            registry.detach(SubscriptionKey(score));
        }
        assert!(registry.is_empty());
        assert_eq!(registry.deliver(&insert(3, 12)), []);
        assert!(session.told().is_empty());
    }

    #[test]
    fn all_can_be_ended_at_once() {
        let session = Session::new(10);
        let mut registry = QueryRegistry::default();
        registry.attach(at_least(0), session.subscriber(1, Format::Json));
        registry.end_all(&Error::ShuttingDown);
        assert_eq!(session.told(), ["1!SHUTTING_DOWN"]);
        assert!(registry.is_empty());
    }
}
