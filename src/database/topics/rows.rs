//! CONSUME and ACK as SQL: their answers as rows.

use std::sync::Arc;

use arrow::array::{BinaryArray, Int32Array, Int64Array, StringArray};

use super::Message;
use crate::database::Database;
use crate::database::execute::Scope;
use crate::database::request::RowStream;
use crate::database::show::{optional_texts, rows, texts};
use crate::error::{Error, Result};
use crate::model::{DataType, GroupKey, TopicPartition};
use crate::sql::statement::{AckTopic, ConsumeTopic};

impl Database {
    /// With a group, what is answered is acknowledged; without one, nothing is remembered. Of several partitions, one after
    /// the other.
    pub(in crate::database) async fn consume_rows(
        &self,
        scope: &Scope<'_>,
        consume: &ConsumeTopic,
    ) -> Result<RowStream> {
        let name = self.topic_name(scope, &consume.name)?;
        let topic = self.catalog.current().topic(&name)?.clone();
        let partitions: Vec<TopicPartition> = match consume.partition {
            Some(partition) => vec![topic.partition(partition)?],
            None => topic.partitions().collect(),
        };
        let mut messages: Vec<Message> = Vec::new();
        for at in partitions {
            let left = consume.limit.saturating_sub(messages.len() as u64);
            if left == 0 {
                break;
            }
            messages.extend(match &consume.group {
                Some(group) => {
                    let key = GroupKey { at, group: group.clone() };
                    self.consume_once(&topic, key, consume.from, left).await?
                }
                None => self.read_topic(&topic, at, consume.from, left).await?,
            });
        }
        let name = name.to_string();
        let partition = |message: &Message| i32::try_from(message.at.partition).unwrap_or(i32::MAX);
        let entries = || messages.iter().map(|message| &message.entry);
        rows(vec![
            ("topic_id", DataType::Text, false, texts(messages.iter().map(|_| name.as_str()))),
            (
                "partition_id",
                DataType::Int,
                false,
                Arc::new(messages.iter().map(|m| Some(partition(m))).collect::<Int32Array>()),
            ),
            (
                "offset",
                DataType::BigInt,
                false,
                Arc::new(Int64Array::from_iter_values(messages.iter().map(|m| bigint(m.offset)))),
            ),
            (
                "key",
                DataType::Text,
                true,
                Arc::new(entries().map(|entry| entry.key.as_deref()).collect::<StringArray>()),
            ),
            (
                "payload",
                DataType::Bytes,
                false,
                Arc::new(BinaryArray::from_iter_values(entries().map(|entry| &entry.payload))),
            ),
            (
                "timestamp_ms",
                DataType::BigInt,
                false,
                Arc::new(Int64Array::from_iter_values(entries().map(|entry| entry.timestamp_ms))),
            ),
            (
                "user_id",
                DataType::Text,
                true,
                optional_texts(entries().map(|e| e.user.as_ref().map(|user| user.as_str()))),
            ),
            ("op", DataType::Text, false, texts(entries().map(|entry| entry.op.as_str()))),
        ])
    }

    pub(in crate::database) async fn ack_rows(&self, scope: &Scope<'_>, ack: &AckTopic) -> Result<RowStream> {
        let name = self.topic_name(scope, &ack.name)?;
        let acknowledged = self.ack(&scope.principal, &name, &ack.group, ack.partition, ack.upto).await?;
        let partition = i32::try_from(ack.partition).map_err(Error::internal)?;
        rows(vec![
            ("topic", DataType::Text, false, texts(std::iter::once(name.to_string().as_str()))),
            ("group_id", DataType::Text, false, texts(std::iter::once(ack.group.as_str()))),
            ("partition", DataType::Int, false, Arc::new(Int32Array::from_iter_values([partition]))),
            (
                "committed_offset",
                DataType::BigInt,
                false,
                Arc::new(Int64Array::from_iter_values([bigint(acknowledged)])),
            ),
        ])
    }
}

fn bigint(offset: u64) -> i64 {
    i64::try_from(offset).unwrap_or(i64::MAX)
}
