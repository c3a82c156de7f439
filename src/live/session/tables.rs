//! Subscriptions to a namespace: how one is opened, and its tables that come, change and go.
//!
//! Owns what the subscriber is told of them. A table that is altered leaves and comes back where it stood; one that is
//! made joins with all its rows; one that is dropped is told, and the others go on.

use super::feed::{Feed, of_many};
use super::outgoing::Item;
use super::{Effect, HeldCursor, SessionCore};
use crate::error::{Error, ErrorCode, Result, SubscriptionFault};
use crate::live::frames::{ServerMessage, TableChange};
use crate::live::limits::MAX_REPLIES;
use crate::live::namespace::{FeedTable, NamespaceFeed};
use crate::live::outbox::{Delivery, SubscriptionKey};
use crate::live::pages::Page;
use crate::live::subscription::{Start, Step, Subscription};
use crate::model::result::ResultSchema;
use crate::model::{Seq, TableId, TableName};

/// A subscription to a namespace whose tables are attached.
#[derive(Debug)]
pub struct OpenedFeed {
    pub schema: ResultSchema,
    /// In the order in which they are loaded.
    pub tables: Vec<FeedTable>,
    /// The first page of the first of them.
    pub first: Option<Page>,
    /// Rows were asked for.
    pub loads: bool,
    /// What it acknowledges to.
    pub cursor: Option<HeldCursor>,
}

/// A table to be taken into a subscription's namespace.
#[derive(Debug, Clone)]
pub struct JoinRequest {
    pub key: SubscriptionKey,
    pub table: TableName,
    /// What was told of it before; ZERO: it is new.
    pub told: Seq,
    /// It was there before, with other columns.
    pub altered: bool,
}

/// A table that is attached now.
#[derive(Debug)]
pub struct Joined {
    pub table: FeedTable,
    pub schema: ResultSchema,
    pub first: Page,
}

impl SessionCore {
    /// The answer to [`Effect::Open`] of a namespace. Says whether the subscription is still wanted.
    pub fn opened_feed(&mut self, key: SubscriptionKey, opened: OpenedFeed, now_us: i64) -> bool {
        self.working -= 1;
        let held = self.limits.held;
        let Some(entry) = self.current(key) else { return false };
        let OpenedFeed { schema, tables, first, loads, cursor } = opened;
        entry.cursor = cursor.map(Box::new);
        let Feed::Table(before) = &mut entry.feed else { return false };
        let waiting = Subscription::new(Start::Changes, held, now_us);
        let early = std::mem::replace(before, waiting).into_held();
        // A client that asked for rows waits for a batch, be there tables or not.
        let loads_nothing = tables.is_empty() && loads;
        match NamespaceFeed::opened(tables, first, early, held, now_us) {
            Ok((feed, control, steps)) => {
                let positions = feed.begins_at();
                let live = feed.is_live();
                entry.feed = Feed::Namespace(Box::new(feed));
                let (id, late) = (entry.id.clone(), std::mem::take(&mut entry.early));
                if !live {
                    self.with_view.insert(key);
                }
                let ack =
                    ServerMessage::FeedAck { subscription_id: &id, control, schema: &schema, positions: &positions };
                self.queue.push_message(&ack, self.wire);
                let mut steps = of_many(steps);
                if loads_nothing {
                    steps.push((None, Step::Batch { rows: None, control, reached: None }));
                }
                self.run(key, None, steps);
                for delivery in late {
                    self.deliver(delivery);
                }
                self.current(key).is_some()
            }
            Err(error) => {
                self.fail(key, &error);
                false
            }
        }
    }

    /// The answer to [`Effect::Join`]; `None`: it is no table of the feed, or is in it. Says whether it is still wanted.
    pub fn joined(&mut self, request: &JoinRequest, joined: Result<Option<Joined>>, now_us: i64) -> bool {
        self.working -= 1;
        let key = request.key;
        let Some(entry) = self.current(key) else { return false };
        let Feed::Namespace(feed) = &mut entry.feed else { return false };
        let id = entry.id.clone();
        let (schema, table) = match joined {
            Ok(Some(Joined { table, schema, first })) => (Some(schema), Some((table, first))),
            Ok(None) => (None, None),
            Err(error) => match error.code() {
                // Gone again.
                ErrorCode::TableNotFound | ErrorCode::TableDropped => (None, None),
                // Another one already.
                ErrorCode::TableAltered => {
                    self.waiting.push_back(Effect::Join(request.clone()));
                    return false;
                }
                _ => {
                    self.fail(key, &error);
                    return false;
                }
            },
        };
        let wanted = table.is_some();
        let name = table.as_ref().map_or_else(|| request.table.to_string(), |(table, _)| table.name.clone());
        let change = match (&schema, request.altered) {
            (Some(_), true) => Some(TableChange::Altered),
            (Some(_), false) => Some(TableChange::Joined),
            (None, true) => Some(TableChange::Dropped),
            (None, false) => None,
        };
        match feed.joined(table, now_us) {
            Ok(steps) => {
                if !feed.is_live() {
                    self.with_view.insert(key);
                }
                if let Some(change) = change {
                    self.tell_table(&id, change, &name, schema.as_ref());
                }
                self.run(key, None, of_many(steps));
                wanted && self.current(key).is_some()
            }
            Err(error) => {
                self.fail(key, &error);
                false
            }
        }
    }

    /// A table of the subscription is gone, or another.
    pub(super) fn table_ended(&mut self, key: SubscriptionKey, table: TableId, error: Error) {
        let Some(entry) = self.current(key) else { return };
        let id = entry.id.clone();
        let Feed::Namespace(feed) = &mut entry.feed else {
            return self.early(key, Delivery::TableEnded(key, table, error));
        };
        if !feed.has_table(table) {
            return;
        }
        match (&error, error.code()) {
            (_, ErrorCode::TableDropped) => {
                let Some((left, steps)) = feed.left(table) else { return };
                if feed.is_live() {
                    self.with_view.remove(&key);
                }
                self.effects.push(Effect::Leave(key, table));
                self.tell_table(&id, TableChange::Dropped, &left.name, None);
                self.run(key, None, of_many(steps));
            }
            (Error::TableAltered(name), _) => {
                let Some((left, _)) = feed.left(table) else { return };
                // What was being loaded would begin anew with other columns: the client does.
                let Some(told) = left.told else { return self.fail(key, &error) };
                feed.joins();
                self.effects.push(Effect::Leave(key, table));
                self.waiting.push_back(Effect::Join(JoinRequest { key, table: name.clone(), told, altered: true }));
            }
            _ => self.fail(key, &error),
        }
    }

    /// The subscription is over. Of a namespace that is gone, the tables are told first: their own words may come later.
    pub(super) fn ended(&mut self, key: SubscriptionKey, error: &Error) {
        if let (Some(entry), Error::Subscription(SubscriptionFault::NamespaceDropped(_))) = (self.current(key), error)
            && let Feed::Namespace(feed) = &entry.feed
        {
            let (id, left) = (entry.id.clone(), feed.delivered());
            for table in left.keys() {
                self.tell_table(&id, TableChange::Dropped, table, None);
            }
        }
        self.end(key, error);
    }

    /// There is a new table in the subscription's namespace.
    pub(super) fn table_made(&mut self, key: SubscriptionKey, table: TableName) {
        let Some(entry) = self.current(key) else { return };
        let Feed::Namespace(feed) = &mut entry.feed else {
            return self.early(key, Delivery::TableMade(key, table));
        };
        feed.joins();
        self.waiting.push_back(Effect::Join(JoinRequest { key, table, told: Seq::ZERO, altered: false }));
        if self.waiting.len() > MAX_REPLIES {
            self.overflowed();
        }
    }

    /// Its tables are not known yet: what becomes of them waits.
    fn early(&mut self, key: SubscriptionKey, delivery: Delivery) {
        let Some(entry) = self.current(key) else { return };
        entry.early.push(delivery);
        if entry.early.len() > MAX_REPLIES {
            self.overflowed();
        }
    }

    /// Ends it, or the whole session where it can not keep up.
    pub(super) fn fail(&mut self, key: SubscriptionKey, error: &Error) {
        if error.code() == ErrorCode::SlowConsumer { self.overflowed() } else { self.end(key, error) }
    }

    fn tell_table(&mut self, id: &str, change: TableChange, table: &str, schema: Option<&ResultSchema>) {
        let message = ServerMessage::FeedTable { subscription_id: id, change, table, schema };
        match message.frame(self.wire) {
            Ok(frame) => self.reply(Item::Frame(frame, message.label())),
            Err(error) => tracing::error!(%error, "a table's change could not be encoded"),
        }
    }
}
