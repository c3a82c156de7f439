//! CREATE TOPIC and ALTER TOPIC … SET to a checked topic.
//!
//! Owns the options and their ranges. Never looks anything up: whether a dead-letter topic is there, the catalog says.

use crate::error::{Error, Result};
use crate::model::topic::TOPIC_PARTITIONS_MAX;
use crate::model::{TableName, TopicId, TopicMeta};
use crate::sql::statement::CreateTopic;

/// Deliveries of a topic that names its dead-letter topic and no number.
const DEFAULT_MAX_DELIVERIES: u32 = 5;

const MAX_DELIVERIES_MAX: u64 = 1_000;

/// A hundred years.
const RETENTION_MAX: u64 = 100 * 366 * 24 * 60 * 60;

/// A day: longer, and a consumer that died is not noticed.
const VISIBILITY_MAX: u64 = 24 * 60 * 60;

/// What the options wish to become of messages that are delivered too often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeadLetterWish {
    Off,
    To { topic: TableName, max_deliveries: u32 },
}

/// Retention of a topic whose options say nothing.
#[derive(Debug, Clone, Copy)]
pub struct TopicDefaults {
    pub retention_seconds: u64,
    pub retention_max_bytes: u64,
}

/// The topic that `create` describes. It has no dead-letter topic yet.
///
/// # Errors
/// `INVALID_SQL`, `INVALID_NAME`.
pub fn define_topic(
    create: &CreateTopic,
    name: TableName,
    id: TopicId,
    defaults: TopicDefaults,
    now_us: i64,
) -> Result<(TopicMeta, Option<DeadLetterWish>)> {
    if create.partitions == 0 || create.partitions > TOPIC_PARTITIONS_MAX {
        return Err(Error::InvalidSql(format!("a topic has 1 to {TOPIC_PARTITIONS_MAX} partitions")));
    }
    let mut topic = plain_topic(name, id, create.partitions, defaults, now_us);
    let wish = set_topic_options(&mut topic, &create.options)?;
    Ok((topic, wish))
}

/// A topic without options.
pub fn plain_topic(name: TableName, id: TopicId, partitions: u32, defaults: TopicDefaults, now_us: i64) -> TopicMeta {
    TopicMeta {
        id,
        name,
        partitions,
        routes: Vec::new(),
        retention_seconds: Some(defaults.retention_seconds),
        retention_max_bytes: Some(defaults.retention_max_bytes),
        visibility_timeout_seconds: None,
        dead_letter: None,
        created_at: now_us,
        updated_at: now_us,
    }
}

/// Changes what the options name; `None`: they say nothing of dead letters.
///
/// # Errors
/// `INVALID_SQL`, `INVALID_NAME`.
pub fn set_topic_options(topic: &mut TopicMeta, options: &[(String, String)]) -> Result<Option<DeadLetterWish>> {
    let (mut dead_letter, mut max_deliveries) = (None, None);
    for (option, value) in options {
        match option.as_str() {
            "RETENTION_SECONDS" => topic.retention_seconds = above_zero(option, value, RETENTION_MAX)?,
            "RETENTION_MAX_BYTES" => topic.retention_max_bytes = above_zero(option, value, u64::MAX)?,
            "VISIBILITY_TIMEOUT_SECONDS" => {
                topic.visibility_timeout_seconds = above_zero(option, value, VISIBILITY_MAX)?;
            }
            "MAX_DELIVERIES" => max_deliveries = Some(number(option, value, MAX_DELIVERIES_MAX)?),
            "DEAD_LETTER" => dead_letter = Some(dead_letter_name(&topic.name, value)?),
            _ => {
                let known = "options are RETENTION_SECONDS, RETENTION_MAX_BYTES, VISIBILITY_TIMEOUT_SECONDS, \
                             MAX_DELIVERIES and DEAD_LETTER";
                return Err(Error::InvalidSql(format!("Unknown topic option '{option}'; {known}")));
            }
        }
    }
    let before = topic.dead_letter.as_ref();
    match (dead_letter, max_deliveries) {
        (None, None) => Ok(None),
        (Some(_), Some(0)) => Err(Error::InvalidSql("DEAD_LETTER needs MAX_DELIVERIES from 1 on".to_owned())),
        (None, Some(0)) => Ok(Some(DeadLetterWish::Off)),
        (named, deliveries) => {
            let own = || TableName::new(topic.name.namespace().clone(), &format!("{}_dead", topic.name.table()));
            let target = match (named, before) {
                (Some(named), _) => named,
                (None, Some(before)) => before.topic.clone(),
                (None, None) => own()?,
            };
            let deliveries = deliveries.and_then(|number| u32::try_from(number).ok());
            let max_deliveries =
                deliveries.or(before.map(|before| before.max_deliveries)).unwrap_or(DEFAULT_MAX_DELIVERIES);
            Ok(Some(DeadLetterWish::To { topic: target, max_deliveries }))
        }
    }
}

/// In the topic's own namespace: they go together.
fn dead_letter_name(topic: &TableName, text: &str) -> Result<TableName> {
    let (namespace, name) = text.split_once('.').unwrap_or((topic.namespace().as_str(), text));
    if !namespace.eq_ignore_ascii_case(topic.namespace().as_str()) {
        let text = format!("The dead-letter topic of '{topic}' lies in its namespace, '{}'", topic.namespace());
        return Err(Error::InvalidSql(text));
    }
    let dead = TableName::new(topic.namespace().clone(), name)?;
    if dead == *topic {
        return Err(Error::InvalidSql(format!("Topic '{topic}' can not be its own dead-letter topic")));
    }
    Ok(dead)
}

/// 0 is `None`.
fn above_zero(option: &str, value: &str, max: u64) -> Result<Option<u64>> {
    Ok(Some(number(option, value, max)?).filter(|number| *number > 0))
}

fn number(option: &str, value: &str, max: u64) -> Result<u64> {
    let fault = || Error::InvalidSql(format!("{option} takes a whole number from 0 to {max}, not '{value}'"));
    value.parse().ok().filter(|number| *number <= max).ok_or_else(fault)
}
