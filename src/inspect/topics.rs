//! Topics of a stopped server: what is in their logs, and whether the heads say the same.
//!
//! Owns what is asked of each log. Reads every entry of it.

use super::findings::{Findings, TopicFinding};
use crate::error::{Error, Result};
use crate::model::{TopicMeta, TopicPartition};
use crate::storage::{ReadView, Store};

pub(super) fn look(store: &Store, topics: &[TopicMeta], found: &mut Findings) {
    let view = store.read_view();
    for topic in topics {
        let mut finding =
            TopicFinding { topic: topic.name.to_string(), partitions: topic.partitions, ..TopicFinding::default() };
        for at in topic.partitions() {
            if let Err(error) = log(&view, at, &mut finding) {
                found.fault_of(format!("hot, topic {}, partition {}", topic.name, at.partition), &error);
            }
        }
        match view.topic_groups(topic.id).collect::<Result<Vec<_>>>() {
            Ok(groups) => finding.groups = groups.len() as u64,
            Err(error) => found.fault_of(format!("hot, groups of topic {}", topic.name), &error),
        }
        found.topics.push(finding);
    }
}

fn log(view: &ReadView, at: TopicPartition, finding: &mut TopicFinding) -> Result<()> {
    let head = view.topic_head(at)?;
    let (entries, bytes) = view.count_entries(at, head.first)?;
    finding.entries += entries;
    finding.bytes += bytes;
    match head.bytes {
        said if said == bytes => Ok(()),
        said => Err(Error::internal(format!("its head tells of {said} bytes, and there are {bytes}"))),
    }
}
