use super::*;
use crate::live::encoding::Wire;
use crate::live::testing::{Note, ScoreQuery, event_text, note, rows, rows_of_all_owners, seq};
use crate::live::{EventKind, Format, WireFrame};

const JSON: Formats = Formats { json: true, msgpack: false };

enum Did {
    Insert(Note),
    Update(Note, Note),
    Delete(Note, i64),
}

use Did::{Delete, Insert, Update};

fn batch(changes: &[Did], rows: fn(&[Note]) -> RecordBatch) -> ChangeBatch {
    let (mut kinds, mut new, mut old) = (Vec::new(), Vec::new(), Vec::new());
    for change in changes {
        match change {
            Insert(row) => {
                kinds.push(ChangeKind::Insert);
                new.push(*row);
            }
            Update(before, after) => {
                kinds.push(ChangeKind::Update);
                old.push(*before);
                new.push(*after);
            }
            Delete(before, at) => {
                kinds.push(ChangeKind::Delete);
                old.push(*before);
                new.push(Note { seq: *at, ..*before }.deleted());
            }
        }
    }
    let old = (!old.is_empty()).then(|| rows(&old));
    ChangeBatch::new(kinds, rows(&new), old).unwrap()
}

fn told(query: &ScoreQuery, changes: &[Did]) -> Vec<String> {
    events(query, &batch(changes, rows), JSON).unwrap().iter().map(|event| event_text(event)).collect()
}

#[test]
fn an_event_carries_every_selected_column() {
    let star = ScoreQuery::all(None);
    let cases: Vec<(Did, &str)> = vec![
        (
            Insert(note(1, None, 5, 10)),
            r#""insert","rows":[{"id":"1","body":null,"score":5,"_seq":"10","_deleted":false}]"#,
        ),
        (
            Update(note(1, 7, 5, 10), note(1, None, 5, 11)),
            r#""update","rows":[{"id":"1","body":null,"score":5,"_seq":"11","_deleted":false}],"old_values":[{"id":"1","body":"b7","_seq":"10"}]"#,
        ),
        (
            Update(note(1, 7, None, 10), note(1, 7, None, 11)),
            r#""update","rows":[{"id":"1","body":"b7","score":null,"_seq":"11","_deleted":false}],"old_values":[{"id":"1","_seq":"10"}]"#,
        ),
        (
            Delete(note(1, 7, 5, 10), 12),
            r#""delete","old_values":[{"id":"1","body":"b7","score":5,"_seq":"12","_deleted":true}]"#,
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(told(&star, &[change]), [expected]);
    }
}

#[test]
fn with_a_projection_only_those_columns_and_seq() {
    let body_only = ScoreQuery::new(&[1], None);
    assert_eq!(
        told(
            &body_only,
            &[
                Insert(note(1, 1, 5, 10)),
                Update(note(1, 1, 5, 10), note(1, 2, 6, 11)),
                Update(note(1, 2, 6, 11), note(1, 2, 9, 12)),
                Delete(note(1, 2, 9, 12), 13),
            ]
        ),
        [
            r#""insert","rows":[{"body":"b1","_seq":"10"}]"#,
            r#""update","rows":[{"body":"b2","_seq":"11"}],"old_values":[{"id":"1","body":"b1","_seq":"10"}]"#,
            r#""update","rows":[{"body":"b2","_seq":"12"}],"old_values":[{"id":"1","_seq":"11"}]"#,
            r#""delete","old_values":[{"body":"b2","_seq":"13","_deleted":true}]"#,
        ]
    );
}

#[test]
fn an_update_across_the_edge_of_the_filter_is_an_insert_or_a_delete() {
    let query = ScoreQuery::new(&[0, 2], Some(5));
    let cases: Vec<(Did, &[&str])> = vec![
        (Insert(note(1, 1, 4, 10)), &[]),
        (Insert(note(1, 1, None, 10)), &[]),
        (Insert(note(1, 1, 5, 10)), &[r#""insert","rows":[{"id":"1","score":5,"_seq":"10"}]"#]),
        (Update(note(1, 1, 4, 10), note(1, 1, 6, 11)), &[r#""insert","rows":[{"id":"1","score":6,"_seq":"11"}]"#]),
        (
            Update(note(1, 1, 6, 10), note(1, 1, None, 11)),
            &[r#""delete","old_values":[{"id":"1","score":6,"_seq":"11","_deleted":true}]"#],
        ),
        (
            Update(note(1, 1, 6, 10), note(1, 1, 7, 11)),
            &[r#""update","rows":[{"id":"1","score":7,"_seq":"11"}],"old_values":[{"id":"1","score":6,"_seq":"10"}]"#],
        ),
        (Update(note(1, 1, 3, 10), note(1, 1, 4, 11)), &[]),
        (Delete(note(1, 1, 4, 10), 11), &[]),
        (
            Delete(note(1, 1, 6, 10), 11),
            &[r#""delete","old_values":[{"id":"1","score":6,"_seq":"11","_deleted":true}]"#],
        ),
    ];
    for (change, expected) in cases {
        assert_eq!(told(&query, &[change]), expected);
    }
}

#[test]
fn a_batch_of_all_kinds_keeps_its_order() {
    let query = ScoreQuery::new(&[0], Some(5));
    assert_eq!(
        told(
            &query,
            &[
                Insert(note(1, 1, 9, 20)),
                Insert(note(2, 1, 1, 21)),
                Delete(note(3, 1, 9, 2), 22),
                Update(note(4, 1, 9, 3), note(4, 1, 1, 23)),
                Update(note(5, 1, 1, 4), note(5, 1, 9, 24)),
                Delete(note(6, 1, 1, 5), 25),
                Update(note(7, 1, 8, 6), note(7, 1, 9, 26)),
            ]
        ),
        [
            r#""insert","rows":[{"id":"1","_seq":"20"}]"#,
            r#""delete","old_values":[{"id":"3","_seq":"22","_deleted":true}]"#,
            r#""delete","old_values":[{"id":"4","_seq":"23","_deleted":true}]"#,
            r#""insert","rows":[{"id":"5","_seq":"24"}]"#,
            r#""update","rows":[{"id":"7","_seq":"26"}],"old_values":[{"id":"7","_seq":"6"}]"#,
        ]
    );
}

#[test]
fn rows_of_all_owners_say_whose_they_are() {
    let query = ScoreQuery::new(&[1], None).over_all_owners();
    let changes = batch(&[Insert(note(1, 1, 1, 10)), Delete(note(2, 2, 1, 3), 11)], rows_of_all_owners);
    let told: Vec<String> = events(&query, &changes, JSON).unwrap().iter().map(|event| event_text(event)).collect();
    assert_eq!(
        told,
        [
            r#""insert","rows":[{"body":"b1","_seq":"10","_user_id":"u1","_storage_id":"local"}]"#,
            r#""delete","old_values":[{"body":"b2","_seq":"11","_user_id":"u2","_storage_id":"local","_deleted":true}]"#,
        ]
    );
}

#[test]
fn where_tombstones_are_seen_a_delete_is_an_update() {
    let told = |query: &ScoreQuery, change| told(query, &[change]);
    let all = ScoreQuery::new(&[0, 2], Some(5)).with_tombstones();
    assert_eq!(
        told(&all, Delete(note(1, 1, 6, 10), 11)),
        [
            r#""update","rows":[{"id":"1","score":6,"_seq":"11","_deleted":true}],"old_values":[{"id":"1","_seq":"10","_deleted":false}]"#
        ]
    );
    assert_eq!(told(&all, Delete(note(1, 1, 4, 10), 11)), [""; 0]);
    // `NOT _deleted`: out of the filter. `_deleted`: into it.
    let living = ScoreQuery::new(&[0], None).with_tombstones().where_deleted(false);
    assert_eq!(
        told(&living, Delete(note(1, 1, 6, 10), 11)),
        [r#""delete","old_values":[{"id":"1","_seq":"11","_deleted":true}]"#]
    );
    let gone = ScoreQuery::new(&[0], None).with_tombstones().where_deleted(true);
    assert_eq!(told(&gone, Insert(note(1, 1, 6, 10))), [""; 0]);
    assert_eq!(
        told(&gone, Delete(note(1, 1, 6, 10), 11)),
        [r#""insert","rows":[{"id":"1","_seq":"11","_deleted":true}]"#]
    );
}

#[test]
fn what_can_not_be_computed_is_an_error_not_silence() {
    let query = ScoreQuery::all(Some(5));
    let changes = batch(&[Insert(note(1, 1, 9, 10)), Insert(note(2, 1, -1, 11))], rows);
    assert!(matches!(events(&query, &changes, JSON), Err(Error::Execution(_))));
}

#[test]
fn refuses_a_batch_that_contradicts_itself() {
    let insert = ChangeKind::Insert;
    assert!(ChangeBatch::new(vec![insert], rows(&[]), None).is_err());
    assert!(ChangeBatch::new(vec![ChangeKind::Update], rows(&[note(1, 1, 1, 1)]), None).is_err());
    let backwards = rows(&[note(1, 1, 1, 2), note(2, 1, 1, 1)]);
    assert!(ChangeBatch::new(vec![insert, insert], backwards, None).is_err());
}

#[test]
fn a_frame_reads_the_same_in_both_formats() {
    let both = Formats { json: true, msgpack: true };
    let wire = |format| Wire { format, compress: true };
    let changes = batch(&[Update(note(1, 7, 5, 10), note(1, None, 5, 11))], rows);
    let told = events(&ScoreQuery::all(None), &changes, both).unwrap();
    let WireFrame::Text(json) = told[0].frame("sub \"1\"", wire(Format::Json)).unwrap() else { panic!("not text") };
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["subscription_id"], "sub \"1\"");
    let WireFrame::Binary(packed) = told[0].frame("sub \"1\"", wire(Format::MsgPack)).unwrap() else { panic!() };
    assert_eq!(rmp_serde::from_slice::<serde_json::Value>(&packed).unwrap(), json);
    let json_only = events(&ScoreQuery::all(None), &changes, JSON).unwrap();
    assert!(json_only[0].frame("s", wire(Format::MsgPack)).is_err());
}

fn replayed(query: &ScoreQuery, stored: &[(Note, i64)], known: i64) -> Vec<String> {
    let notes: Vec<Note> = stored.iter().map(|(note, _)| *note).collect();
    let created = stored.iter().map(|(_, created)| seq(*created)).collect();
    let stored = StoredRows { rows: rows(&notes), created };
    replayed_events(query, &stored, seq(known).into(), JSON).unwrap().iter().map(|event| event_text(event)).collect()
}

#[test]
fn a_replayed_row_is_told_by_what_the_subscriber_knows() {
    let query = ScoreQuery::new(&[0, 2], Some(5));
    let insert = r#""insert","rows":[{"id":"1","score":9,"_seq":"120"}]"#;
    let update = r#""update","rows":[{"id":"1","score":9,"_seq":"120"}],"old_values":[{"id":"1"}]"#;
    let delete = r#""delete","old_values":[{"id":"1","score":9,"_seq":"120","_deleted":true}]"#;
    let left = r#""delete","old_values":[{"id":"1","score":1,"_seq":"120","_deleted":true}]"#;
    let (inside, outside) = (note(1, 1, 9, 120), note(1, 1, 1, 120));
    // Known up to 100: created at 90 means the row existed then, at 110 that it did not.
    let cases: Vec<(Note, i64, Option<&str>)> = vec![
        (inside, 110, Some(insert)),
        (inside, 90, Some(update)),
        (inside, 100, Some(update)),
        (outside, 110, None),
        (outside, 90, Some(left)),
        (inside.deleted(), 90, Some(delete)),
        (inside.deleted(), 110, Some(delete)),
        (outside.deleted(), 90, Some(left)),
        (outside.deleted(), 110, None),
    ];
    for (row, created, expected) in cases {
        assert_eq!(replayed(&query, &[(row, created)], 100), Vec::from_iter(expected), "{row:?} created at {created}");
    }
}

/// Heard and not acknowledged: an insert at 110 may have been told, and then must be taken back where it is gone.
#[test]
fn who_may_have_heard_more_is_told_what_is_gone_of_that() {
    let query = ScoreQuery::new(&[0, 2], Some(5));
    let known = Known { upto: seq(100), perhaps_more: true };
    let kinds = |row: Note, created: i64| {
        let stored = StoredRows { rows: rows(&[row]), created: vec![seq(created)] };
        let told = replayed_events(&query, &stored, known, JSON).unwrap();
        told.first().map(|event| event.kind)
    };
    let (inside, outside) = (note(1, 1, 9, 120), note(1, 1, 1, 120));
    assert_eq!(kinds(inside, 110), Some(EventKind::Insert), "handled or not: it is told as what it is");
    assert_eq!(kinds(inside, 90), Some(EventKind::Update));
    assert_eq!(kinds(outside, 110), Some(EventKind::Delete), "it may have matched before");
    assert_eq!(kinds(outside.deleted(), 110), Some(EventKind::Delete));
    assert_eq!(kinds(outside, 120), None, "it never was another");
}

#[test]
fn where_tombstones_are_seen_a_replayed_one_is_a_row() {
    let insert = r#""insert","rows":[{"id":"1","_seq":"120","_deleted":true}]"#;
    let update = r#""update","rows":[{"id":"1","_seq":"120","_deleted":true}],"old_values":[{"id":"1"}]"#;
    let delete = r#""delete","old_values":[{"id":"1","_seq":"120","_deleted":true}]"#;
    let tombstone = note(1, 1, 9, 120).deleted();
    let query = || ScoreQuery::new(&[0], None).with_tombstones();
    assert_eq!(replayed(&query(), &[(tombstone, 110)], 100), [insert]);
    assert_eq!(replayed(&query(), &[(tombstone, 90)], 100), [update]);
    assert_eq!(replayed(&query().where_deleted(false), &[(tombstone, 90)], 100), [delete]);
    assert_eq!(replayed(&query().where_deleted(false), &[(tombstone, 110)], 100), [""; 0]);
}

#[test]
fn an_update_names_the_row_by_its_key_whatever_is_selected() {
    let stored = [(note(4, 1, 9, 101), 50)];
    assert_eq!(
        replayed(&ScoreQuery::new(&[2], None), &stored, 100),
        [r#""update","rows":[{"score":9,"_seq":"101"}],"old_values":[{"id":"4"}]"#]
    );
}

#[test]
fn replayed_rows_keep_their_order() {
    let query = ScoreQuery::new(&[0], None);
    let stored = [
        (note(4, 1, 9, 101), 50),
        (note(5, 1, 9, 102).deleted(), 50),
        (note(6, 1, 9, 103), 103),
        (note(4, 1, 9, 104).deleted(), 50),
    ];
    assert_eq!(
        replayed(&query, &stored, 100),
        [
            r#""update","rows":[{"id":"4","_seq":"101"}],"old_values":[{"id":"4"}]"#,
            r#""delete","old_values":[{"id":"5","_seq":"102","_deleted":true}]"#,
            r#""insert","rows":[{"id":"6","_seq":"103"}]"#,
            r#""delete","old_values":[{"id":"4","_seq":"104","_deleted":true}]"#,
        ]
    );
}
