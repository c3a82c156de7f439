//! What a subscription follows: one table, or all of a namespace. The session treats both alike.

use std::sync::Arc;

use crate::error::{Error, SubscriptionFault};
use crate::live::namespace::NamespaceFeed;
use crate::live::pages::{Page, PageRequest};
use crate::live::subscription::{Step, Subscription};
use crate::live::{LiveEvent, Position};
use crate::model::{Seq, TableId};

/// A step, and which of several tables it is about.
pub(super) type FeedStep = (Option<TableId>, Step);

#[derive(Debug)]
pub(super) enum Feed {
    /// Until it is opened, any is.
    Table(Subscription),
    Namespace(Box<NamespaceFeed>),
}

impl Feed {
    pub(super) fn page(&mut self, table: Option<TableId>, page: Page, now_us: i64) -> Result<Vec<FeedStep>, Error> {
        match (self, table) {
            (Feed::Table(subscription), _) => subscription.page(page).map(of_one),
            (Feed::Namespace(feed), Some(table)) => feed.page(table, page, now_us).map(of_many),
            (Feed::Namespace(_), None) => Err(Error::internal("a page of none of a feed's tables")),
        }
    }

    pub(super) fn next_batch(&mut self, now_us: i64) -> Result<Vec<FeedStep>, Error> {
        match self {
            Feed::Table(subscription) => subscription.next_batch(now_us).map(of_one),
            Feed::Namespace(feed) => feed.next_batch(now_us).map(of_many),
        }
    }

    pub(super) fn has_room(&mut self, now_us: i64) -> Option<(Option<TableId>, PageRequest)> {
        match self {
            Feed::Table(subscription) => subscription.has_room(now_us).map(|page| (None, page)),
            Feed::Namespace(feed) => feed.has_room(now_us).map(|(table, page)| (Some(table), page)),
        }
    }

    pub(super) fn event(&mut self, event: Arc<LiveEvent>) -> Result<Option<Arc<LiveEvent>>, Error> {
        match self {
            Feed::Table(subscription) => subscription.event(event),
            Feed::Namespace(feed) => feed.event(event),
        }
    }

    pub(super) fn sent(&mut self, table: Option<TableId>, seq: Seq) {
        match (self, table) {
            (Feed::Table(subscription), _) => subscription.sent(seq),
            (Feed::Namespace(feed), Some(table)) => feed.sent(table, seq),
            (Feed::Namespace(_), None) => {}
        }
    }

    /// The positions that an acknowledgement names. `table`: of a subscription to one table, which.
    ///
    /// # Errors
    /// Why it is refused: it names what was not sent.
    pub(super) fn acknowledged(&self, table: Option<TableId>, upto: &Position) -> Result<Vec<(TableId, Seq)>, String> {
        let beyond = |upto: Seq, sent: Seq| format!("position {upto} was not delivered; the last one is {sent}");
        match (self, upto) {
            (Feed::Table(subscription), Position::Seq(upto)) => {
                let table = table.ok_or_else(|| "the subscription is not open yet".to_owned())?;
                let sent = subscription.last_delivered().unwrap_or(Seq::ZERO);
                if *upto > sent { Err(beyond(*upto, sent)) } else { Ok(vec![(table, *upto)]) }
            }
            (Feed::Table(_), Position::Tables(_)) => Err("a subscription to one table has one position".to_owned()),
            (Feed::Namespace(feed), Position::Seq(upto)) => {
                let sent = feed.delivered_of().map(|(_, _, sent)| sent).max().unwrap_or(Seq::ZERO);
                if *upto > sent {
                    return Err(beyond(*upto, sent));
                }
                Ok(feed.delivered_of().map(|(table, _, sent)| (table, sent.min(*upto))).collect())
            }
            (Feed::Namespace(feed), Position::Tables(tables)) => {
                let of = |(name, upto): (&String, &Seq)| {
                    let found = feed.delivered_of().find(|(_, table, _)| *table == name.as_str());
                    let (table, _, sent) = found.ok_or_else(|| format!("table {name} is not in the subscription"))?;
                    if *upto > sent { Err(beyond(*upto, sent)) } else { Ok((table, *upto)) }
                };
                tables.iter().map(of).collect()
            }
        }
    }

    /// What a subscriber is told that can not keep up.
    pub(super) fn slow(&self) -> SubscriptionFault {
        match self {
            Feed::Table(subscription) => {
                SubscriptionFault::SlowConsumer { last_delivered: subscription.last_delivered() }
            }
            Feed::Namespace(feed) => SubscriptionFault::SlowFeed { positions: feed.delivered() },
        }
    }

    pub(super) fn expired(&self, now_us: i64) -> Option<SubscriptionFault> {
        match self {
            Feed::Table(subscription) => subscription.expired(now_us),
            Feed::Namespace(feed) => feed.expired(now_us),
        }
    }

    /// Bytes that are held back.
    pub(super) fn held(&self) -> usize {
        match self {
            Feed::Table(subscription) => subscription.held().1,
            Feed::Namespace(feed) => feed.held().1,
        }
    }

    pub(super) fn phase(&self) -> &'static str {
        match self {
            Feed::Table(subscription) => subscription.phase(),
            Feed::Namespace(feed) => feed.phase(),
        }
    }

    pub(super) fn is_of_one(&self) -> bool {
        matches!(self, Feed::Table(_))
    }

    pub(super) fn is_live(&self) -> bool {
        match self {
            Feed::Table(subscription) => subscription.is_live(),
            Feed::Namespace(feed) => feed.is_live(),
        }
    }
}

pub(super) fn of_one(steps: Vec<Step>) -> Vec<FeedStep> {
    steps.into_iter().map(|step| (None, step)).collect()
}

pub(super) fn of_many(steps: Vec<(TableId, Step)>) -> Vec<FeedStep> {
    steps.into_iter().map(|(table, step)| (Some(table), step)).collect()
}
