//! Where bytes that nobody has checked come in, each as one function: what fuzzers and property tests call.
//!
//! Owns nothing but the calls. Each returns whatever happens; a panic, or a run without end, is the fault that is looked for.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::api::sql::decode;
use crate::auth::{AuthConfig, AuthLog, AuthRecord, Authenticator};
use crate::config::{LimitsConfig, Secret};
use crate::error::Result;
use crate::live::frames::ClientMessage;
use crate::model::{
    AccessLevel, ColumnMeta, ColumnName, DataType, NamespaceName, SchemaHistory, Seq, StorageId, TableId, TableKind,
    TableMeta, TableName,
};
use crate::sql::parse;
use crate::storage::keys;
use crate::storage::{PartitionManifest, parse_row_value, row_codec};
use crate::time::Clock;

/// Largest frame that is unpacked.
const FRAME_MAX: usize = 1 << 20;

/// Statement text.
pub fn statement(text: &str) {
    // A refusal is an answer.
    let _ = parse::parse(text);
}

/// The body of `POST /v1/api/sql`.
pub fn body(bytes: &[u8]) {
    let _ = decode::decode(bytes, &LimitsConfig::default());
}

/// A client's message on a socket, in both forms.
pub fn frame(bytes: &[u8]) {
    let _ = ClientMessage::from_json(bytes);
    let _ = ClientMessage::from_msgpack(bytes, FRAME_MAX);
}

/// What stands under a key of `rows`, and the cells of its rows.
///
/// # Errors
/// A name of this function's own table is none.
pub fn stored_row(bytes: &[u8]) -> Result<()> {
    let table = table()?;
    let Ok(rows) = parse_row_value(Seq::ZERO, Bytes::copy_from_slice(bytes)) else { return Ok(()) };
    for stored in rows {
        let _ = row_codec::decode(&table, &stored.row);
    }
    Ok(())
}

/// A partition's manifest: `bytes` as its head, and as a segment's entry.
pub fn manifest(bytes: &[u8]) {
    for seq in [Seq::ZERO, Seq::new(1).unwrap_or(Seq::ZERO)] {
        let key =
            keys::manifest(&crate::model::PartitionKey { table: TableId(1), owner: crate::model::Owner::Shared }, seq);
        let _ = PartitionManifest::from_entries([Ok((key, bytes))]);
    }
}

/// An `Authorization` header.
pub struct Tokens(Authenticator);

impl Tokens {
    /// # Errors
    /// `INTERNAL` where the system gives no random bytes.
    pub fn new() -> Result<Self> {
        let secret = Some(Secret::new("a secret that no fuzzer finds: 0123456789"));
        let config = AuthConfig { jwt_secret: secret, ..AuthConfig::default() };
        Authenticator::new(config, Clock::manual(0), Arc::new(NoLog), Vec::new()).map(Self)
    }

    /// Is a token of nobody's making taken? Never.
    pub fn takes(&self, token: &str) -> bool {
        self.0.authenticate_bearer(token).is_ok()
    }
}

struct NoLog;

#[async_trait]
impl AuthLog for NoLog {
    async fn commit(&self, _records: Vec<AuthRecord>) -> Result<()> {
        Ok(())
    }
}

/// A table with columns of all kinds of encodings.
fn table() -> Result<TableMeta> {
    let types =
        [DataType::BigInt, DataType::Text, DataType::Boolean, DataType::Double, DataType::Bytes, DataType::Uuid];
    let mut columns = Vec::with_capacity(types.len());
    for (id, data_type) in (1_u32..).zip(types) {
        let name = ColumnName::parse(&format!("c{id}"))?;
        columns.push(ColumnMeta { id, name, data_type, nullable: id > 1, default: None });
    }
    Ok(TableMeta {
        id: TableId(1),
        name: TableName::new(NamespaceName::parse("t")?, "t")?,
        kind: TableKind::User,
        columns,
        primary_key: vec![0],
        access: AccessLevel::Private,
        durability: None,
        flush: Default::default(),
        compression: Default::default(),
        storage: StorageId::local(),
        use_user_storage: false,
        deleted_retention_hours: None,
        ttl: None,
        unnamed_storage: None,
        checks: Vec::new(),
        comments: Default::default(),
        schema_version: 1,
        created_at: 0,
        updated_at: 0,
        history: SchemaHistory::default(),
    })
}
