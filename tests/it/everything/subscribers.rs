//! Subscribers of every kind, who come back until the end, and what they must have been told by then.

use std::collections::BTreeMap;
use std::time::Duration;

use super::PATIENCE;
use super::place::Place;
use super::workers::Entry;
use super::writers::MARK;
use crate::follower::{Follower, Subject, Way};
use crate::random::Random;

pub struct Subscriber {
    follower: Follower,
    /// How many rows that are written last there are for it.
    marks: usize,
    random: Random,
}

/// User, subscription, the SELECTs that say what it ought to hold, group, how it is followed, and marks at the end.
type Asked = (&'static str, &'static str, Vec<String>, Option<&'static str>, Way, usize);

/// Of one's own rows: with a filter or without, of a SHARED table, of a STREAM table. Of all owners: of a table, of all tables. By
/// each way in, with positions, groups and ids of events.
pub fn all(random: &mut impl FnMut() -> Random) -> Vec<Subscriber> {
    let own = |table: &str, condition: &str| vec![format!("SELECT '', '', id, v FROM {table} {condition}")];
    let every =
        |condition: &str| vec![format!("EXECUTE AS USER '*' (SELECT '', _user_id, id, v FROM e.mail {condition})")];
    let tables = |condition: &str| {
        let sql = |table| format!("EXECUTE AS USER '*' (SELECT _table, _user_id, id, v FROM {table} {condition})");
        ["e.mail", "e.notes"].map(sql).to_vec()
    };
    let pings = vec!["SELECT '', '', _seq, v FROM o.pings".to_owned()];
    let all_pings = vec!["EXECUTE AS USER '*' (SELECT '', _user_id, _seq, v FROM o.pings)".to_owned()];
    let own_mail = "SELECT id, v FROM e.mail";
    let feed = "EXECUTE AS USER '*' (SELECT id, v, _user_id FROM e.*)";
    let few = "EXECUTE AS USER '*' (SELECT id, v, _user_id FROM e.* WHERE n = 3)";
    let every_mail = "EXECUTE AS USER '*' (SELECT id, v, _user_id FROM e.mail)";
    let some_mail = "EXECUTE AS USER '*' (SELECT id, v, _user_id FROM e.mail WHERE n >= 2)";
    let every_ping = "EXECUTE AS USER '*' (SELECT v, _user_id FROM o.pings)";
    let subjects: Vec<Asked> = vec![
        ("ann", own_mail, own("e.mail", ""), None, Way::Json, 1),
        ("ann", own_mail, own("e.mail", ""), Some("mine"), Way::Json, 1),
        ("ann", own_mail, own("e.mail", ""), None, Way::Events, 1),
        ("ben", "SELECT id, v FROM e.mail WHERE n = 3", own("e.mail", "WHERE n = 3"), None, Way::Packed, 1),
        ("ann", "SELECT id, v FROM e.board WHERE n = 3", own("e.board", "WHERE n = 3"), None, Way::Json, 1),
        ("ben", "SELECT v FROM o.pings", pings, None, Way::Events, 1),
        ("worker", every_ping, all_pings, None, Way::Packed, 1),
        ("worker", every_mail, every(""), None, Way::Packed, 2),
        ("worker", some_mail, every("WHERE n >= 2"), None, Way::Events, 2),
        ("worker", feed, tables(""), None, Way::Json, 3),
        ("worker", few, tables("WHERE n = 3"), Some("agent"), Way::Packed, 3),
    ];
    let subscriber = |(user, sql, selects, group, way, marks)| {
        let follower = Follower::new(Subject { user, sql, selects, group, way });
        Subscriber { follower, marks, random: random() }
    };
    subjects.into_iter().map(subscriber).collect()
}

impl Subscriber {
    pub fn run(&mut self, place: &Place) {
        while !place.is_over() {
            place.address();
            let token = &place.tokens[self.follower.subject.user];
            let frames = self.random.within(1..80);
            if let Ok(connection) = self.follower.connect(place.proxy.address, token, PATIENCE) {
                self.follower.follow(connection, &mut self.random, frames, |_| place.is_over());
            }
        }
    }

    /// Comes to the end; then its rows are those of SELECT, and whatever it was told is in the log.
    pub fn finish(&mut self, place: &Place, log: &BTreeMap<(&str, i64), &Entry>) {
        let Self { follower, marks, random } = self;
        let has_all = |follower: &Follower| {
            let subject = &follower.subject;
            (follower.ready || subject.way == Way::Events)
                && follower.rows.values().filter(|v| *v == MARK).count() == *marks
        };
        // A word of an earlier connection that comes late may take a group once more.
        for _ in 0..6 {
            let token = &place.tokens[follower.subject.user];
            let connection = follower.connect(place.address(), token, Duration::from_secs(20)).unwrap();
            follower.follow(connection, random, 100_000, has_all);
            if has_all(follower) || follower.subject.group.is_none() {
                break;
            }
        }
        let state = follower.state();
        let selected = follower.selected(&mut place.client(follower.subject.user));
        assert_eq!(follower.rows, selected, "{:?} {state}", follower.subject);
        let sql = follower.subject.sql;
        let only = sql.split("FROM ").nth(1).unwrap().split([' ', ')']).next().unwrap();
        for ((table, seq), (key, v)) in &follower.told {
            let table = if table.is_empty() { only } else { table };
            let said = format!("{table} {seq}: {key:?} {v:?}");
            let entry = log.get(&(table, *seq)).unwrap_or_else(|| panic!("never committed: {said} to {sql}"));
            let owner = if key.1.is_empty() { &entry.user } else { &key.1 };
            let id = entry.change.key.to_string();
            let same_row = *owner == entry.user && (table == "o.pings" || key.2 == id);
            let same = v.as_ref().is_none_or(|v| entry.change.op != "delete" && *v == entry.change.v.as_str());
            assert!(same_row && same, "{said} to {sql}, but it is {entry:?}");
        }
    }
}
