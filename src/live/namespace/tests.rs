use super::*;
use crate::live::frames::BatchStatus;
use crate::live::pages::{ChangesPage, RowsPage};
use crate::live::testing::{rows_of, seq, some_event_of};

const LIMITS: OutboxLimits = OutboxLimits { events: 3, bytes: 100_000 };

fn table(id: u32, start: Start, cut: i64) -> FeedTable {
    FeedTable { id: TableId(id), name: format!("w.t{id}"), start, cut: seq(cut) }
}

fn rows(last: i64, more: bool) -> Page {
    Page::Rows(RowsPage { rows: rows_of(&[last]), count: 1, last: Some(seq(last)), more })
}

fn changes(table: u32, seqs: &[i64], reached: i64) -> Page {
    let events = seqs.iter().map(|at| some_event_of(table, *at)).collect();
    Page::Changes(ChangesPage { events, reached: seq(reached) })
}

/// In short: `t1 batch 0 more`, `t1 change 5`, `t2 fetch`.
fn short(steps: &[TableStep]) -> Vec<String> {
    let text = |(table, step): &TableStep| match step {
        Step::Ack(_) => "ack".to_owned(),
        Step::Batch { control, .. } => {
            let more = if control.status == BatchStatus::Ready { "ready" } else { "more" };
            format!("t{} batch {} {more}", table.0, control.batch_num)
        }
        Step::Change(event) => format!("t{} change {}", table.0, event.seq),
        Step::Fetch(_) => format!("t{} fetch", table.0),
        Step::ReleaseView => format!("t{} release", table.0),
    };
    steps.iter().map(text).collect()
}

fn delivered(feed: &NamespaceFeed) -> String {
    feed.delivered().iter().map(|(table, seq)| format!("{table}={seq} ")).collect::<String>().trim().to_owned()
}

#[test]
fn tables_are_loaded_one_after_the_other_and_ready_is_told_once() {
    let load = Start::Load { batch: 10 };
    let tables = vec![table(1, load, 50), table(2, load, 40)];
    let early = [some_event_of(2, 41), some_event_of(2, 39), some_event_of(1, 51)];
    let (mut feed, ack, steps) = NamespaceFeed::opened(tables, Some(rows(20, true)), early, LIMITS, 0).unwrap();
    assert!(ack.has_more);
    assert_eq!(short(&steps), ["t1 batch 0 more"]);
    assert_eq!(short(&feed.next_batch(0).unwrap()), ["t1 fetch"]);
    let steps = feed.page(TableId(1), rows(30, false), 0).unwrap();
    assert_eq!(short(&steps), ["t1 batch 1 more", "t1 release", "t1 change 51"], "more: of the other table");
    assert!(feed.has_room(0).is_none(), "the client sets the pace");
    assert_eq!(short(&feed.next_batch(0).unwrap()), ["t2 fetch"]);
    assert!(feed.next_batch(0).unwrap().is_empty(), "asked again: remembered");
    let steps = feed.page(TableId(2), rows(35, false), 0).unwrap();
    assert_eq!(short(&steps), ["t2 batch 2 ready", "t2 release", "t2 change 41"], "39 was in the view");
    assert!(feed.is_live());
    assert!(feed.event(some_event_of(1, 60)).unwrap().is_some());
    feed.sent(TableId(1), seq(60));
    assert_eq!(delivered(&feed), "w.t1=60 w.t2=0", "as far as it went out");
}

#[test]
fn replays_follow_each_other_as_there_is_room() {
    let resume = |from| Start::Resume { from: seq(from), at_least: false };
    let tables = vec![table(1, resume(10), 50), table(2, resume(20), 40)];
    let (mut feed, ack, steps) = NamespaceFeed::opened(tables, Some(changes(1, &[11, 12], 12)), [], LIMITS, 0).unwrap();
    assert!(!ack.has_more);
    assert_eq!(feed.begins_at().values().map(|s| s.get()).collect::<Vec<_>>(), [10, 20]);
    assert_eq!(short(&steps), ["t1 change 11", "t1 change 12"]);
    let (asked, _) = feed.has_room(0).unwrap();
    assert_eq!(asked, TableId(1));
    assert!(feed.event(some_event_of(2, 41)).unwrap().is_none(), "held back");
    assert_eq!(short(&feed.page(TableId(1), changes(1, &[], 50), 0).unwrap()), ["t1 release"]);
    assert_eq!(feed.has_room(0).unwrap().0, TableId(2));
    assert!(feed.has_room(0).is_none(), "one page at a time");
    let steps = feed.page(TableId(2), changes(2, &[30], 40), 0).unwrap();
    assert_eq!(short(&steps), ["t2 change 30", "t2 release", "t2 change 41"]);
    assert_eq!(delivered(&feed), "w.t1=10 w.t2=20");
}

#[test]
fn a_table_joins_leaves_and_comes_back_where_it_stood() {
    let (mut feed, ack, steps) =
        NamespaceFeed::opened(vec![table(1, Start::Changes, 50)], None, [], LIMITS, 0).unwrap();
    assert!(!ack.has_more && steps.is_empty());
    assert!(feed.event(some_event_of(7, 5)).unwrap().is_none(), "of a table that nobody announced");
    feed.joins();
    assert!(feed.event(some_event_of(2, 9)).unwrap().is_none(), "it waits");
    let joined = Some((table(2, Start::Resume { from: Seq::ZERO, at_least: false }, 8), changes(2, &[3, 8], 8)));
    let steps = feed.joined(joined, 0).unwrap();
    assert_eq!(short(&steps), ["t2 change 3", "t2 change 8", "t2 release", "t2 change 9"]);
    assert!(feed.event(some_event_of(1, 51)).unwrap().is_some());
    let (left, steps) = feed.left(TableId(1)).unwrap();
    assert_eq!(left, LeftTable { name: "w.t1".into(), told: Some(seq(51)) });
    assert!(steps.is_empty() && !feed.has_table(TableId(1)));
    assert!(feed.event(some_event_of(1, 52)).unwrap().is_none(), "late");
}

#[test]
fn a_client_that_waits_for_a_batch_of_a_table_that_goes_gets_one() {
    let load = Start::Load { batch: 10 };
    let tables = vec![table(1, load, 50), table(2, load, 40)];
    let (mut feed, _, _) = NamespaceFeed::opened(tables, Some(rows(20, false)), [], LIMITS, 0).unwrap();
    assert_eq!(short(&feed.next_batch(0).unwrap()), ["t2 fetch"]);
    let (left, steps) = feed.left(TableId(2)).unwrap();
    assert_eq!((left.told, short(&steps)), (None, vec!["t2 batch 1 ready".to_owned()]));
    assert!(feed.page(TableId(2), rows(30, false), 0).unwrap().is_empty());
}

#[test]
fn what_all_tables_hold_back_is_bounded_together() {
    let load = Start::Load { batch: 10 };
    let tables = vec![table(1, load, 50), table(2, load, 40)];
    let (mut feed, _, _) = NamespaceFeed::opened(tables, Some(rows(20, true)), [], LIMITS, 0).unwrap();
    for (table, at) in [(1, 51), (2, 41), (1, 52)] {
        assert!(feed.event(some_event_of(table, at)).unwrap().is_none());
    }
    let error = feed.event(some_event_of(2, 42)).unwrap_err();
    assert_eq!(error.code().live_wire(), "SLOW_CONSUMER");
    assert!(matches!(error, Error::Subscription(SubscriptionFault::SlowFeed { .. })));
}
