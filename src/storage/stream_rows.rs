//! Rows of STREAM tables in a view: which buckets they are read from, and from which position on.
//!
//! Owns that an expired row is in no scan: a scan begins behind the last one, by a seek. A table's buckets follow each other as
//! its positions do, so rows come in `_seq` order without a merge.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use fjall::{Keyspace, Readable};

use super::feed_scan::FeedSource;
use super::keys;
use super::partition_rows::{PartitionRows, RowsPart};
use super::read_view::ReadView;
use super::row_scan::{Order, ordered};
use super::store::storage_error;
use crate::error::{Error, Result};
use crate::model::{Owner, PartitionKey, Seq, StoredRow, StreamTtl, TableMeta};
use crate::partition::stream_buckets::TtlClass;

impl ReadView {
    /// The fixed keyspaces and the buckets, by name.
    pub(super) fn all_keyspaces(&self) -> Vec<(String, Keyspace)> {
        let fixed = self.keyspaces().named().map(|(name, keyspace)| (name.to_owned(), keyspace.clone()));
        let buckets = self.streams().buckets.iter().map(|(id, bucket)| (id.name(), bucket.clone()));
        fixed.into_iter().chain(buckets).collect()
    }

    /// The last position that is expired.
    pub(super) fn expired_up_to(&self, ttl: &StreamTtl) -> Seq {
        ttl.expired_up_to(self.streams().now_ms)
    }

    /// The buckets that may hold rows of a table in `range`, each with the positions that are to be read from it, ascending.
    fn buckets_of(&self, ttl: &StreamTtl, range: &RangeInclusive<Seq>) -> Vec<(Keyspace, RangeInclusive<Seq>)> {
        let mut found = Vec::new();
        for era in ttl.eras() {
            let (first, last) = (era.first.max(*range.start()), era.last.min(*range.end()));
            if first > last {
                continue;
            }
            let class = TtlClass::of(era.seconds);
            let of_class = self.streams().buckets.iter().filter(|(id, _)| id.class() == class && id.end() >= first);
            found.extend(of_class.map(|(_, bucket)| (bucket.clone(), first..=last)));
        }
        found
    }

    /// The buckets that may hold rows of a table which are there.
    pub(super) fn buckets_there(&self, ttl: &StreamTtl) -> impl Iterator<Item = Keyspace> {
        let there = self.expired_up_to(ttl).after()..=Seq::MAX;
        self.buckets_of(ttl, &there).into_iter().map(|(bucket, _)| bucket)
    }

    /// The last position of one owner's rows that is expired or gave way.
    fn gone_up_to(&self, ttl: &StreamTtl, key: &PartitionKey) -> Result<Seq> {
        Ok(self.expired_up_to(ttl).max(self.trimmed(ttl, key)?))
    }

    /// The rows of one owner that are there, in `range`; tombstones included.
    pub(super) fn stream_rows(
        &self,
        table: &TableMeta,
        owner: &Owner,
        range: RangeInclusive<Seq>,
        order: Order,
    ) -> Result<PartitionRows> {
        Ok(PartitionRows::new(self.stream_parts(table, owner, range, order)?))
    }

    fn stream_parts(
        &self,
        table: &TableMeta,
        owner: &Owner,
        range: RangeInclusive<Seq>,
        order: Order,
    ) -> Result<VecDeque<RowsPart>> {
        let Some(ttl) = &table.ttl else { return Ok(VecDeque::new()) };
        let key = PartitionKey { table: table.id, owner: owner.clone() };
        let range = (*range.start()).max(self.gone_up_to(ttl, &key)?.after())..=*range.end();
        let buckets = self.buckets_of(ttl, &range).into_iter();
        let parts = buckets.map(|(bucket, range)| {
            let from = self.block_begin(&bucket, &key, Seq::ZERO, *range.start());
            RowsPart::Hot(self.scan_from(&bucket, &key, from, (range, order)))
        });
        Ok(match order {
            Order::Ascending => parts.collect(),
            Order::Descending => parts.rev().collect(),
        })
    }

    /// The rows of one owner that are there, in order, without waiting for anything but the disk.
    pub(super) fn stream_scan(
        &self,
        table: &TableMeta,
        owner: &Owner,
        range: RangeInclusive<Seq>,
    ) -> Result<impl Iterator<Item = Result<StoredRow>> + use<>> {
        let hot = |part| match part {
            RowsPart::Hot(rows) => Some(rows),
            RowsPart::Cold(..) => None,
        };
        Ok(self.stream_parts(table, owner, range, Order::Ascending)?.into_iter().filter_map(hot).flatten())
    }

    /// The row at a position, if it is there.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub fn stream_row(&self, table: &TableMeta, owner: &Owner, seq: Seq) -> Result<Option<StoredRow>> {
        let found = self.stream_scan(table, owner, seq..=seq)?.next().transpose()?;
        Ok(found.filter(|row| !row.deleted))
    }

    /// How far one owner's rows gave way to newer ones.
    pub(super) fn trimmed_up_to(&self, table: &TableMeta, owner: &Owner) -> Result<Seq> {
        let Some(ttl) = &table.ttl else { return Ok(Seq::ZERO) };
        let key = PartitionKey { table: table.id, owner: owner.clone() };
        self.trimmed(ttl, &key)
    }

    /// What the feed over all owners of a table is read from: entries of what is there, with the keyspace of their rows.
    pub(super) fn stream_feed(
        &self,
        table: &TableMeta,
        range: &RangeInclusive<Seq>,
        order: Order,
    ) -> VecDeque<FeedSource> {
        let Some(ttl) = &table.ttl else { return VecDeque::new() };
        let sources = self.buckets_of(ttl, range).into_iter().map(|(rows, range)| {
            let from = self.feed_entry_before(&rows, keys::stream_feed, table.id, *range.start());
            let (first, last) = (keys::stream_feed(table.id, from), keys::stream_feed(table.id, *range.end()));
            let entries = ordered(self.snapshot().range(&rows, first..=last), order);
            FeedSource { rows, entries }
        });
        match order {
            Order::Ascending => sources.collect(),
            Order::Descending => sources.rev().collect(),
        }
    }

    /// Position of the last change of a table, or of one owner's rows of it, and above which position no change is missing.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub fn reach(&self, table: &TableMeta, owner: Option<&Owner>) -> Result<(Seq, Seq)> {
        let key = |owner: &Owner| PartitionKey { table: table.id, owner: owner.clone() };
        match (&table.ttl, owner) {
            (None, Some(owner)) => Ok((self.head(&key(owner))?, self.replayable_from(&key(owner))?)),
            (None, None) => Ok((self.feed_head(table.id)?, self.feed_replayable_from(table.id)?)),
            (Some(ttl), owner) => {
                let last = self.last_of_stream(table, ttl, owner)?;
                let (gone, trimmed) = match owner {
                    Some(owner) => (self.gone_up_to(ttl, &key(owner))?, self.trimmed(ttl, &key(owner))?),
                    None => {
                        let trimmed = self.feed_trimmed(ttl, table)?;
                        (self.expired_up_to(ttl).max(trimmed), trimmed)
                    }
                };
                // A snapshot of nothing stands where all is expired, and a moment later that moment is, too: who comes back
                // with it has lost something only where there was something.
                let lost = self.last_expired(table, ttl, owner)?.max(trimmed);
                Ok((last.max(gone), lost))
            }
        }
    }

    /// Above this position nothing of a table, or of one owner's rows of it, has expired. Asks what is still in buckets;
    /// whatever was in those that were dropped counts as there.
    fn last_expired(&self, table: &TableMeta, ttl: &StreamTtl, owner: Option<&Owner>) -> Result<Seq> {
        let expired = self.expired_up_to(ttl);
        let key = owner.map(|owner| PartitionKey { table: table.id, owner: owner.clone() });
        let dropped_ms = self.streams().dropped_ms;
        let dropped = ttl.eras().map(|era| TtlClass::of(era.seconds).dropped_up_to(dropped_ms)).max();
        let unknown = dropped.unwrap_or(Seq::ZERO).max(ttl.forgotten_up_to()).min(expired);
        for (bucket, range) in self.buckets_of(ttl, &(unknown.after()..=expired)).into_iter().rev() {
            let last = match &key {
                Some(key) => {
                    let from = self.block_begin(&bucket, key, Seq::ZERO, *range.start());
                    let last = self.scan_from(&bucket, key, from, (range, Order::Descending)).next().transpose()?;
                    last.map(|row| row.seq)
                }
                None => {
                    let entries = keys::stream_feed(table.id, Seq::ZERO)..=keys::stream_feed(table.id, *range.end());
                    let last = self.last_entry(&bucket, entries)?;
                    last.filter(|last| last >= range.start()).map(|last| last.min(expired))
                }
            };
            if let Some(last) = last {
                return Ok(last);
            }
        }
        Ok(unknown)
    }

    fn last_of_stream(&self, table: &TableMeta, ttl: &StreamTtl, owner: Option<&Owner>) -> Result<Seq> {
        let key = owner.map(|owner| PartitionKey { table: table.id, owner: owner.clone() });
        for (bucket, range) in self.buckets_of(ttl, &(Seq::ZERO..=Seq::MAX)).into_iter().rev() {
            let last = match &key {
                Some(key) => self.last_above(&bucket, key, Seq::ZERO)?,
                None => self.last_feed_entry(&bucket, keys::stream_feed, table.id)?,
            };
            if last != Seq::ZERO && range.contains(&last) {
                return Ok(last);
            }
        }
        Ok(Seq::ZERO)
    }

    /// The last position of a table that the next one has to be above.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub fn last_position(&self, table: &TableMeta) -> Result<Seq> {
        match &table.ttl {
            None => self.feed_head(table.id),
            Some(ttl) => self.last_of_stream(table, ttl, None),
        }
    }

    /// The last position that `feed` entries of a table tell of in a keyspace.
    pub(super) fn last_feed_entry(
        &self,
        entries: &Keyspace,
        key: fn(crate::model::TableId, Seq) -> [u8; 12],
        table: crate::model::TableId,
    ) -> Result<Seq> {
        let all = key(table, Seq::ZERO)..=key(table, Seq::MAX);
        Ok(self.last_entry(entries, all)?.unwrap_or(Seq::ZERO))
    }

    fn last_entry(&self, entries: &Keyspace, keys: RangeInclusive<[u8; 12]>) -> Result<Option<Seq>> {
        let Some(last) = self.snapshot().range(entries, keys).next_back() else { return Ok(None) };
        let (key, value) = last.into_inner().map_err(storage_error)?;
        let (range, _) = keys::parse_feed(&key, &value).ok_or_else(|| Error::internal("a damaged feed entry"))?;
        Ok(Some(range.last))
    }
}

#[cfg(test)]
mod tests;
