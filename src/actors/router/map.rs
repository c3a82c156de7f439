//! The partitions in use, and their actors.
//!
//! Invariant: PT-3. An actor leaves the map under its shard's lock, and only when no message is on its way to it.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use actix::dev::ToEnvelope;
use actix::{Addr, Context, Handler, Message};

use crate::actors::inbox;
use crate::actors::partition::PartitionActor;
use crate::model::PartitionKey;

const SHARDS: usize = 64;

/// Partitions in use. Sharded, so that HTTP workers rarely meet.
pub struct RouterMap {
    hasher: RandomState,
    shards: Vec<RwLock<HashMap<PartitionKey, PartitionEntry>>>,
    started: Instant,
}

pub(super) struct PartitionEntry {
    pub addr: Addr<PartitionActor>,
    pub queued: Arc<AtomicUsize>,
    /// Seconds since the map was made.
    pub last_used: AtomicU64,
}

impl RouterMap {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            started: Instant::now(),
        }
    }

    pub(super) fn shard(&self, key: &PartitionKey) -> &RwLock<HashMap<PartitionKey, PartitionEntry>> {
        let hash = self.hasher.hash_one(key);
        &self.shards[(hash % SHARDS as u64) as usize]
    }

    pub(super) fn now_s(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// Sends under the shard's lock, so that the actor cannot leave the map in between.
    pub(super) fn send<M>(&self, key: &PartitionKey, message: M) -> Result<(), M>
    where
        M: Message<Result = ()> + Send + 'static,
        PartitionActor: Handler<M>,
        Context<PartitionActor>: ToEnvelope<PartitionActor, M>,
    {
        let shard = self.shard(key).read().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = shard.get(key) else { return Err(message) };
        entry.queued.fetch_add(1, Ordering::Acquire);
        entry.last_used.store(self.now_s(), Ordering::Relaxed);
        inbox::send(&entry.addr, message);
        Ok(())
    }

    /// Takes the partition whose messages `queued` counts out of the map, unless one is on its way to it. An actor that
    /// left already and is told again must not take its successor out.
    pub fn remove_if_unused(&self, key: &PartitionKey, queued: &Arc<AtomicUsize>) -> bool {
        let mut shard = self.shard(key).write().unwrap_or_else(PoisonError::into_inner);
        let own = shard.get(key).is_some_and(|entry| Arc::ptr_eq(&entry.queued, queued));
        if !own || queued.load(Ordering::Acquire) > 0 {
            return false;
        }
        shard.remove(key);
        true
    }

    pub(super) fn for_each_idle(&self, idle_s: u64, mut act: impl FnMut(&Addr<PartitionActor>)) {
        let now = self.now_s();
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            let idle = |e: &&PartitionEntry| now.saturating_sub(e.last_used.load(Ordering::Relaxed)) >= idle_s;
            shard.values().filter(idle).for_each(|e| act(&e.addr));
        }
    }

    pub(super) fn chosen(&self, wanted: impl Fn(&PartitionKey) -> bool) -> Vec<Addr<PartitionActor>> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            found.extend(shard.iter().filter(|(key, _)| wanted(key)).map(|(_, e)| e.addr.clone()));
        }
        found
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|s| s.read().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }
}
