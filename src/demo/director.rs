//! What goes wrong, and when: the agent's socket is cut after a third of the messages, the server killed after two.
//!
//! Owns the moments. They are told by what is acknowledged, not by a clock: the demo is as hard on a slow machine.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::agent::Cue;
use super::journal::Journal;
use super::proof::{Interruptions, counted, thousands};
use super::report::Screen;
use super::server::{ServerError, ServerProcess};

/// Longest time that the agent stays away: users who wait for an answer write nothing.
const AWAY_LIMIT: Duration = Duration::from_secs(2);

/// Longest wait for writes to hit.
const WAVE_LIMIT: Duration = Duration::from_secs(2);

pub(crate) struct Director {
    pub(crate) interruptions: Interruptions,
    journal: Rc<Journal>,
    agent: watch::Sender<Cue>,
    messages: usize,
    users: usize,
}

impl Director {
    pub(crate) fn new(journal: Rc<Journal>, agent: watch::Sender<Cue>, messages: usize, users: usize) -> Self {
        Self { interruptions: Interruptions::default(), journal, agent, messages, users }
    }

    /// Cuts, lets the agent come back, kills, starts again.
    ///
    /// # Errors
    /// The server can not be killed or does not come back.
    pub(crate) async fn interrupt(&mut self, server: &mut ServerProcess, screen: &Screen) -> Result<(), ServerError> {
        self.acknowledged(self.messages / 3).await;
        self.cut_agent(screen).await;
        self.acknowledged(self.messages * 2 / 3).await;
        self.kill(server, screen).await
    }

    async fn acknowledged(&self, messages: usize) {
        let mut acknowledgements = self.journal.acknowledgements();
        // The sender lives in the journal: the wait ends only with the count.
        let _ = acknowledgements.wait_for(|count| *count >= messages).await;
    }

    async fn cut_agent(&mut self, screen: &Screen) {
        let mut acknowledgements = self.journal.acknowledgements();
        self.agent.send_replace(Cue::Away);
        self.interruptions.agent_cuts += 1;
        let seen = *self.journal.agent_arrivals().borrow();
        screen.event("agent", &format!("its socket is cut, after {}", counted(seen, "question")));

        let enough = (self.users / 2).max(1);
        let missed = acknowledgements.wait_for(|_| self.journal.questions_waiting() >= enough);
        // Late is as good: what it missed by then is what it has to catch up with.
        let _ = timeout(AWAY_LIMIT, missed).await;
        self.interruptions.asked_meanwhile = self.journal.questions_waiting();
        self.agent.send_replace(Cue::Follow);
        let missed = counted(self.interruptions.asked_meanwhile, "question");
        screen.event("agent", &format!("resumes from its last _seq; {missed} came meanwhile"));
    }

    async fn kill(&mut self, server: &mut ServerProcess, screen: &Screen) -> Result<(), ServerError> {
        // Acknowledgements come in waves, one for each commit: right after one, no write would be hit.
        let mut in_flight = self.journal.in_flight();
        let enough = (self.users / 4).max(1);
        let _ = timeout(WAVE_LIMIT, in_flight.wait_for(|count| *count >= enough)).await;
        self.interruptions.in_flight_at_kill = *in_flight.borrow();
        self.interruptions.acknowledged_at_kill = *self.journal.acknowledgements().borrow();
        server.kill().await?;
        self.interruptions.kills += 1;
        let Interruptions { in_flight_at_kill, acknowledged_at_kill, .. } = self.interruptions;
        let text = format!("SIGKILL: {} acknowledged, {in_flight_at_kill} in flight", thousands(acknowledged_at_kill));
        screen.event("server", &text);
        let took = server.start_again().await?;
        screen.event("server", &format!("answers again after {:.2} s; all resume by themselves", took.as_secs_f64()));
        Ok(())
    }
}
