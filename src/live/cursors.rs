//! Durable cursors: where each group of a user stands, beyond its connections.
//!
//! Owns the positions that were acknowledged, who reads with a cursor now (one subscription at a time: the next takes
//! over), how many a user may have, and which of them have to be written.
//! Never writes: whoever persists takes what is dirty. Never holds a change back: a cursor is a number, not a queue.
//! Invariant: a position never goes back, and never beyond what its subscription was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use serde::{Deserialize, Serialize};

use super::outbox::SubscriptionKey;
use crate::error::{Result, SubscriptionFault};
use crate::model::{NamespaceName, Principal, Seq, TableId, TableName, UserId};

/// Longest name of a group.
pub const GROUP_BYTES_MAX: usize = 128;

/// Whose cursor, and its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CursorKey {
    pub user: UserId,
    pub group: Arc<str>,
}

impl CursorKey {
    /// # Errors
    /// `INVALID_SUBSCRIPTION_ID` for a name that is none.
    pub fn new(user: &UserId, group: &str) -> Result<Self> {
        let fits = (1..=GROUP_BYTES_MAX).contains(&group.len()) && !group.chars().any(char::is_control);
        if !fits || group.trim().is_empty() {
            return Err(SubscriptionFault::InvalidGroup.into());
        }
        Ok(Self { user: user.clone(), group: group.into() })
    }

    /// Its record's name. Neither part holds a control character.
    pub fn record_name(&self) -> String {
        format!("{}\n{}", self.user, self.group)
    }
}

/// What a cursor is a position in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CursorTarget {
    Table { table: TableId, name: TableName },
    Namespace { name: NamespaceName },
}

impl std::fmt::Display for CursorTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CursorTarget::Table { name, .. } => write!(f, "{name}"),
            CursorTarget::Namespace { name } => write!(f, "{name}.*"),
        }
    }
}

/// A cursor as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    pub user: UserId,
    pub group: String,
    /// Which holder of the user's name it is of.
    pub generation: u32,
    pub target: CursorTarget,
    /// Whose rows; `None`: those of all owners, or of a SHARED table.
    pub rows_of: Option<UserId>,
    /// Everything of the table up to here was acknowledged. Empty: nothing yet.
    pub positions: BTreeMap<TableId, Seq>,
    /// Microseconds since the Unix epoch.
    pub created_at: i64,
    /// When it was last read with or acknowledged.
    pub used_at: i64,
}

/// A cursor, and which subscription reads with it.
#[derive(Debug, Clone)]
pub struct CursorState {
    pub cursor: Cursor,
    pub holder: Option<SubscriptionKey>,
}

/// What a subscription names when it asks for a cursor.
#[derive(Debug, Clone)]
pub struct CursorWish {
    pub key: CursorKey,
    pub target: CursorTarget,
    pub rows_of: Option<UserId>,
}

/// What a claim found.
#[derive(Debug, PartialEq, Eq)]
pub struct Claimed {
    /// Where to read on; empty: from the beginning.
    pub positions: BTreeMap<TableId, Seq>,
    /// Who read with it before, and is to be told.
    pub before: Option<SubscriptionKey>,
}

/// All cursors of a database.
#[derive(Debug, Default)]
pub struct Cursors {
    state: Mutex<State>,
    writer: AtomicWaker,
}

#[derive(Debug, Default)]
struct State {
    cursors: BTreeMap<CursorKey, CursorState>,
    /// Changed since they were last taken to be written: at most as many as there are, or were.
    dirty: BTreeSet<CursorKey>,
}

impl Cursors {
    /// What was stored.
    pub fn load(&self, stored: Vec<Cursor>) {
        let mut state = self.lock();
        for cursor in stored {
            let key = CursorKey { user: cursor.user.clone(), group: cursor.group.as_str().into() };
            state.cursors.insert(key, CursorState { cursor, holder: None });
        }
    }

    /// From now on `holder` reads with the cursor, which is made where there is none.
    ///
    /// # Errors
    /// `CURSOR_MISMATCH` where it is of something else, `CURSOR_LIMIT_EXCEEDED`; `GROUP_TAKEN_OVER` where a later
    /// subscription has it already.
    pub fn claim(
        &self,
        wish: &CursorWish,
        reader: &Principal,
        holder: SubscriptionKey,
        max_per_user: usize,
        now_us: i64,
    ) -> Result<Claimed> {
        let mut state = self.lock();
        let found = state.cursors.get_mut(&wish.key).filter(|state| state.cursor.generation == reader.generation);
        let claimed = if let Some(found) = found {
            if found.cursor.target != wish.target || found.cursor.rows_of != wish.rows_of {
                let target = found.cursor.target.to_string();
                return Err(SubscriptionFault::OtherCursor { group: wish.key.group.to_string(), target }.into());
            }
            // Openings overtake each other: the subscription that was asked for last reads, whichever comes here first.
            if found.holder.is_some_and(|other| other > holder) {
                return Err(SubscriptionFault::TakenOver(wish.key.group.to_string()).into());
            }
            found.cursor.used_at = now_us;
            let before = found.holder.replace(holder).filter(|before| *before != holder);
            Claimed { positions: found.cursor.positions.clone(), before }
        } else {
            let own = state.cursors.keys().filter(|key| key.user == wish.key.user).count();
            if own >= max_per_user {
                return Err(SubscriptionFault::TooManyCursors { max: max_per_user }.into());
            }
            let cursor = Cursor {
                user: wish.key.user.clone(),
                group: wish.key.group.to_string(),
                generation: reader.generation,
                target: wish.target.clone(),
                rows_of: wish.rows_of.clone(),
                positions: BTreeMap::new(),
                created_at: now_us,
                used_at: now_us,
            };
            state.cursors.insert(wish.key.clone(), CursorState { cursor, holder: Some(holder) });
            Claimed { positions: BTreeMap::new(), before: None }
        };
        self.touch(state, wish.key.clone());
        Ok(claimed)
    }

    /// Everything up to these positions has been handled. One that is below the cursor's changes nothing.
    ///
    /// # Errors
    /// `ACK_REFUSED` where another reads with it, or it is gone.
    pub fn ack(
        &self,
        key: &CursorKey,
        holder: SubscriptionKey,
        positions: impl IntoIterator<Item = (TableId, Seq)>,
        now_us: i64,
    ) -> Result<()> {
        let mut state = self.lock();
        let held = state.cursors.get_mut(key).filter(|state| state.holder == Some(holder));
        let Some(held) = held else {
            let text = format!("group '{}' is read by another subscriber, or gone", key.group);
            return Err(SubscriptionFault::AckRefused(text).into());
        };
        let mut moved = false;
        for (table, seq) in positions {
            let position = held.cursor.positions.entry(table).or_insert(Seq::ZERO);
            moved |= seq > *position;
            *position = seq.max(*position);
        }
        held.cursor.used_at = now_us;
        if moved {
            self.touch(state, key.clone());
        }
        Ok(())
    }

    /// What it stood at is not there any more: it begins anew.
    pub fn forget_positions(&self, key: &CursorKey, holder: SubscriptionKey) {
        let mut state = self.lock();
        if let Some(held) = state.cursors.get_mut(key).filter(|state| state.holder == Some(holder)) {
            held.cursor.positions.clear();
            self.touch(state, key.clone());
        }
    }

    /// The subscription is over. Where another has taken over, nothing.
    pub fn release(&self, key: &CursorKey, holder: SubscriptionKey, now_us: i64) {
        let mut state = self.lock();
        if let Some(held) = state.cursors.get_mut(key).filter(|state| state.holder == Some(holder)) {
            held.holder = None;
            held.cursor.used_at = held.cursor.used_at.max(now_us);
            self.touch(state, key.clone());
        }
    }

    /// DROP CURSOR: gives back who read with it; `None`: there is none.
    pub fn remove(&self, key: &CursorKey) -> Option<Option<SubscriptionKey>> {
        let mut state = self.lock();
        let removed = state.cursors.remove(key)?;
        self.touch(state, key.clone());
        Some(removed.holder)
    }

    /// The table is gone, and what cursors said of it.
    pub fn table_dropped(&self, table: TableId) {
        self.retain(|CursorState { cursor, .. }| {
            let is_of = matches!(cursor.target, CursorTarget::Table { table: of, .. } if of == table);
            if is_of { Fate::Remove } else { Fate::of_change(cursor.positions.remove(&table).is_some()) }
        });
    }

    pub fn namespace_dropped(&self, namespace: &NamespaceName) {
        self.retain(|CursorState { cursor, .. }| {
            let is_of = matches!(&cursor.target, CursorTarget::Namespace { name } if name == namespace);
            if is_of { Fate::Remove } else { Fate::Keep }
        });
    }

    /// Removes those that `gone` says.
    pub fn remove_all(&self, gone: impl Fn(&Cursor) -> bool) {
        self.retain(|state| if gone(&state.cursor) { Fate::Remove } else { Fate::Keep });
    }

    /// Removes those that nobody has read with for so long.
    pub fn expire(&self, idle: Duration, now_us: i64) {
        let idle = i64::try_from(idle.as_micros()).unwrap_or(i64::MAX);
        self.retain(|state| {
            let over = state.holder.is_none() && now_us.saturating_sub(state.cursor.used_at) > idle;
            if over { Fate::Remove } else { Fate::Keep }
        });
    }

    /// All of them, by user and name.
    pub fn list(&self) -> Vec<CursorState> {
        self.lock().cursors.values().cloned().collect()
    }

    /// Ready when some have to be written; else the task of `cx` is woken once some have.
    pub fn poll_dirty(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.writer.register(cx.waker());
        if self.lock().dirty.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Up to `max` that have to be written, as they are now; `None`: it is gone.
    pub fn take_dirty(&self, max: usize) -> Vec<(CursorKey, Option<Cursor>)> {
        let mut state = self.lock();
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(key) = state.dirty.pop_first()
        {
            let cursor = state.cursors.get(&key).map(|state| state.cursor.clone());
            taken.push((key, cursor));
        }
        taken
    }

    /// They were not written after all.
    pub fn still_dirty(&self, keys: impl IntoIterator<Item = CursorKey>) {
        self.lock().dirty.extend(keys);
    }

    fn retain(&self, fate: impl Fn(&mut CursorState) -> Fate) {
        let mut state = self.lock();
        let mut changed = Vec::new();
        state.cursors.retain(|key, state| {
            let fate = fate(state);
            if fate != Fate::Keep {
                changed.push(key.clone());
            }
            fate != Fate::Remove
        });
        if !changed.is_empty() {
            state.dirty.extend(changed);
            drop(state);
            self.writer.wake();
        }
    }

    fn touch(&self, mut state: MutexGuard<'_, State>, key: CursorKey) {
        state.dirty.insert(key);
        drop(state);
        self.writer.wake();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock; if it did, the maps would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of a cursor.
#[derive(PartialEq, Eq)]
enum Fate {
    Keep,
    Changed,
    Remove,
}

impl Fate {
    fn of_change(changed: bool) -> Self {
        if changed { Fate::Changed } else { Fate::Keep }
    }
}

#[cfg(test)]
mod tests;
