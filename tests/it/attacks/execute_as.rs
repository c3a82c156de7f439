//! EXECUTE AS USER, written in every way that might be read in two.

use serde_json::json;

use super::{BOBS, Target};

/// Proves that a user acts for nobody, and that a service acts for exactly the user that is named: quotes, comments, nesting,
/// look-alikes and statements behind the bracket change neither.
#[test]
fn it_names_one_user_whatever_stands_around() {
    let mut target = Target::new(&[]);
    let texts = [
        "EXECUTE AS USER 'bob' (SELECT * FROM t.mail)",
        "execute as user \"bob\" (SELECT * FROM t.mail)",
        "EXECUTE AS USER bob (SELECT * FROM t.mail)",
        "EXECUTE/**/AS/**/USER/**/'bob'/**/(SELECT * FROM t.mail)",
        "EXECUTE AS USER 'alice' (EXECUTE AS USER 'bob' (SELECT * FROM t.mail))",
        "EXECUTE AS USER 'alice' (SELECT 1) EXECUTE AS USER 'bob' (SELECT * FROM t.mail)",
        "EXECUTE AS USER 'alice' (SELECT 1); EXECUTE AS USER 'bob' (SELECT * FROM t.mail)",
        "EXECUTE AS USER 'alice' -- '\n'bob' (SELECT * FROM t.mail)",
        "EXECUTE AS USER 'alice' /* ' */ 'bob' (SELECT * FROM t.mail)",
        "EXECUTE AS USER 'alice'' OR ''bob' (SELECT * FROM t.mail)",
        "EXECUTE AS USER 'b\\ob' (SELECT * FROM t.mail)",
        "EXECUTE AS USER E'b\\x6fb' (SELECT * FROM t.mail)",
        "EXECUTE AS USER U&'b\\006Fb' (SELECT * FROM t.mail)",
        "EXECUTE AS USER $$bob$$ (SELECT * FROM t.mail)",
        "EXECUTE AS USER 'b' || 'ob' (SELECT * FROM t.mail)",
        "EXECUTE AS USER 'b' 'ob' (SELECT * FROM t.mail)",
        "EXECUTE AS USER $1 (SELECT * FROM t.mail)",
        "EXECUTE AS USER '*' (SELECT * FROM t.mail)",
        "EXECUTE AS USER * (SELECT * FROM t.mail)",
        "SELECT * FROM (EXECUTE AS USER 'bob' (SELECT * FROM t.mail)) x",
        "EXPLAIN EXECUTE AS USER 'bob' (SELECT * FROM t.mail)",
        "SUBSCRIBE TO EXECUTE AS USER 'bob' (SELECT * FROM t.mail)",
    ];
    for sql in texts {
        for body in [json!({ "sql": sql }), json!({ "sql": sql, "params": ["bob"] })] {
            let answer = target.alice.post("/v1/api/sql", &body);
            assert!(!answer.body.contains(BOBS), "{sql}: {}", answer.body);
            assert!(answer.status >= 400 || sql.starts_with("SUBSCRIBE"), "{sql}: {}", answer.body);
            assert!(answer.status < 500, "{sql}: {}", answer.body);
        }
    }
    // Names that look like bob's are not his: full-width, Cyrillic, a joiner, another case, blanks, NUL.
    let look_alikes =
        ["ｂｏｂ", "bоb", "b\u{200d}ob", "BOB", "Bob", " bob", "bob ", "bob\u{0}", "bo\u{301}b", "＊", "bob/../bob"];
    for name in look_alikes {
        let sql = format!("EXECUTE AS USER '{name}' (SELECT * FROM t.mail)");
        let answer = target.service.post("/v1/api/sql", &json!({ "sql": sql }));
        assert!(answer.status >= 400 && !answer.body.contains(BOBS), "{name:?}: {}", answer.body);
    }
    // The inner statement is the target's, with a user's rights: what it says of quotes is text.
    let rows = target
        .service
        .rows("EXECUTE AS USER 'bob' (SELECT body, CURRENT_USER(), '); DROP TABLE t.mail; --' FROM t.mail)");
    assert_eq!(rows, json!([[BOBS, "bob", "); DROP TABLE t.mail; --"]]));
    for sql in [
        "EXECUTE AS USER 'bob' (CREATE USER 'x' WITH PASSWORD 'a long password' ROLE user)",
        "EXECUTE AS USER 'bob' (SELECT * FROM t.dba)",
        "EXECUTE AS USER 'bob' (ALTER USER 'bob' SET PASSWORD 'a stolen account')",
        "EXECUTE AS USER 'bob' (USE t)",
        "EXECUTE AS USER 'admin' (SELECT 1)",
        "EXECUTE AS USER 'root' (SELECT 1)",
        "EXECUTE AS USER '*' (DELETE FROM t.mail WHERE true)",
        "EXECUTE AS USER '*' (INSERT INTO t.mail VALUES (1, 'x'))",
        "EXECUTE AS USER '*' (SELECT * FROM t.dba)",
    ] {
        let failure = target.service.refused(sql);
        assert!(failure.status == 403 || failure.status == 400, "{sql}: {failure}");
    }
    assert_eq!(target.service.rows("EXECUTE AS USER '*' (SELECT body FROM t.mail)"), json!([[BOBS]]), "all is there");
}
