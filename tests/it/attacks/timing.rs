//! Does the time of an answer tell whether a name is a user's? Welch's t of wrong log-ins for a user and for nobody, taken in
//! turns; |t| < 4.5 is no evidence.
//!
//! Clocks of a busy machine prove nothing, so this asserts only where it is asked to measure:
//! `INBOXDB_TEST_TRIES=2000 cargo test --release --test it attacks::timing -- --nocapture`. That the same work is done is
//! held by a test of `auth`, always.

use std::time::Instant;

use serde_json::json;

use super::Target;
use crate::http::Client;

const EVIDENCE: f64 = 4.5;

/// Of the means of two samples.
fn welch_t(a: &[f64], b: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let spread = |values: &[f64]| {
        let mean = mean(values);
        values.iter().map(|value| (value - mean).powi(2)).sum::<f64>()
            / (values.len() as f64 - 1.0)
            / values.len() as f64
    };
    (mean(a) - mean(b)) / (spread(a) + spread(b)).sqrt()
}

/// The slowest twentieth is the machine's doing, and would hide a difference.
fn without_slowest(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values.truncate(values.len() * 19 / 20);
    values
}

#[test]
fn the_time_of_an_answer_does_not_tell_who_exists() {
    let tries = std::env::var("INBOXDB_TEST_TRIES").ok().map(|text| text.parse::<usize>().unwrap());
    // Where it is measured, hashes cost what they cost by default; elsewhere nearly nothing.
    let cost: &[&str] = if tries.is_some() { &["auth.argon2.memory=19MiB", "auth.argon2.iterations=2"] } else { &[] };
    let settings = [&["auth.lockout_attempts=1000000", "audit.max_entries=1000000"][..], cost].concat();
    let target = Target::new(&settings);
    let mut client: Client = target.server.client();
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for turn in 0..tries.unwrap_or(20) * 2 {
        let (user, times) = if turn % 2 == 0 { ("alice", &mut known) } else { ("alicf", &mut unknown) };
        let started = Instant::now();
        let answer = client.post("/v1/api/auth/login", &json!({ "user": user, "password": "wrong" }));
        times.push(started.elapsed().as_secs_f64());
        assert_eq!((answer.status, &answer.json()["error"]), (401, &json!("unauthorized")));
    }
    let t = welch_t(&without_slowest(known), &without_slowest(unknown));
    println!("t = {t:.2}");
    assert!(tries.is_none() || t.abs() < EVIDENCE, "t = {t:.2}");
}

#[test]
fn what_differs_is_found() {
    let near = |base: f64| (0..2_000).map(|n| base + f64::from(n % 7) / 100.0).collect::<Vec<f64>>();
    assert!(welch_t(&near(1.0), &near(1.0)).abs() < 0.001);
    assert!(welch_t(&near(1.01), &near(1.0)) > EVIDENCE);
}
