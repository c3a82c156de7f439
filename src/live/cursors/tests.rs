use super::*;
use crate::live::testing::{notes, seq};
use crate::model::Role;

fn ann(generation: u32) -> Principal {
    Principal { user: UserId::parse("ann").unwrap(), role: Role::User, generation }
}

fn wish(group: &str) -> CursorWish {
    let table = notes();
    CursorWish {
        key: CursorKey::new(&ann(1).user, group).unwrap(),
        target: CursorTarget::Table { table: table.id, name: table.name.clone() },
        rows_of: Some(ann(1).user),
    }
}

const ONE: SubscriptionKey = SubscriptionKey(1);
const TWO: SubscriptionKey = SubscriptionKey(2);

fn claim(cursors: &Cursors, wish: &CursorWish, holder: SubscriptionKey) -> Claimed {
    cursors.claim(wish, &ann(1), holder, 2, 10).unwrap()
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
    result.unwrap_err().code().live_wire()
}

#[test]
fn a_position_goes_forward_and_the_next_reader_goes_on_there() {
    let (cursors, wish) = (Cursors::default(), wish("g"));
    let table = notes().id;
    assert_eq!(claim(&cursors, &wish, ONE), Claimed { positions: BTreeMap::new(), before: None });
    cursors.ack(&wish.key, ONE, [(table, seq(20))], 11).unwrap();
    cursors.ack(&wish.key, ONE, [(table, seq(15))], 11).unwrap();
    let claimed = claim(&cursors, &wish, TWO);
    assert_eq!(claimed, Claimed { positions: [(table, seq(20))].into(), before: Some(ONE) });
    assert_eq!(code(cursors.ack(&wish.key, ONE, [(table, seq(30))], 12)), "ACK_REFUSED");
    cursors.release(&wish.key, ONE, 13);
    cursors.ack(&wish.key, TWO, [(table, seq(30))], 12).unwrap();
    assert_eq!(code(cursors.claim(&wish, &ann(1), ONE, 9, 10)), "GROUP_TAKEN_OVER", "it was asked for before");
    cursors.release(&wish.key, TWO, 13);
    assert_eq!(claim(&cursors, &wish, ONE).before, None);
    cursors.forget_positions(&wish.key, ONE);
    assert!(claim(&cursors, &wish, ONE).positions.is_empty());
}

#[test]
fn names_targets_limits_and_holders_are_checked() {
    let cursors = Cursors::default();
    for name in ["", " ", "a\nb", &"x".repeat(GROUP_BYTES_MAX + 1)] {
        assert_eq!(code(CursorKey::new(&ann(1).user, name)), "INVALID_SUBSCRIPTION_ID", "{name:?}");
    }
    claim(&cursors, &wish("a"), ONE);
    let other = CursorWish { rows_of: None, ..wish("a") };
    assert_eq!(code(cursors.claim(&other, &ann(1), TWO, 9, 10)), "CURSOR_MISMATCH");
    claim(&cursors, &wish("b"), ONE);
    assert_eq!(code(cursors.claim(&wish("c"), &ann(1), TWO, 2, 10)), "CURSOR_LIMIT_EXCEEDED");
    // Who has the name after a drop has none of the cursors.
    cursors.ack(&wish("a").key, ONE, [(notes().id, seq(9))], 11).unwrap();
    let later = cursors.claim(&wish("a"), &ann(2), TWO, 9, 10).unwrap();
    assert_eq!(later, Claimed { positions: BTreeMap::new(), before: None });
}

#[test]
fn what_changed_is_written_once_however_often_it_did() {
    let (cursors, wish) = (Cursors::default(), wish("g"));
    let table = notes().id;
    claim(&cursors, &wish, ONE);
    for at in 1..100 {
        cursors.ack(&wish.key, ONE, [(table, seq(at))], 11).unwrap();
    }
    let taken = cursors.take_dirty(10);
    assert_eq!(taken.len(), 1);
    let cursor = taken[0].1.clone().unwrap();
    assert_eq!(cursor.positions, [(table, seq(99))].into());
    let stored: Cursor = serde_json::from_str(&serde_json::to_string(&cursor).unwrap()).unwrap();
    assert_eq!(stored, cursor, "as it is stored");
    assert!(cursors.take_dirty(10).is_empty());
    cursors.ack(&wish.key, ONE, [(table, seq(5))], 11).unwrap();
    assert!(cursors.take_dirty(10).is_empty(), "it did not move");
    cursors.still_dirty([wish.key.clone()]);
    assert_eq!(cursors.take_dirty(10).len(), 1);
    let restarted = Cursors::default();
    restarted.load(vec![stored]);
    assert_eq!(claim(&restarted, &wish, TWO).positions, [(table, seq(99))].into());
}

#[test]
fn they_go_with_their_table_their_user_their_time_or_by_name() {
    let (cursors, wish) = (Cursors::default(), wish("g"));
    claim(&cursors, &wish, ONE);
    cursors.expire(Duration::from_micros(5), 100);
    assert_eq!(cursors.list().len(), 1, "somebody reads with it");
    cursors.release(&wish.key, ONE, 50);
    cursors.expire(Duration::from_micros(50), 100);
    assert_eq!(cursors.list().len(), 1);
    cursors.expire(Duration::from_micros(49), 100);
    assert!(cursors.list().is_empty());
    assert_eq!(cursors.take_dirty(9), [(wish.key.clone(), None)]);

    claim(&cursors, &wish, ONE);
    cursors.table_dropped(notes().id);
    assert!(cursors.list().is_empty());
    claim(&cursors, &wish, ONE);
    assert_eq!(cursors.remove(&wish.key), Some(Some(ONE)));
    assert_eq!(cursors.remove(&wish.key), None);
    claim(&cursors, &wish, ONE);
    cursors.remove_all(|cursor| cursor.user.as_str() == "ann");
    assert!(cursors.list().is_empty());

    let feed = CursorWish {
        target: CursorTarget::Namespace { name: NamespaceName::parse("demo").unwrap() },
        rows_of: None,
        ..wish
    };
    claim(&cursors, &feed, ONE);
    cursors.ack(&feed.key, ONE, [(notes().id, seq(7)), (TableId(9), seq(8))], 11).unwrap();
    cursors.table_dropped(notes().id);
    assert_eq!(cursors.list()[0].cursor.positions, [(TableId(9), seq(8))].into());
    cursors.namespace_dropped(&NamespaceName::parse("demo").unwrap());
    assert!(cursors.list().is_empty());
}
