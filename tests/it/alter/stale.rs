//! What was compiled against a table that was altered since: found out, never answered wrongly.

use std::sync::Arc;
use std::time::Instant;

use inboxdb::actors::Fatal;
use inboxdb::database::request::SqlRequest;
use inboxdb::database::{Database, DatabaseOptions};
use inboxdb::error::Error;
use inboxdb::live::database::{LiveDatabase, LiveTarget};
use inboxdb::live::outbox::{Delivery, OutboxLimits, Taken};
use inboxdb::live::pages::{PageJob, PageRequest};
use inboxdb::live::{Format, Outbox, Subscriber, SubscriptionKey, Wire};
use inboxdb::model::{Principal, Seq, UserId};
use inboxdb::time::Clock;

use crate::http::PATIENCE;

fn root() -> Principal {
    Principal { user: UserId::root(), role: inboxdb::model::Role::System, generation: 1 }
}

async fn run(database: &Database, sql: &str) {
    let request = SqlRequest { sql: sql.to_owned(), ..SqlRequest::default() };
    database.execute(&root(), request).await.map(drop).unwrap_or_else(|failed| panic!("{sql}: {failed}"));
}

async fn compile(database: &Database) -> LiveTarget {
    LiveDatabase::compile(database, &root(), "SELECT * FROM s.t").await.unwrap().into_table().unwrap()
}

fn subscriber(outbox: &Arc<Outbox>, key: u64) -> Subscriber {
    Subscriber { key: SubscriptionKey(key), format: Format::Json, outbox: outbox.clone(), of_many: false }
}

/// What comes up to the first ending, by codes. Partitions tell on a thread of their own, a little after the writer.
async fn told(outbox: &Outbox) -> Vec<String> {
    let mut into = std::collections::VecDeque::new();
    let asked = Instant::now();
    while !into.iter().any(|delivery| matches!(delivery, Delivery::Ended(..))) && asked.elapsed() < PATIENCE {
        assert_eq!(outbox.take(100, &mut into), Taken::All);
        tokio::task::yield_now().await;
    }
    let text = |delivery| match delivery {
        Delivery::Event(key, event) => format!("{} {:?}", key.0, event.kind),
        Delivery::Ended(key, error) => format!("{} {}", key.0, error.code().live_wire()),
        other => panic!("{other:?}"),
    };
    into.into_iter().map(text).collect()
}

#[test]
fn a_query_that_was_compiled_before_an_alter_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    actix::System::new().block_on(async {
        let fatal = Fatal::new(|reason| panic!("the database gave up: {reason}"));
        let options = DatabaseOptions::at(folder.path().join("data"));
        let database = Database::open(options, Clock::system(), fatal).await.unwrap();
        run(&database, "CREATE NAMESPACE s").await;
        run(&database, "CREATE USER TABLE s.t (id BIGINT PRIMARY KEY, v TEXT)").await;
        let outbox = Outbox::new(OutboxLimits { events: 100, bytes: 1 << 20 });

        // Compiled before, attached after: also where the table was not in use until then.
        let stale = compile(&database).await;
        run(&database, "ALTER TABLE s.t ADD COLUMN w INT").await;
        let refused = database.attach(&stale, subscriber(&outbox, 1)).await.map(|_| ()).unwrap_err();
        assert!(matches!(refused, Error::TableAltered(_)), "{refused}");

        // Attached before: told, and its view of what was written since is none.
        let target = compile(&database).await;
        let _attached = database.attach(&target, subscriber(&outbox, 2)).await.unwrap();
        run(&database, "INSERT INTO s.t VALUES (1, 'a', 1)").await;
        run(&database, "ALTER TABLE s.t DROP COLUMN w").await;
        run(&database, "INSERT INTO s.t VALUES (2, 'b')").await;
        assert_eq!(told(&outbox).await, ["2 Insert", "2 TABLE_ALTERED"]);
        let reader = database.open_readers(std::slice::from_ref(&target)).await.unwrap().swap_remove(0);
        let request = PageRequest::Rows { after: Seq::ZERO, until: Seq::MAX, limit: 10 };
        let wire = Wire { format: Format::Json, compress: false };
        let page = database.read_page(PageJob { query: target.query, reader, request, wire }).await;
        assert!(matches!(page, Err(Error::TableAltered(_))), "{page:?}");

        // An option is no other schema to who is attached, but what is attached later must know of it.
        let (early, late) = (compile(&database).await, compile(&database).await);
        let _attached = database.attach(&early, subscriber(&outbox, 3)).await.unwrap();
        run(&database, "ALTER TABLE s.t SET TBLPROPERTIES (DURABILITY = 'buffered')").await;
        assert!(matches!(
            database.attach(&late, subscriber(&outbox, 4)).await.map(|_| ()),
            Err(Error::TableAltered(_))
        ));
        run(&database, "INSERT INTO s.t VALUES (3, 'c')").await;
        run(&database, "DROP TABLE s.t").await;
        let told = told(&outbox).await;
        // The row before may be told as well: it was on its way when the query was attached.
        assert_eq!(told[told.len() - 2..], ["3 Insert", "3 TABLE_DROPPED"], "{told:?}");
        database.shutdown().await;
    });
}
