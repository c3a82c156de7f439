//! How many messages a second one connection may send.

/// A bucket that holds one second's messages and refills as time passes.
#[derive(Debug)]
pub(crate) struct MessageRate {
    per_sec: i64,
    /// In millionths of a message.
    tokens: i64,
    at_us: i64,
}

const MESSAGE: i64 = 1_000_000;

impl MessageRate {
    pub(crate) fn new(per_sec: u32, now_us: i64) -> Self {
        let per_sec = i64::from(per_sec.max(1));
        Self { per_sec, tokens: per_sec * MESSAGE, at_us: now_us }
    }

    /// May one more message be taken now?
    pub(crate) fn admit(&mut self, now_us: i64) -> bool {
        let passed = (now_us - self.at_us).clamp(0, MESSAGE);
        self.at_us = now_us;
        self.tokens = (self.tokens + passed * self.per_sec).min(self.per_sec * MESSAGE);
        if self.tokens < MESSAGE {
            return false;
        }
        self.tokens -= MESSAGE;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admits_a_seconds_worth_at_once_and_then_the_rate() {
        let mut rate = MessageRate::new(50, 0);
        let admitted = (0..80).filter(|_| rate.admit(0)).count();
        assert_eq!(admitted, 50);
        let admitted = (1..=100).filter(|tenth| rate.admit(tenth * 10_000)).count();
        assert_eq!(admitted, 50, "fifty in the second that followed");
        assert!(!rate.admit(0), "a clock that steps back gives nothing");
    }
}
