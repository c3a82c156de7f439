use super::*;
use crate::live::testing::{rows_of, rows_text, seq, some_event};

const LIMITS: OutboxLimits = OutboxLimits { events: 3, bytes: 1 << 20 };
const SECOND: i64 = 1_000_000;

fn options(text: &str) -> Option<SubscribeOptions> {
    serde_json::from_str(text).unwrap()
}

fn rows(last: i64, more: bool) -> Page {
    Page::Rows(RowsPage { rows: rows_of(&[last]), count: 1, last: Some(seq(last)), more })
}

fn no_rows() -> Page {
    Page::Rows(RowsPage { rows: rows_of(&[]), count: 0, last: None, more: false })
}

fn changes(seqs: &[i64], reached: i64) -> Page {
    let events = seqs.iter().map(|at| some_event(*at)).collect();
    Page::Changes(ChangesPage { events, reached: seq(reached) })
}

fn request(request: &PageRequest) -> String {
    match request {
        PageRequest::Rows { after, until, limit } => format!("rows {after}..{until} max {limit}"),
        PageRequest::Newest { until, limit } => format!("newest ..{until} max {limit}"),
        PageRequest::Changes { after, until, known } => format!("changes {after}..{until} known {}", known.upto),
    }
}

fn told(steps: &[Step]) -> String {
    let id = |seq: Option<Seq>| seq.map_or("-".to_owned(), |seq| seq.to_string());
    let control = |c: &BatchControl| {
        let status = serde_json::to_value(c.status).unwrap();
        let status = status.as_str().unwrap();
        format!("{} {status} {} {}", c.batch_num, id(c.last_seq_id), id(c.snapshot_end_seq))
    };
    let texts: Vec<String> = steps
        .iter()
        .map(|step| match step {
            Step::Ack(c) => format!("ack {}", control(c)),
            Step::Batch { rows, control: c, .. } => {
                let rows = rows.as_ref().map_or("[]".into(), rows_text);
                format!("batch {rows}: {}", control(c))
            }
            Step::Change(event) => format!("change {}", event.seq),
            Step::Fetch(page) => format!("fetch {}", request(page)),
            Step::ReleaseView => "release".into(),
        })
        .collect();
    texts.join(" | ")
}

/// A subscription with the options, opened at `cut` with its first page.
fn opened(text: &str, cut: i64, first: Option<Page>) -> (Subscription, String) {
    let mut subscription = Subscription::new(Start::of(options(text).as_ref()), LIMITS, 0);
    let steps = subscription.opened(seq(cut), first, 0).unwrap();
    (subscription, told(&steps))
}

/// What the subscription does with a live event: tells it, keeps it, or fails.
fn live(subscription: &mut Subscription, at: i64) -> &'static str {
    match subscription.event(some_event(at)) {
        Ok(Some(_)) => "told",
        Ok(None) => "kept",
        Err(error) => error.code().live_wire(),
    }
}

#[test]
fn options_say_what_comes_first() {
    let cases = [
        ("null", "-"),
        ("{}", "rows 0..50 max 1000"),
        (r#"{"batch_size":7}"#, "rows 0..50 max 7"),
        (r#"{"batch_size":0}"#, "rows 0..50 max 1"),
        (r#"{"batch_size":99999999}"#, "rows 0..50 max 10000"),
        (r#"{"last_rows":3,"batch_size":7}"#, "newest ..50 max 3"),
        (r#"{"last_rows":0}"#, "newest ..50 max 0"),
        (r#"{"from":20,"last_rows":3}"#, "changes 20..50 known 20"),
        (r#"{"from":20,"snapshot_end_seq":40}"#, "rows 20..40 max 1000"),
        (r#"{"from":40,"snapshot_end_seq":40}"#, "changes 40..50 known 40"),
        (r#"{"from":20,"snapshot_end_seq":90}"#, "rows 20..50 max 1000"),
        (r#"{"from":90}"#, "changes 50..50 known 90"),
    ];
    for (text, expected) in cases {
        let first = Start::of(options(text).as_ref()).first_page(seq(50));
        assert_eq!(first.as_ref().map_or("-".into(), request), expected, "{text}");
    }
}

#[test]
fn without_options_only_changes_come() {
    let mut subscription = Subscription::new(Start::Changes, LIMITS, 0);
    assert_eq!(live(&mut subscription, 51), "kept", "not acknowledged yet");
    let steps = subscription.opened(seq(50), None, 0).unwrap();
    assert_eq!(told(&steps), "ack 0 ready 50 - | change 51");
    assert_eq!(live(&mut subscription, 50), "kept", "before it was attached");
    assert_eq!(live(&mut subscription, 52), "told");
    assert_eq!(subscription.last_delivered(), Some(seq(50)));
    subscription.sent(seq(52));
    assert_eq!(subscription.last_delivered(), Some(seq(52)));
}

#[test]
fn a_load_of_several_batches() {
    let (mut subscription, first) = opened(r#"{"batch_size":2}"#, 50, Some(rows(20, true)));
    assert_eq!(first, "ack 0 loading 20 50 | batch [20]: 0 loading 20 50");
    assert_eq!(live(&mut subscription, 45), "kept", "in the view");
    assert_eq!(live(&mut subscription, 55), "kept", "after the load");
    assert_eq!(told(&subscription.next_batch(0).unwrap()), "fetch rows 20..50 max 2");
    let steps = subscription.page(rows(30, true)).unwrap();
    assert_eq!(told(&steps), "batch [30]: 1 loading_batch 30 50");
    assert_eq!(told(&subscription.next_batch(0).unwrap()), "fetch rows 30..50 max 2");
    assert_eq!(told(&subscription.next_batch(0).unwrap()), "", "asked before the answer");
    let steps = subscription.page(rows(40, true)).unwrap();
    assert_eq!(told(&steps), "batch [40]: 2 loading_batch 40 50 | fetch rows 40..50 max 2");
    let steps = subscription.page(no_rows()).unwrap();
    assert_eq!(told(&steps), "batch []: 3 ready 40 50 | release | change 55");
    assert_eq!(live(&mut subscription, 56), "told");
    assert_eq!(told(&subscription.next_batch(0).unwrap()), "", "there is no next");
}

#[test]
fn a_load_of_one_batch_is_ready_at_once() {
    let (mut subscription, first) = opened("{}", 50, Some(no_rows()));
    assert_eq!(first, "ack 0 ready - 50 | batch []: 0 ready - 50 | release");
    assert_eq!(live(&mut subscription, 51), "told");
}

#[test]
fn the_newest_rows_end_with_an_empty_batch() {
    let (mut subscription, first) = opened(r#"{"last_rows":1}"#, 50, Some(rows(45, true)));
    assert_eq!(first, "ack 0 loading 45 50 | batch [45]: 0 loading 45 50");
    assert_eq!(live(&mut subscription, 51), "kept");
    let steps = subscription.next_batch(0).unwrap();
    assert_eq!(told(&steps), "batch []: 1 ready 45 50 | release | change 51");

    let (_, first) = opened(r#"{"last_rows":9}"#, 50, Some(rows(45, false)));
    assert_eq!(first, "ack 0 ready 45 50 | batch [45]: 0 ready 45 50 | release");
}

#[test]
fn a_resume_is_ready_at_once_and_paced_by_the_server() {
    let (mut subscription, first) = opened(r#"{"from":20}"#, 50, Some(changes(&[25, 30], 30)));
    assert_eq!(first, "ack 0 ready 20 - | change 25 | change 30");
    assert_eq!(live(&mut subscription, 48), "kept", "the replay will tell it");
    assert_eq!(live(&mut subscription, 60), "kept", "its turn has not come");
    let page = subscription.has_room(0).unwrap();
    assert_eq!(request(&page), "changes 30..50 known 20");
    assert!(subscription.has_room(0).is_none(), "one page at a time");
    let steps = subscription.page(changes(&[48], 50)).unwrap();
    assert_eq!(told(&steps), "change 48 | release | change 60");
    assert_eq!(live(&mut subscription, 61), "told");
    assert!(subscription.has_room(0).is_none());
}

#[test]
fn an_unfinished_load_goes_on_and_then_replays() {
    let text = r#"{"from":20,"snapshot_end_seq":40,"batch_size":1}"#;
    let (mut subscription, first) = opened(text, 50, Some(rows(30, true)));
    assert_eq!(first, "ack 0 loading 30 40 | batch [30]: 0 loading 30 40");
    assert_eq!(told(&subscription.next_batch(0).unwrap()), "fetch rows 30..40 max 1");
    assert_eq!(live(&mut subscription, 51), "kept");
    let steps = subscription.page(rows(39, false)).unwrap();
    assert_eq!(told(&steps), "batch [39]: 1 ready 39 40");
    assert_eq!(request(&subscription.has_room(0).unwrap()), "changes 40..50 known 20");
    let steps = subscription.page(changes(&[45], 50)).unwrap();
    assert_eq!(told(&steps), "change 45 | release | change 51");
}

#[test]
fn what_is_held_back_is_bounded() {
    let (mut subscription, _) = opened(r#"{"batch_size":1}"#, 50, Some(rows(20, true)));
    for at in 51..54 {
        assert_eq!(live(&mut subscription, at), "kept");
    }
    subscription.sent(seq(20));
    let error = subscription.event(some_event(54)).unwrap_err();
    assert!(error.to_string().contains("\"from\": 20"), "{error}");

    let bytes = some_event(51).weight();
    let tight = OutboxLimits { events: 100, bytes };
    let mut subscription = Subscription::new(Start::Changes, tight, 0);
    assert_eq!(live(&mut subscription, 51), "kept");
    assert_eq!(live(&mut subscription, 52), "SLOW_CONSUMER");
}

#[test]
fn a_view_is_not_kept_for_a_client_that_does_not_go_on() {
    let (mut subscription, _) = opened(r#"{"batch_size":1}"#, 50, Some(rows(20, true)));
    assert_eq!(subscription.expired(60 * SECOND), None);
    assert!(matches!(subscription.expired(61 * SECOND), Some(SubscriptionFault::BatchFetchFailed(_))));
    subscription.next_batch(50 * SECOND).unwrap();
    assert_eq!(subscription.expired(200 * SECOND), None, "it is we who read");
    subscription.page(rows(30, true)).unwrap();
    assert!(subscription.expired(111 * SECOND).is_some());
    subscription.next_batch(899 * SECOND).unwrap();
    assert!(subscription.expired(901 * SECOND).is_some(), "however diligent");

    let (subscription, _) = opened(r#"{"from":20}"#, 50, Some(changes(&[25], 30)));
    let slow = Some(SubscriptionFault::SlowConsumer { last_delivered: Some(seq(20)) });
    assert_eq!(subscription.expired(61 * SECOND), slow);

    let (subscription, _) = opened("{}", 50, Some(no_rows()));
    assert_eq!(subscription.expired(i64::MAX / 2), None, "a live one needs no view");
}

#[test]
fn disorder_is_found() {
    let (mut subscription, _) = opened("null", 50, None);
    assert_eq!(live(&mut subscription, 52), "told");
    assert_eq!(live(&mut subscription, 52), "SUBSCRIPTION_FAILED");
    let mut subscription = Subscription::new(Start::Resume { from: seq(20), at_least: false }, LIMITS, 0);
    assert!(subscription.opened(seq(50), Some(changes(&[25, 24], 30)), 0).is_err());
    let mut subscription = Subscription::new(Start::Load { batch: 1 }, LIMITS, 0);
    assert!(subscription.opened(seq(50), Some(changes(&[], 30)), 0).is_err(), "not the page it asked for");
}
