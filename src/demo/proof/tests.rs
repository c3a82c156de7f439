//! Each claim can fail, on its own.

use super::super::script::tests::conversations;
use super::*;

const FINISHED: usize = 0;
const INBOXES: usize = 1;
const AGENT: usize = 2;
const PRIVATE: usize = 3;
const KEPT: usize = 4;
const INTERRUPTED: usize = 5;

/// Two users; messages 0 (question) and 1 (answer) of the first, 2 and 3 of the second.
fn script() -> Script {
    Script::deal(&conversations(&["ua", "ua"]), 2, 2)
}

fn message(number: usize) -> MessageNumber {
    script().message_with_key(&number.to_string()).unwrap()
}

fn sighting(number: usize) -> Sighting {
    let seq = Seq::new(100 + i64::try_from(number).unwrap()).unwrap();
    Sighting { message: Some(message(number)), seq, intact: true, owner: None }
}

/// A run in which all went well.
fn good() -> Record {
    let script = script();
    let by_user = || vec![vec![sighting(0), sighting(1)], vec![sighting(2), sighting(3)]];
    let feed = |number: usize| Sighting { owner: Some(script.message(message(number)).owner), ..sighting(number) };
    Record {
        acknowledged: vec![true; 4],
        inboxes: by_user(),
        agent: vec![feed(0), feed(2)],
        stored: by_user(),
        trespass: Trespass { attempts: 6, repelled: 6 },
        interruptions: Interruptions {
            agent_cuts: 1,
            asked_meanwhile: 1,
            kills: 1,
            acknowledged_at_kill: 3,
            in_flight_at_kill: 1,
        },
        given_up: Vec::new(),
    }
}

fn failed(record: &Record) -> Vec<usize> {
    let findings = check(&script(), record);
    findings.iter().enumerate().filter(|(_, finding)| !finding.holds).map(|(place, _)| place).collect()
}

/// Spoils a good run and names the claims that fall.
#[track_caller]
fn check_spoiled(expected: &[usize], text: &str, spoil: impl FnOnce(&mut Record)) {
    let mut record = good();
    spoil(&mut record);
    assert_eq!(failed(&record), expected);
    let details: Vec<String> = check(&script(), &record).into_iter().map(|finding| finding.detail).collect();
    assert!(details.iter().any(|detail| detail.contains(text)), "{text:?} is not in {details:?}");
}

#[test]
fn a_good_run_holds() {
    assert_eq!(failed(&good()), Vec::<usize>::new());
}

#[test]
fn who_gave_up_is_told() {
    check_spoiled(&[FINISHED], "user_001 waited", |record| record.given_up.push("user_001 waited".to_owned()));
}

#[test]
fn a_message_never_acknowledged_is_told() {
    // It is nobody's loss: nothing was promised about it. But it was seen, so it is no stranger either: both
    // subscriptions and the SELECT then show a row that was not expected.
    check_spoiled(&[FINISHED, INBOXES, KEPT], "message 3 was never acknowledged", |record| {
        record.acknowledged[3] = false;
    });
    check_spoiled(&[FINISHED], "message 3 was never acknowledged", |record| {
        record.acknowledged[3] = false;
        record.inboxes[1].pop();
        record.stored[1].pop();
    });
}

#[test]
fn a_gap_a_double_and_disorder_at_a_user_are_told() {
    check_spoiled(&[INBOXES], "user_001's subscription did not get message 1", |record| {
        record.inboxes[0].pop();
    });
    check_spoiled(&[INBOXES], "user_001's subscription got message 1 twice", |record| {
        let later = Sighting { seq: Seq::new(200).unwrap(), ..sighting(1) };
        record.inboxes[0].push(later);
        record.stored[0][1] = later;
    });
    check_spoiled(&[INBOXES], "got _seq 102 after 103", |record| record.inboxes[1].reverse());
    check_spoiled(&[INBOXES], "got message 2 changed", |record| record.inboxes[1][0].intact = false);
    check_spoiled(&[INBOXES], "nobody wrote", |record| record.inboxes[0][1].message = None);
}

#[test]
fn a_gap_a_double_and_disorder_at_the_agent_are_told() {
    check_spoiled(&[AGENT], "the agent did not get message 2", |record| {
        record.agent.pop();
    });
    check_spoiled(&[AGENT], "the agent got message 2 twice", |record| {
        let last = record.agent[1];
        record.agent.push(Sighting { seq: Seq::new(300).unwrap(), ..last });
    });
    check_spoiled(&[AGENT], "the agent got _seq 100 after 102", |record| record.agent.reverse());
    check_spoiled(&[AGENT], "the agent got message 1, which is not for it", |record| {
        let answer = Sighting { owner: record.agent[0].owner, ..sighting(1) };
        record.agent.insert(1, answer);
    });
}

#[test]
fn a_row_of_another_is_told() {
    check_spoiled(&[INBOXES, PRIVATE], "user_001's subscription shows a row of user_002", |record| {
        record.inboxes[0].push(sighting(2));
    });
    check_spoiled(&[PRIVATE, KEPT], "user_002's SELECT shows a row of user_001", |record| {
        record.stored[1].insert(0, sighting(1));
    });
    check_spoiled(&[PRIVATE], "1 of 6 attempts", |record| record.trespass.repelled = 5);
    check_spoiled(&[PRIVATE], "that of nobody", |record| record.agent[1].owner = None);
}

#[test]
fn a_loss_is_told() {
    check_spoiled(&[KEPT], "user_002's SELECT did not get message 3", |record| {
        record.stored[1].pop();
    });
    check_spoiled(&[KEPT], "user_001's SELECT got message 0 changed", |record| record.stored[0][0].intact = false);
    check_spoiled(&[KEPT], "has a row at _seq 500 that was delivered at 101", |record| {
        record.stored[0][1].seq = Seq::new(500).unwrap();
    });
}

#[test]
fn a_run_without_interruptions_proves_nothing() {
    check_spoiled(&[INTERRUPTED], "was not killed", |record| record.interruptions.kills = 0);
    check_spoiled(&[INTERRUPTED], "was not killed", |record| record.interruptions.in_flight_at_kill = 0);
    check_spoiled(&[INTERRUPTED], "missed nothing", |record| record.interruptions.asked_meanwhile = 0);
}

#[test]
fn numbers_are_grouped() {
    for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (19_587, "19,587"), (1_234_567, "1,234,567")] {
        assert_eq!(thousands(number), text);
    }
}
