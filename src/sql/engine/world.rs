//! A store with tables and an engine that reads it: the fixture of the tests of queries and live queries.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;

use super::{CallerGone, Engine, EngineConfig, OwnerScope, QueryContext};
use crate::error::Result;
use crate::model::{
    AccessLevel, Catalog, CellEncoders, Change, ColumnMeta, ColumnName, CommittedChanges, DataType, Durability,
    NamespaceMeta, NamespaceName, Principal, Role, SchemaHistory, Seq, SeqGenerator, SeqRange, TableId, TableKind,
    TableMeta, TableName, UserId, Value,
};
use crate::sql::bind::IdSource;
use crate::sql::statement::Statement;
use crate::sql::system_tables::{
    CursorRow, JobRow, LiveRow, LogRow, ManifestRow, NodeRow, SessionRow, SettingRow, StatRow, SystemData,
    TopicGroupRow, UserRow,
};
use crate::storage::{CommitEntry, CommitLog, FjallLog, Found, ReadView, Store, keys, row_codec};

pub(crate) const NOW_US: i64 = 1_777_000_000_000_000;

pub(crate) fn notes() -> TableMeta {
    let columns = [
        ("id", DataType::BigInt, false),
        ("body", DataType::Text, true),
        ("n", DataType::Int, true),
        ("score", DataType::Double, true),
        ("price", DataType::Decimal { precision: 10, scale: 2 }, true),
        ("at", DataType::Timestamp, true),
        ("day", DataType::Date, true),
        ("flag", DataType::Boolean, true),
        ("room", DataType::Uuid, true),
    ];
    table(1, "notes", TableKind::User, AccessLevel::Private, &columns)
}

fn table(id: u32, name: &str, kind: TableKind, access: AccessLevel, columns: &[(&str, DataType, bool)]) -> TableMeta {
    let columns = columns.iter().zip(1..).map(|((name, data_type, nullable), id)| ColumnMeta {
        id,
        name: ColumnName::parse(name).unwrap(),
        data_type: *data_type,
        nullable: *nullable,
        default: None,
    });
    TableMeta {
        id: TableId(id),
        name: TableName::new(NamespaceName::parse("demo").unwrap(), name).unwrap(),
        kind,
        columns: columns.collect(),
        primary_key: vec![0],
        access,
        durability: None,
        flush: Default::default(),
        compression: Default::default(),
        storage: crate::model::StorageId::local(),
        use_user_storage: false,
        deleted_retention_hours: None,
        ttl: None,
        unnamed_storage: None,
        checks: Vec::new(),
        comments: Default::default(),
        schema_version: 1,
        created_at: NOW_US,
        updated_at: NOW_US,
        history: SchemaHistory::default(),
    }
}

struct NoData;

impl SystemData for NoData {
    fn audit_log(&self) -> crate::error::Result<Vec<crate::model::AuditEntry>> {
        Ok(Vec::new())
    }

    fn stats(&self, _catalog: &Catalog) -> Vec<StatRow> {
        Vec::new()
    }

    fn users(&self) -> Vec<UserRow> {
        vec![UserRow {
            user_id: UserId::root(),
            role: Role::System,
            email: None,
            auth_type: "internal",
            storage_mode: "table",
            storage_id: None,
            failed_login_attempts: 0,
            locked_until: None,
            last_login_at: None,
            created_at: NOW_US,
            updated_at: NOW_US,
            last_seen: None,
            deleted_at: None,
        }]
    }

    fn live(&self) -> Vec<LiveRow> {
        Vec::new()
    }

    fn cursors(&self, _catalog: &Catalog) -> Vec<CursorRow> {
        Vec::new()
    }

    fn jobs(&self) -> Vec<JobRow> {
        Vec::new()
    }

    fn settings(&self) -> Vec<SettingRow> {
        Vec::new()
    }

    fn sessions(&self) -> Vec<SessionRow> {
        Vec::new()
    }

    fn server_logs(&self) -> Vec<LogRow> {
        Vec::new()
    }

    fn node(&self) -> NodeRow {
        NodeRow::default()
    }

    fn topic_groups(&self, _: &Catalog) -> Result<Vec<TopicGroupRow>> {
        Ok(Vec::new())
    }

    fn manifests(&self, _: &Catalog) -> Result<Vec<ManifestRow>> {
        Ok(Vec::new())
    }
}

/// A store with tables, and an engine that reads it.
pub(crate) struct World {
    _folder: tempfile::TempDir,
    store: Arc<Store>,
    log: FjallLog,
    seqs: SeqGenerator,
    catalog: Arc<Catalog>,
    ids: Arc<IdSource>,
    pub(crate) engine: Engine,
}

impl World {
    pub(crate) fn new() -> World {
        World::with(&EngineConfig { threads: 1, ..EngineConfig::default() })
    }

    pub(crate) fn with(config: &EngineConfig) -> World {
        let folder = tempfile::tempdir().unwrap();
        let (store, recovered) = Store::open(folder.path(), 1 << 20).unwrap();
        let mut catalog = Catalog::default();
        let name = NamespaceName::parse("demo").unwrap();
        catalog.namespaces.insert(name.clone(), NamespaceMeta { name, created_at: NOW_US, options: None });
        let two = [("name", DataType::Text, false), ("doc", DataType::Json, true)];
        catalog.insert_table(Arc::new(notes()));
        catalog.insert_table(Arc::new(table(2, "rooms", TableKind::Shared, AccessLevel::Public, &two)));
        catalog.insert_table(Arc::new(table(3, "vault", TableKind::Shared, AccessLevel::Private, &two)));
        World {
            _folder: folder,
            log: FjallLog::new(store.clone(), recovered),
            store,
            seqs: SeqGenerator::new(0, Seq::ZERO),
            catalog: Arc::new(catalog),
            ids: Arc::new(IdSource::new(0, Seq::ZERO)),
            engine: Engine::new(config, Arc::default()).unwrap(),
        }
    }

    pub(crate) fn table(&self, name: &str) -> Arc<TableMeta> {
        self.catalog.table("demo", name).unwrap().clone()
    }

    /// Writes the row, over the live one with its key if there is one. Missing columns are NULL.
    pub(crate) fn put(&mut self, table: &str, user: &str, values: &[Value]) -> Seq {
        self.write(table, user, values, false)
    }

    pub(crate) fn delete(&mut self, table: &str, user: &str, key: Value) -> Seq {
        self.write(table, user, &[key], true)
    }

    fn write(&mut self, table: &str, user: &str, values: &[Value], deletes: bool) -> Seq {
        let table = self.table(table);
        let owner = table.owner_for(&UserId::parse(user).unwrap());
        let mut values = values.to_vec();
        values.resize(table.columns.len(), Value::Null);
        let pk = keys::encode_pk(&table, &values, 1).unwrap();
        let replaces = match self.store.read_view().find(&table, &owner, &pk).unwrap() {
            Found::Row(row) => Some(row),
            Found::Absent | Found::Cold(_) => None,
        };
        let row = match &replaces {
            Some(old) if deletes => old.row.clone(),
            _ => row_codec::encode(&table, &values),
        };
        let seq = self.seqs.next(NOW_US / 1_000);
        let change = Change { pk, row, replaces, deletes };
        let range = SeqRange { first: seq, last: seq };
        let committed = CommittedChanges {
            table,
            owner,
            range,
            changes: Arc::new([(seq, change)]),
            notes: Vec::new(),
            stats: None,
            quota: None,
        };
        self.log.append(&[CommitEntry::Changes(committed)], Durability::Buffered).unwrap();
        seq
    }

    pub(crate) fn view(&self) -> ReadView {
        self.store.read_view()
    }

    pub(crate) fn ctx(&self, user: &str, role: Role) -> QueryContext {
        let user = UserId::parse(user).unwrap();
        QueryContext {
            principal: Principal { user: user.clone(), role, generation: 1 },
            scope: OwnerScope::One(user),
            namespace: "demo".to_owned(),
            params: Arc::new([]),
            view: self.view(),
            catalog: self.catalog.clone(),
            system: Arc::new(NoData),
            now_us: NOW_US,
            ids: self.ids.clone(),
            caller: CallerGone::default(),
        }
    }

    pub(crate) async fn run(&self, ctx: QueryContext, sql: &str) -> Result<String> {
        let output = self.engine.query(ctx, &parse(sql)).await?;
        Ok(json(&output.collect().await?))
    }
}

/// As the server parses it; what the server keeps from the engine, as a generic parser does.
pub(crate) fn parse(sql: &str) -> ast::Statement {
    match crate::sql::parse::parse(sql).map(|mut statements| statements.remove(0).statement) {
        Ok(Statement::Query(query)) => ast::Statement::Query(query),
        Ok(Statement::Explain(explain)) => *explain,
        _ => Parser::parse_sql(&GenericDialect {}, sql).unwrap_or_else(|error| panic!("{sql}: {error}")).remove(0),
    }
}

pub(crate) fn json(batches: &[RecordBatch]) -> String {
    let rows: Vec<String> = batches
        .iter()
        .flat_map(|batch| {
            let encoders = CellEncoders::new(batch).unwrap();
            (0..batch.num_rows()).map(move |row| serde_json::to_string(&encoders.array(row)).unwrap())
        })
        .collect();
    rows.join(" ")
}

pub(crate) fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}
