//! The keyspaces that rows of STREAM tables lie in, and the time by which they expire.
//!
//! Owns which buckets are there. Which have to be, and which may go, is `partition::stream_buckets`' to say; when that is
//! asked, the database's.
//! **Order.** To drop buckets: 1. the moment is durable in a record; 2. time does not go back behind it; 3. no new view and no
//! commit finds them; 4. their keyspaces go, their files when the last view that has them is closed. A crash between any two
//! leaves buckets of which no reader takes a row, since time goes on from 1 after a restart: they are dropped anew.
//! So what was dropped is never missed, whatever the clock says later: it is expired for everyone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use fjall::compaction::Leveled;
use fjall::config::{BloomConstructionPolicy, FilterPolicy, FilterPolicyEntry};
use fjall::{Keyspace, KeyspaceCreateOptions};

use super::records::{RecordKind, RecordWrite};
use super::store::storage_error;
use crate::error::Result;
use crate::model::{Seq, StreamTtl};
use crate::partition::stream_buckets::{BucketId, BucketPlan, TtlClass};
use crate::time::Clock;

/// The record of kind 0: up to when buckets have been dropped, in milliseconds since the Unix epoch, as `u64be`.
pub(super) const DROPPED_RECORD: &str = "streams";

/// Small: there are several, and what is in the memtable of a bucket that goes was never written to a file.
const MEMTABLE_BYTES: u64 = 8 << 20;

pub(super) type Buckets = BTreeMap<BucketId, Keyspace>;

/// All buckets of a store.
pub struct StreamBuckets {
    db: fjall::Database,
    open: RwLock<Arc<Buckets>>,
    clock: OnceLock<Clock>,
    /// The latest moment that anyone was told: it does not go back.
    latest_ms: AtomicI64,
    dropped_ms: AtomicI64,
}

/// The buckets at one moment.
#[derive(Clone)]
pub(super) struct BucketView {
    pub buckets: Arc<Buckets>,
    pub now_ms: i64,
    /// Of those that are missing.
    pub dropped_ms: i64,
}

impl StreamBuckets {
    /// Those that are in `db`. Needs no clock: until it has one, nothing more expires than had when it was closed.
    pub(super) fn open(db: fjall::Database, dropped_ms: i64) -> Result<Self, fjall::Error> {
        let mut open = Buckets::new();
        for name in db.list_keyspace_names() {
            if let Some(id) = BucketId::parse(&name) {
                open.insert(id, db.keyspace(&name, options)?);
            }
        }
        Ok(Self {
            db,
            open: RwLock::new(Arc::new(open)),
            clock: OnceLock::new(),
            latest_ms: AtomicI64::new(dropped_ms),
            dropped_ms: AtomicI64::new(dropped_ms),
        })
    }

    /// From now on rows expire by this clock.
    pub fn run_by(&self, clock: Clock) {
        // Once: a store is opened by one database.
        let _ = self.clock.set(clock);
    }

    /// The time by which rows expire, and by which positions of STREAM tables are given: never before what it was.
    pub fn now_ms(&self) -> i64 {
        let now = self.clock.get().map_or(0, Clock::now_ms);
        let latest = self.latest_ms.load(Ordering::Acquire);
        if now <= latest { latest } else { self.latest_ms.fetch_max(now, Ordering::AcqRel).max(now) }
    }

    /// No position of a STREAM table that is gone with its bucket was greater.
    pub fn dropped_up_to(&self) -> Seq {
        Seq::first_at(self.dropped_ms.load(Ordering::Acquire))
    }

    pub(super) fn current(&self) -> Arc<Buckets> {
        self.open.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn view(&self) -> BucketView {
        // In this order: where a bucket is missing, the moment is behind that of its drop.
        let buckets = self.current();
        let now_ms = if buckets.is_empty() { 0 } else { self.now_ms() };
        BucketView { buckets, now_ms, dropped_ms: self.dropped_ms.load(Ordering::Acquire) }
    }

    pub fn ids(&self) -> BTreeSet<BucketId> {
        self.current().keys().copied().collect()
    }

    /// Of their files: what is in memory only is not counted.
    pub fn bytes(&self) -> u64 {
        self.current().values().map(Keyspace::disk_space).sum()
    }

    /// The bucket of a statement's rows whose last position is `last`. Made here only where the clock leapt: it takes 12 ms,
    /// and all commits wait for it.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(super) fn bucket(&self, ttl: &StreamTtl, last: Seq) -> Result<Keyspace> {
        let id = BucketId::of(TtlClass::of(ttl.seconds()), last, self.dropped_ms.load(Ordering::Acquire));
        if let Some(bucket) = self.current().get(&id) {
            return Ok(bucket.clone());
        }
        tracing::debug!(bucket = %id.name(), "a bucket of STREAM rows is made while its rows wait");
        self.make(id)
    }

    /// Where a row is that was found under this key.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(super) fn holding(&self, row: &[u8]) -> Result<Option<Keyspace>> {
        for bucket in self.current().values().rev() {
            if bucket.contains_key(row).map_err(storage_error)? {
                return Ok(Some(bucket.clone()));
            }
        }
        Ok(None)
    }

    /// Makes the buckets that a plan wants. Blocks on the disk.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub fn make_all(&self, plan: &BucketPlan) -> Result<()> {
        plan.make.iter().try_for_each(|id| self.make(*id).map(drop))
    }

    pub(super) fn make(&self, id: BucketId) -> Result<Keyspace> {
        let bucket = self.db.keyspace(&id.name(), options).map_err(storage_error)?;
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::make_mut(&mut *open).entry(id).or_insert(bucket).clone())
    }

    /// The record that has to be durable before [`StreamBuckets::drop_all`].
    pub fn note_of_drop(&self, now_ms: i64) -> RecordWrite {
        let value = now_ms.to_be_bytes().to_vec();
        RecordWrite { kind: RecordKind::Store, key: DROPPED_RECORD.to_owned(), value: Some(value) }
    }

    /// Drops the buckets of a plan that was made for `now_ms`. Blocks on the disk.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub fn drop_all(&self, plan: &BucketPlan, now_ms: i64) -> Result<()> {
        self.latest_ms.fetch_max(now_ms, Ordering::AcqRel);
        self.dropped_ms.fetch_max(now_ms, Ordering::AcqRel);
        let taken: Vec<Keyspace> = {
            let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
            let open = Arc::make_mut(&mut *open);
            plan.drop.iter().filter_map(|id| open.remove(id)).collect()
        };
        for bucket in taken {
            crate::failpoint::pass("bucket_dropping");
            self.db.delete_keyspace(bucket).map_err(storage_error)?;
            crate::failpoint::pass("bucket_dropped");
        }
        Ok(())
    }
}

fn options() -> KeyspaceCreateOptions {
    let filter = FilterPolicy::all(FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0)));
    let compaction = Leveled::default().with_l0_threshold(8);
    let options = KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE_BYTES);
    options.compaction_strategy(Arc::new(compaction)).filter_policy(filter)
}
