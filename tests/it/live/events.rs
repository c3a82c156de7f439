//! Live queries as server-sent events: `GET /v1/live`.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{World, insert};
use crate::event_stream::{Event, EventStream};
use crate::http::{Client, Response};
use crate::server::{PASSWORD, eventually};

const MAIL: &str = "/v1/live?sql=SELECT%20id%20FROM%20w.mail";

fn open(world: &World, client: &Client, path: &str) -> EventStream {
    try_open(world, client, path, &[]).unwrap_or_else(|refused| panic!("{refused:?}"))
}

fn try_open(world: &World, client: &Client, path: &str, headers: &[(&str, &str)]) -> Result<EventStream, Response> {
    let authorization = client.authorization.clone().unwrap_or_default();
    let mut all = vec![("Authorization", authorization.as_str())];
    all.extend_from_slice(headers);
    EventStream::try_open(world.server.address, path, &all)
}

/// The next event, which must be there.
fn next(events: &mut EventStream) -> Event {
    events.event().expect("the response has ended")
}

/// Takes the events up to the end of the load; gives its rows' ids.
fn load(events: &mut EventStream) -> Vec<String> {
    let subscribed = next(events);
    assert_eq!((subscribed.name.as_str(), subscribed.retry.as_deref()), ("subscribed", Some("2000")));
    assert_eq!(subscribed.json()["schema"][0]["name"], "id");
    let mut ids = Vec::new();
    loop {
        let page = next(events);
        assert_eq!(page.name, "snapshot", "{page:?}");
        let data = page.json();
        ids.extend(data["rows"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()));
        if data["batch_control"]["status"] == "ready" {
            assert_eq!(page.id, Some(data["batch_control"]["snapshot_end_seq"].to_string()), "where to go on");
            return ids;
        }
        assert_eq!(
            page.id,
            Some(data["batch_control"]["last_seq_id"].to_string()),
            "a part loaded is not loaded again"
        );
    }
}

/// Kind and key, like `insert 5`; its id is its row's position.
fn told(event: &Event) -> String {
    let data = event.json();
    let row = if event.name == "delete" { &data["old_values"][0] } else { &data["rows"][0] };
    assert_eq!((&data["type"], &data["change_type"]), (&json!("change"), &json!(event.name)));
    assert_eq!(event.id.as_deref(), row["_seq"].as_str(), "{event:?}");
    format!("{} {}", event.name, row["id"].as_str().unwrap())
}

/// The end of the response: the error's code.
fn end(events: &mut EventStream) -> String {
    let error = next(events);
    assert_eq!(error.name, "error", "{error:?}");
    assert!(error.retry.is_some(), "when to come back: {error:?}");
    assert_eq!(events.event(), None, "nothing behind the error");
    error.json()["code"].as_str().unwrap().to_owned()
}

fn live(admin: &mut Client) -> Vec<Value> {
    let Value::Array(rows) = admin.rows("SELECT live_id, subscription_id, user_id, query FROM system.live") else {
        panic!()
    };
    rows
}

#[test]
fn a_load_comes_in_pages_and_then_the_changes() {
    let mut world = World::new(&[]);
    insert(&mut world.alice, 1..26);
    let mut events = open(&world, &world.alice, &format!("{MAIL}&batch_size=10&id=tab"));
    assert_eq!(events.header("content-type"), Some("text/event-stream"));
    assert_eq!(events.header("cache-control"), Some("no-cache, no-store, no-transform"));
    assert_eq!(load(&mut events), (1..26).map(|id| id.to_string()).collect::<Vec<_>>());
    insert(&mut world.alice, 26..28);
    world.alice.sql("UPDATE w.mail SET n = 5 WHERE id = 3; DELETE FROM w.mail WHERE id = 4");
    world.bob.sql("INSERT INTO w.mail VALUES (99, 'not hers', 1)");
    insert(&mut world.alice, 28..29);
    let changes: Vec<String> = (0..5).map(|_| told(&next(&mut events))).collect();
    assert_eq!(changes, ["insert 26", "insert 27", "update 3", "delete 4", "insert 28"]);
    let rows = live(&mut world.admin);
    assert_eq!((rows.len(), &rows[0][1], &rows[0][2]), (1, &json!("tab"), &json!("alice")));
    events.shut();
    eventually("who has gone is forgotten", || live(&mut world.admin).is_empty().then_some(()));
}

#[test]
fn coming_back_misses_nothing() {
    let mut world = World::new(&[]);
    insert(&mut world.alice, 1..3);
    let mut events = open(&world, &world.alice, MAIL);
    load(&mut events);
    insert(&mut world.alice, 3..4);
    let last = next(&mut events).id.unwrap();
    events.shut();
    insert(&mut world.alice, 4..6);
    world.alice.sql("DELETE FROM w.mail WHERE id = 1");
    let from = format!("{MAIL}&from={last}");
    for mut events in [
        try_open(&world, &world.alice, MAIL, &[("Last-Event-ID", &last)]).ok().unwrap(),
        // What the address says is where the client began.
        try_open(&world, &world.alice, &format!("{MAIL}&from=1"), &[("Last-Event-ID", &last)]).ok().unwrap(),
        open(&world, &world.alice, &from),
    ] {
        assert_eq!(next(&mut events).name, "subscribed");
        let changes: Vec<String> = (0..3).map(|_| told(&next(&mut events))).collect();
        assert_eq!(changes, ["insert 4", "insert 5", "delete 1"]);
    }
    // Cut off within a load: its rest comes as changes.
    let mut events = open(&world, &world.alice, &format!("{MAIL}&batch_size=2"));
    next(&mut events);
    let page = next(&mut events);
    assert_eq!(page.json()["rows"].as_array().unwrap().len(), 2);
    let back = [("Last-Event-ID", page.id.as_deref().unwrap())];
    let mut events = try_open(&world, &world.alice, MAIL, &back).ok().unwrap();
    next(&mut events);
    let changes: Vec<String> = (0..2).map(|_| told(&next(&mut events))).collect();
    assert_eq!(changes, ["insert 4", "insert 5"]);
}

#[test]
fn what_is_refused_has_its_own_status() {
    let mut world = World::new(&["websocket.max_subscriptions_per_user=2"]);
    let open = |client: &Client, path: &str, headers: &[(&str, &str)]| try_open(&world, client, path, headers);
    type Case = (&'static str, &'static [(&'static str, &'static str)], u16, &'static str);
    let cases: &[Case] = &[
        ("/v1/live", &[], 400, "INVALID_INPUT"),
        ("/v1/live?sql=SELECT", &[], 400, "INVALID_SQL"),
        ("/v1/live?sql=DELETE%20FROM%20w.mail", &[], 400, "INVALID_SQL"),
        ("/v1/live?sql=SELECT%20*%20FROM%20w.none", &[], 400, "TABLE_NOT_FOUND"),
        ("/v1/live?sql=SELECT%20*%20FROM%20w.priv", &[], 403, "PERMISSION_DENIED"),
        ("/v1/live?sql=SELECT%20*%20FROM%20w.mail%20LIMIT%201", &[], 400, "INVALID_SQL"),
        ("/v1/live?sql=SELECT%20*%20FROM%20w.mail&access_token=x", &[], 400, "INVALID_INPUT"),
        ("/v1/live?sql=SELECT%20*%20FROM%20w.mail&from=x", &[], 400, "INVALID_INPUT"),
        ("/v1/live?sql=SELECT%20*%20FROM%20w.mail&id=", &[], 400, "INVALID_SUBSCRIPTION_ID"),
        (MAIL, &[("Last-Event-ID", "x")], 400, "INVALID_INPUT"),
    ];
    for (path, headers, status, code) in cases {
        let refused = open(&world.alice, path, headers).err().unwrap_or_else(|| panic!("{path} was taken"));
        assert_eq!((refused.status, refused.json()["error"].as_str()), (*status, Some(*code)), "{}", refused.body);
        assert!(refused.json()["message"].as_str().is_some_and(|text| text.len() > 5), "{}", refused.body);
    }
    let nobody = EventStream::try_open(world.server.address, MAIL, &[]).err().unwrap();
    assert_eq!((nobody.status, &nobody.json()["error"]), (401, &json!("MISSING_AUTHORIZATION")));
    assert!(nobody.header("www-authenticate").is_some());
    for wrong in ["Bearer x", "Basic YTpi", "x"] {
        let refused = EventStream::try_open(world.server.address, MAIL, &[("Authorization", wrong)]).err().unwrap();
        assert_eq!((refused.status, &refused.json()["error"]), (401, &json!("INVALID_CREDENTIALS")), "{wrong}");
    }
    assert_eq!(world.alice.again().post_text(MAIL, "{}").status, 405);

    let _first = open(&world.alice, MAIL, &[]).ok().unwrap();
    let _second = open(&world.alice, MAIL, &[]).ok().unwrap();
    let third = open(&world.alice, MAIL, &[]).err().unwrap();
    assert_eq!((third.status, &third.json()["error"]), (400, &json!("SUBSCRIPTION_LIMIT_EXCEEDED")));
    assert!(open(&world.bob, MAIL, &[]).is_ok());
    assert_eq!(live(&mut world.admin).iter().filter(|row| row[2] == "alice").count(), 2, "a refused one is none");
}

#[test]
fn a_browsers_cookie_counts_where_the_page_is_the_servers_own() {
    let world = World::new(&[]);
    let body = json!({ "user": "alice", "password": PASSWORD });
    let login = world.server.client().post("/v1/api/auth/login", &body);
    let cookies = login.headers_named("set-cookie");
    let cookie = cookies.iter().find(|cookie| cookie.starts_with("inboxdb_auth=")).unwrap().split(';').next().unwrap();
    let host = format!("http://{}", world.server.address);
    let open = |headers: &[(&str, &str)]| {
        let all = [&[("Cookie", cookie)], headers].concat();
        EventStream::try_open(world.server.address, MAIL, &all)
    };
    for own in [&[][..], &[("Origin", host.as_str())], &[("Sec-Fetch-Site", "same-origin")]] {
        load(&mut open(own).unwrap_or_else(|refused| panic!("{own:?}: {refused:?}")));
    }
    for foreign in [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")] {
        let refused = open(&[foreign]).err().unwrap();
        assert_eq!((refused.status, &refused.json()["error"]), (403, &json!("PERMISSION_DENIED")));
    }
    // A header says who asks, also where a cookie is there.
    assert_eq!(open(&[("Authorization", "Bearer x")]).err().unwrap().status, 401);
    let wrong = EventStream::try_open(world.server.address, MAIL, &[("Cookie", "inboxdb_auth=x")]).err().unwrap();
    assert_eq!(wrong.status, 401);
}

#[test]
fn every_end_is_told() {
    let mut world = World::new(&[]);
    let mut events = open(&world, &world.alice, MAIL);
    load(&mut events);
    let live_id = live(&mut world.admin)[0][0].as_str().unwrap().to_owned();
    world.admin.sql(&format!("KILL LIVE QUERY '{live_id}'"));
    assert_eq!(end(&mut events), "SUBSCRIPTION_KILLED");

    let mut events = open(&world, &world.alice, "/v1/live?sql=SELECT%20a%20FROM%20w.pairs");
    next(&mut events);
    next(&mut events);
    world.admin.sql("DROP TABLE w.pairs");
    assert_eq!(end(&mut events), "TABLE_DROPPED");

    let mut feed =
        open(&world, &world.service, "/v1/live?sql=EXECUTE%20AS%20USER%20'*'%20(SELECT%20id%20FROM%20w.mail)");
    load(&mut feed);
    insert(&mut world.bob, 7..8);
    let change = next(&mut feed);
    assert_eq!((told(&change).as_str(), &change.json()["rows"][0]["_user_id"]), ("insert 7", &json!("bob")));
    world.admin.sql("ALTER USER 'worker' SET ROLE 'user'");
    assert_eq!(end(&mut feed), "UNAUTHORIZED");

    let mut events = open(&world, &world.alice, MAIL);
    load(&mut events);
    world.server.signal(Signal::TERM);
    assert_eq!(end(&mut events), "SHUTTING_DOWN");
}

#[test]
fn a_quiet_connection_has_a_pulse_and_who_has_gone_is_found_out() {
    let mut world = World::new(&["websocket.heartbeat_interval=50ms", "websocket.client_timeout=2s"]);
    let mut events = open(&world, &world.alice, MAIL);
    load(&mut events);
    let started = std::time::Instant::now();
    let mut pulses = 0;
    while started.elapsed() < std::time::Duration::from_secs(3) {
        let comment = events.any_event().expect("the connection goes on");
        assert!(comment.comment, "{comment:?}");
        pulses += 1;
    }
    assert!(pulses > 10, "{pulses}");
    insert(&mut world.alice, 1..2);
    assert_eq!(told(&next(&mut events)), "insert 1");
    drop(events);
    eventually("who has gone is forgotten", || live(&mut world.admin).is_empty().then_some(()));
}

#[test]
fn who_does_not_read_is_given_up_and_comes_back_without_a_gap() {
    let mut world = World::new(&["websocket.outbox_bytes=64KiB"]);
    let path = "/v1/live?sql=SELECT%20*%20FROM%20w.mail";
    let mut events = open(&world, &world.alice, path);
    next(&mut events);
    next(&mut events);
    // Far more than the kernel holds for a peer that does not read, and the outbox with it.
    let text = "x".repeat(60_000);
    let mut written = 0;
    while !live(&mut world.admin).is_empty() {
        assert!(written < 2_000, "never given up");
        let values: Vec<String> = (written..written + 10).map(|id| format!("({id}, '{text}', 1)")).collect();
        world.alice.sql(&format!("INSERT INTO w.mail VALUES {}", values.join(", ")));
        written += 10;
    }
    let (mut last, mut ids) = (None, Vec::new());
    let mut take = |event: Event| {
        last.clone_from(&event.id);
        ids.push(event.json()["rows"][0]["id"].as_str().unwrap().parse::<i64>().unwrap());
    };
    // What had been written before still comes; behind it the reason, unless the connection was cut first.
    while let Ok(Some(event)) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| events.event())) {
        if event.name == "error" {
            assert_eq!((&event.json()["code"], event.retry.as_deref()), (&json!("SLOW_CONSUMER"), Some("2000")));
            break;
        }
        take(event);
    }
    let from = last.clone().expect("something was delivered");
    let mut events = try_open(&world, &world.alice, path, &[("Last-Event-ID", &from)]).ok().unwrap();
    next(&mut events);
    while ids.len() < usize::try_from(written).unwrap() {
        let event = next(&mut events);
        ids.push(event.json()["rows"][0]["id"].as_str().unwrap().parse::<i64>().unwrap());
    }
    assert_eq!(ids, (0..written).collect::<Vec<_>>(), "each once, in order");
}
