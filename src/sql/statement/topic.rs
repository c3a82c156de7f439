//! Statements about topics.

use super::TableRef;
use crate::model::{ChangeKind, ConsumeFrom, GroupId, PayloadMode};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTopic {
    pub name: TableRef,
    pub if_not_exists: bool,
    pub partitions: u32,
    /// Names in upper case, values without their quotes.
    pub options: Vec<(String, String)>,
}

/// What an ALTER TOPIC does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TopicOperation {
    AddSource(AddSource),
    /// `op`: `None` is all of them.
    DropSource {
        table: TableRef,
        op: Option<ChangeKind>,
    },
    /// Names in upper case, values without their quotes; at least one.
    SetOptions(Vec<(String, String)>),
    DropGroup(GroupId),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddSource {
    pub table: TableRef,
    pub op: ChangeKind,
    /// As written.
    pub condition: Option<String>,
    pub payload: PayloadMode,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumeTopic {
    pub name: TableRef,
    pub group: Option<GroupId>,
    /// `None`: all of them.
    pub partition: Option<u32>,
    pub from: ConsumeFrom,
    pub limit: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AckTopic {
    pub name: TableRef,
    pub group: GroupId,
    pub partition: u32,
    pub upto: u64,
}
