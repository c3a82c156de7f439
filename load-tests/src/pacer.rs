//! The beat of an open-loop client: when the next request is due, whatever became of the last.
//!
//! Owns a kernel timer: tokio's own has a grain of a millisecond, more than a whole request takes here.
//! Invariant: the due times are evenly spaced from the start. A beat that was missed is not left out but handed out
//! late, with the time it was due, so a stall of the server is charged to every request it delayed.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

pub(crate) struct Pacer {
    timer: AsyncFd<OwnedFd>,
    first: Instant,
    period: Duration,
    /// Beats that the timer has told of.
    elapsed: u64,
    /// Beats handed out.
    taken: u64,
}

impl Pacer {
    /// Beats every `period`, first after `offset`.
    pub(crate) fn start(offset: Duration, period: Duration) -> Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).context("make a timer")?;
        // An offset of zero would disarm the timer.
        let offset = offset.max(Duration::from_nanos(1));
        let setting = Itimerspec { it_interval: timespec(period)?, it_value: timespec(offset)? };
        let first = Instant::now() + offset;
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &setting).context("set a timer")?;
        // SAFETY: an `OwnedFd` keeps its descriptor open and the same until it is dropped, and the `AsyncFd` owns it.
        let timer = unsafe { AsyncFd::register(timer) }.context("watch a timer")?;
        Ok(Self { timer, first, period, elapsed: 0, taken: 0 })
    }

    /// Waits for the next beat and tells when it was due.
    pub(crate) async fn beat(&mut self) -> Result<Instant> {
        while self.elapsed == self.taken {
            let mut ready = self.timer.readable().await.context("wait for a timer")?;
            let mut count = [0; 8];
            let read = ready.try_io(|timer| rustix::io::read(timer.get_ref(), &mut count).map_err(Into::into));
            if let Ok(read) = read {
                read.context("read a timer")?;
                self.elapsed += u64::from_ne_bytes(count);
            }
        }
        let due = self.first + self.period.mul_f64(self.taken as f64);
        self.taken += 1;
        Ok(due)
    }
}

fn timespec(duration: Duration) -> Result<Timespec> {
    Timespec::try_from(duration).context("a timer's time is too long")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn beats_are_evenly_due_and_not_early() {
        let period = Duration::from_micros(500);
        let mut pacer = Pacer::start(Duration::ZERO, period).expect("a timer");
        let first = pacer.beat().await.expect("a beat");
        for number in 1..20 {
            let due = pacer.beat().await.expect("a beat");
            assert_eq!(due - first, period * number);
            assert!(Instant::now() >= due);
        }
    }

    #[tokio::test]
    async fn missed_beats_are_handed_out_late() {
        let mut pacer = Pacer::start(Duration::ZERO, Duration::from_millis(1)).expect("a timer");
        let first = pacer.beat().await.expect("a beat");
        while first.elapsed() < Duration::from_millis(5) {
            std::hint::spin_loop();
        }
        for number in 1..=4 {
            assert_eq!(pacer.beat().await.expect("a beat"), first + Duration::from_millis(number));
        }
    }
}
