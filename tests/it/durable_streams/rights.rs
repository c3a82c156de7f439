//! Whose streams they are, and what is told to those who may not.

use serde_json::json;

use super::{TEXT, World, code, path, post, put, refused, rows, send, texts};
use crate::server::{PASSWORD, Server};

#[test]
fn a_stream_is_in_its_makers_mailbox() {
    let mut world = World::new(&[]);
    assert_eq!(put(&mut world.alice, "a").status, 201);
    assert_eq!(post(&mut world.alice, "a", "hers").status, 204);
    for method in ["GET", "DELETE"] {
        let other = send(&mut world.bob, &format!("{method} {}", path("a")), &[], "");
        assert_eq!(refused(&other), code(404, "STREAM_NOT_FOUND"), "{method}");
    }
    assert_eq!(refused(&post(&mut world.bob, "a", "x")), code(404, "STREAM_NOT_FOUND"));
    // The same key is another stream to another user.
    assert_eq!(put(&mut world.bob, "a").status, 201);
    assert_eq!(post(&mut world.bob, "a", "his").status, 204);
    assert_eq!(world.alice.get(&path("a")).body, "hers");
    assert_eq!(rows(&mut world.bob), texts(&[("a", "his")]));
    let nobody = send(&mut world.server.client(), &format!("GET {}", path("a")), &[], "");
    assert_eq!(refused(&nobody), code(401, "MISSING_AUTHORIZATION"));
    let wrong = send(&mut world.server.client(), &format!("GET {}", path("a")), &[("Authorization", "Bearer x")], "");
    assert_eq!(refused(&wrong), code(401, "INVALID_CREDENTIALS"));
}

#[test]
fn a_service_writes_into_its_users_streams() {
    let mut world = World::new(&[]);
    let of_alice = format!("{}?user=alice", path("a"));
    assert_eq!(send(&mut world.service, &format!("PUT {of_alice}"), &[TEXT], "").status, 201);
    assert_eq!(send(&mut world.service, &format!("POST {of_alice}"), &[TEXT], "from afar").status, 204);
    assert_eq!(world.alice.get(&path("a")).body, "from afar");
    assert_eq!(rows(&mut world.alice), texts(&[("a", "from afar")]));
    assert_eq!(rows(&mut world.service), json!([]), "its own mailbox is another");
    // The reader stops it, and the writer is told.
    let stop = send(&mut world.alice, &format!("POST {}", path("a")), &[("Stream-Closed", "true")], "");
    assert_eq!((stop.status, stop.header("stream-closed")), (204, Some("true")));
    let late = send(&mut world.service, &format!("POST {of_alice}"), &[TEXT], "more");
    assert_eq!(refused(&late), code(409, "STREAM_CLOSED"));
    assert_eq!(late.header("stream-closed"), Some("true"));

    let unknown = send(&mut world.service, &format!("PUT {}?user=nobody", path("a")), &[TEXT], "");
    assert_eq!(refused(&unknown), code(404, "USER_NOT_FOUND"));
    for user in ["bob", "worker", "nobody"] {
        let refusal = send(&mut world.alice, &format!("GET {}?user={user}", path("a")), &[], "");
        assert_eq!(refused(&refusal), code(403, "PERMISSION_DENIED"), "{user}: who may not, learns nothing");
    }
    assert_eq!(world.alice.get(&of_alice).status, 200, "one may name oneself");
    let admin = send(&mut world.service, &format!("PUT {}?user=admin", path("a")), &[TEXT], "");
    assert_eq!(refused(&admin), code(403, "PERMISSION_DENIED"), "nobody acts for those above");
}

#[test]
fn a_page_uses_its_users_cookie() {
    let mut world = World::new(&[]);
    put(&mut world.alice, "a");
    let login = world.server.client().post("/v1/api/auth/login", &json!({ "user": "alice", "password": PASSWORD }));
    let cookies = login.headers_named("set-cookie");
    let cookie = cookies.iter().find(|cookie| cookie.starts_with("inboxdb_auth=")).unwrap().split(';').next().unwrap();
    let host = format!("http://{}", world.server.address);
    let stop = [("Cookie", cookie), ("Origin", host.as_str()), ("Stream-Closed", "true")];
    let evil = [("Cookie", cookie), ("Origin", "https://evil.example"), ("Stream-Closed", "true")];
    let mut page = world.server.client();
    let head = format!("POST {}", path("a"));
    assert_eq!(refused(&send(&mut page, &head, &evil, "")), code(403, "PERMISSION_DENIED"));
    assert_eq!(send(&mut page, &head, &stop, "").status, 204);
}

#[test]
fn tables_that_serve_no_streams_say_which_would() {
    let server = Server::start(&[]);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE s");
    for sql in [
        "CREATE USER TABLE s.rows (id BIGINT PRIMARY KEY, data TEXT)",
        "CREATE STREAM TABLE s.nokey (name TEXT, data TEXT) WITH (TTL_SECONDS = 60)",
        "CREATE STREAM TABLE s.number (stream BIGINT, data TEXT) WITH (TTL_SECONDS = 60)",
        "CREATE STREAM TABLE s.more (stream TEXT, data TEXT, n INT NOT NULL) WITH (TTL_SECONDS = 60)",
        "CREATE STREAM TABLE s.fits (stream TEXT, data TEXT, n INT NOT NULL DEFAULT 7, at TIMESTAMP DEFAULT NOW()) WITH (TTL_SECONDS = 60)",
        "CREATE STREAM TABLE s.json (stream TEXT, data JSON) WITH (TTL_SECONDS = 60)",
    ] {
        admin.sql(sql);
    }
    for table in ["rows", "nokey", "number", "more"] {
        let answer = send(&mut admin, &format!("PUT /v1/streams/s/{table}/a"), &[TEXT], "");
        assert_eq!(refused(&answer), code(400, "INVALID_INPUT"), "{table}");
        assert!(answer.json()["message"].as_str().unwrap().contains("CREATE STREAM TABLE"), "{}", answer.body);
    }
    for (path, error) in [("/v1/streams/s/none/a", "TABLE_NOT_FOUND"), ("/v1/streams/none/t/a", "TABLE_NOT_FOUND")] {
        assert_eq!(refused(&send(&mut admin, &format!("PUT {path}"), &[TEXT], "")), code(404, error), "{path}");
    }
    assert_eq!(send(&mut admin, "PUT /v1/streams/S/FITS/a", &[TEXT], "one").status, 201);
    assert_eq!(admin.rows("SELECT stream, data, n FROM s.fits"), json!([["a", "one", 7]]));
    // What the column can not hold.
    let bytes = ("Content-Type", "application/octet-stream");
    assert_eq!(refused(&send(&mut admin, "PUT /v1/streams/s/fits/b", &[bytes], "")), code(400, "INVALID_INPUT"));
    assert_eq!(refused(&send(&mut admin, "PUT /v1/streams/s/json/a", &[TEXT], "")), code(400, "INVALID_INPUT"));
    let json = ("Content-Type", "application/json");
    assert_eq!(send(&mut admin, "PUT /v1/streams/s/json/a", &[json], r#"[{"n":1},2]"#).status, 201);
    assert_eq!(admin.get("/v1/streams/s/json/a").json(), json!([{"n": 1}, 2]));
    let latin = admin.request("POST /v1/streams/s/fits/a", &[TEXT], &[0xe4]).unwrap();
    assert_eq!(refused(&latin), code(400, "INVALID_INPUT"), "no UTF-8");
    for key in ["%00", "a%0Ab", &"x".repeat(513)] {
        let answer = send(&mut admin, &format!("PUT /v1/streams/s/fits/{key}"), &[TEXT], "");
        assert_eq!(refused(&answer), code(400, "INVALID_INPUT"), "{key}");
    }
    let patch = send(&mut admin, "PATCH /v1/streams/s/fits/a", &[], "");
    assert_eq!((patch.status, patch.header("allow")), (405, Some("PUT, POST, GET, HEAD, DELETE")));
    // A role that may read no rows has no streams either.
    let mut nobody = server.new_user(&mut admin, "nobody", "anonymous");
    assert_eq!(refused(&send(&mut nobody, "PUT /v1/streams/s/fits/a", &[TEXT], "")), code(403, "PERMISSION_DENIED"));
}
