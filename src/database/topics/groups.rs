//! The groups in use: memory of what the store has of them, and their claims.
//!
//! Owns that two members of a group do not get the same message: whoever delivers holds the group's slot over reading,
//! claiming and handing the group's new state to the committer.
//! Never decides what is delivered: [`GroupCore`] does. Claims are nowhere else, so a restart delivers again what was not
//! acknowledged.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::model::{GroupId, GroupKey, TopicId, TopicMeta};
use crate::storage::ReadView;
use crate::topics::GroupCore;

#[derive(Debug, Default)]
pub(in crate::database) struct Groups(Mutex<Map>);

#[derive(Debug, Default)]
struct Map {
    slots: HashMap<GroupKey, Arc<Mutex<Slot>>>,
    /// Topics that were dropped since the start: nothing of theirs is written any more.
    retired: HashSet<TopicId>,
    /// Groups whose removal is on its way to the log.
    dropping: HashSet<(TopicId, GroupId)>,
}

/// A group in one partition.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// `None`: there is no such group, or nobody has looked yet.
    pub core: Option<GroupCore>,
    /// It was dropped, or its topic: whoever holds the slot still, begins anew.
    gone: bool,
}

impl Groups {
    /// Runs `work` with a group's slot, its core read from the store where it is the first to look.
    ///
    /// # Errors
    /// `NOT_FOUND` where the topic was dropped, `BUSY` where the group is; those of `work`.
    pub(super) fn with<T>(
        &self,
        key: &GroupKey,
        topic: &TopicMeta,
        view: impl Fn() -> ReadView,
        work: impl FnOnce(&mut Slot, ReadView) -> Result<T>,
    ) -> Result<T> {
        loop {
            let slot = {
                let mut map = self.lock();
                if map.retired.contains(&topic.id) {
                    return Err(Error::TopicNotFound(topic.name.to_string()));
                }
                if map.dropping.contains(&(topic.id, key.group.clone())) {
                    return Err(Error::Busy);
                }
                map.slots.entry(key.clone()).or_default().clone()
            };
            let mut held = lock(&slot);
            if held.gone {
                continue;
            }
            let view = view();
            if held.core.is_none() {
                held.core = view.topic_group(key)?.as_ref().map(GroupCore::restore);
            }
            let done = work(&mut held, view);
            if held.core.is_none() {
                // Nobody's: a name that was only asked for takes no memory.
                held.gone = true;
                drop(held);
                let mut map = self.lock();
                if map.slots.get(key).is_some_and(|now| Arc::ptr_eq(now, &slot)) {
                    map.slots.remove(key);
                }
            }
            return done;
        }
    }

    /// Whoever is at work with the group has handed over its state when this returns; later ones are told `BUSY` for as long
    /// as the answer lives.
    pub(super) fn begin_drop(&self, topic: TopicId, group: &GroupId) -> DroppingGroup<'_> {
        self.lock().dropping.insert((topic, group.clone()));
        self.remove(|key| key.at.topic == topic && key.group == *group);
        DroppingGroup { groups: self, group: (topic, group.clone()) }
    }

    /// The same of all groups of a dropped topic, for good.
    pub(super) fn retire(&self, topic: TopicId) {
        self.lock().retired.insert(topic);
        self.remove(|key| key.at.topic == topic);
    }

    fn remove(&self, goes: impl Fn(&GroupKey) -> bool) {
        let mut gone = Vec::new();
        self.lock().slots.retain(|key, slot| {
            let goes = goes(key);
            if goes {
                gone.push(slot.clone());
            }
            !goes
        });
        for slot in gone {
            lock(&slot).gone = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Map> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A group's removal under way.
pub(super) struct DroppingGroup<'a> {
    groups: &'a Groups,
    group: (TopicId, GroupId),
}

impl Drop for DroppingGroup<'_> {
    fn drop(&mut self) {
        self.groups.lock().dropping.remove(&self.group);
    }
}

fn lock(slot: &Mutex<Slot>) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}
