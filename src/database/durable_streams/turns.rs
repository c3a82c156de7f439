//! Whose turn it is to write to the streams of a mailbox, and the bell that wakes their readers.
//!
//! One write of a mailbox's streams is under way at a time: what it decides is decided on the record that the one before
//! it has left. Mailboxes that share a number wait for each other, and hear each other's bell: both are harmless.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use tokio::sync::{Mutex, Notify, OwnedMutexGuard};

use crate::model::PartitionKey;

const NUMBERS: usize = 1_024;

pub(in crate::database) struct Turns {
    numbers: Box<[Number]>,
}

#[derive(Default)]
struct Number {
    turn: Arc<Mutex<()>>,
    bell: Arc<Notify>,
}

/// Held until a write has ended. Then whoever waits for rows looks again, and the next writer begins.
pub(in crate::database) struct Turn {
    bell: Arc<Notify>,
    _turn: OwnedMutexGuard<()>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.bell.notify_waiters();
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self { numbers: (0..NUMBERS).map(|_| Number::default()).collect() }
    }
}

impl Turns {
    /// Waits for the writers that came before.
    pub(super) async fn take(&self, mailbox: &PartitionKey) -> Turn {
        let number = self.number(mailbox);
        let turn = number.turn.clone().lock_owned().await;
        Turn { bell: number.bell.clone(), _turn: turn }
    }

    /// Rings behind each write.
    pub(super) fn bell(&self, mailbox: &PartitionKey) -> Arc<Notify> {
        self.number(mailbox).bell.clone()
    }

    /// Everyone looks again: the server stops.
    pub(in crate::database) fn ring_all(&self) {
        self.numbers.iter().for_each(|number| number.bell.notify_waiters());
    }

    fn number(&self, mailbox: &PartitionKey) -> &Number {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(mailbox);
        &self.numbers[usize::try_from(hash % NUMBERS as u64).unwrap_or(0)]
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::model::{Owner, TableId};

    #[tokio::test]
    async fn writers_take_turns_and_readers_hear_of_each() {
        let turns = Turns::default();
        let mailbox = PartitionKey { table: TableId(1), owner: Owner::Shared };
        let bell = turns.bell(&mailbox);
        let first = turns.take(&mailbox).await;
        let mut second = Box::pin(turns.take(&mailbox));
        assert!(second.as_mut().now_or_never().is_none());
        let mut heard = Box::pin(bell.notified());
        heard.as_mut().enable();
        assert!(heard.as_mut().now_or_never().is_none());
        drop(first);
        assert!(heard.now_or_never().is_some());
        let other = PartitionKey { table: TableId(2), owner: Owner::Shared };
        drop((second.await, turns.take(&other).await));
    }
}
