//! `inboxdb demo`: a chat of many users and an agent, played through the real interfaces, and judged from outside.
//!
//! Owns the order of the play: server → cast → subscriptions → conversations, with the agent cut off and the server
//! killed on the way → the last questions → the proof.
//! Never touches the server's inside: it is a process of its own, reached over HTTP and WebSocket only.
//! Everything that waits has a bound; whoever gives up says why, and the proof is made of what is there.
//! Start at [`run`].

mod agent;
mod audit;
mod cast;
mod client;
mod conversations;
mod director;
mod journal;
mod proof;
mod report;
mod script;
mod server;
mod socket;
mod user;
mod writer;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::ProgressBar;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};

use crate::cli::DemoArgs;
use agent::{Agent, Cue};
use audit::Audit;
use cast::Cast;
use client::{HttpClient, Token};
use director::Director;
use journal::{Journal, Seen};
use proof::{Interruptions, Record};
pub(crate) use proof::{counted, thousands};
use report::{Figures, Screen};
use script::{Script, UserNumber};
use server::ServerProcess;
use socket::{LiveQuery, SocketError};
use user::User;
use writer::Writer;

/// The whole demo. The shared conversations take a minute at most; a debug build on a busy machine some more.
const LIMIT: Duration = Duration::from_secs(600);
/// Short input is played again until everyone has this many conversations.
const CONVERSATIONS_EACH: usize = 5;
/// Longest wait, after the play, for rows that are still on their way.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);
/// How long nothing may come any more: a row sent twice may come late.
const QUIET: Duration = Duration::from_millis(300);
/// Reasons that are told at once; the proof has the count.
const GIVEN_UP_SHOWN: usize = 3;
/// Sockets that connect at the same time.
const CONNECTS_AT_ONCE: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error(transparent)]
    Input(#[from] conversations::InputError),
    #[error("no randomness for passwords: {0}")]
    Randomness(getrandom::Error),
    #[error("signals can not be received: {0}")]
    Signals(io::Error),
    #[error(transparent)]
    Server(#[from] server::ServerError),
    #[error("a call failed: {0}")]
    Call(#[from] client::CallError),
    #[error("a subscription failed: {0}")]
    Subscription(#[from] SocketError),
    #[error("a part of the demo itself broke: {0}")]
    Died(String),
    #[error("the demo did not end within {} minutes", LIMIT.as_secs() / 60)]
    TooLong,
    #[error("interrupted")]
    Interrupted,
    #[error("{cause}\nthe server's log ends:\n{log}")]
    WithLog { cause: Box<DemoError>, log: String },
    #[error("not everything that the demo claims is true")]
    NotTrue,
}

/// Plays the demo and shows what came of it.
///
/// # Errors
/// It could not be played to its end, or a claim is not true.
pub fn run(args: &DemoArgs) -> Result<(), DemoError> {
    actix_web::rt::System::new().block_on(perform(args))
}

async fn perform(args: &DemoArgs) -> Result<(), DemoError> {
    let conversations = conversations::read(args.input.as_deref())?;
    let users = args.users.get();
    let count = match args.conversations {
        Some(count) => count.get(),
        None => conversations.len().max(users * CONVERSATIONS_EACH),
    };
    let script = Rc::new(Script::deal(&conversations, users, count));
    let mut screen = Screen::new();
    introduce(&screen, &script, count);

    let mut interrupt = signal(SignalKind::interrupt()).map_err(DemoError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(DemoError::Signals)?;
    let mut server = ServerProcess::start().await?;
    let played = tokio::select! {
        played = timeout(LIMIT, play(&mut server, &script, &mut screen)) => played.unwrap_or(Err(DemoError::TooLong)),
        // Not left to the default: the server would go on, and its folder stay.
        _ = interrupt.recv() => Err(DemoError::Interrupted),
        _ = terminate.recv() => Err(DemoError::Interrupted),
    };
    screen.end_progress();
    match played {
        Ok(()) => {
            server.stop().await;
            Ok(())
        }
        Err(DemoError::Interrupted) => Err(DemoError::Interrupted),
        Err(cause) => match server.log() {
            log if log.is_empty() => Err(cause),
            log => Err(DemoError::WithLog { cause: Box::new(cause), log }),
        },
    }
}

fn introduce(screen: &Screen, script: &Script, conversations: usize) {
    let languages: BTreeSet<&str> = script.messages().map(|(_, message)| message.language.as_str()).collect();
    let (users, messages) = (counted(script.users().count(), "user"), counted(script.len(), "message"));
    screen.line(&format!("InboxDB demo: {users} and one agent"));
    let conversations = counted(conversations, "conversation");
    screen.line(&format!("{conversations} in {}, {messages}\n", counted(languages.len(), "language")));
}

async fn play(server: &mut ServerProcess, script: &Rc<Script>, screen: &mut Screen) -> Result<(), DemoError> {
    screen.event("server", &format!("listens on {}, its store empty, durability sync", server.address()));
    let http = HttpClient::new(server.address());
    let cast = Cast::assemble(&http, script.users().count(), &password()?).await?;
    screen.event("cast", &format!("{} and the agent, made and signed in", counted(cast.users.len(), "user")));

    let journal = Rc::new(Journal::new(script.clone()));
    let stage = Stage { http, script: script.clone(), journal, cast };
    let (mut listeners, stop) = stage.open_inboxes(server).await?;
    let feed = stage.open_feed(server).await?;
    screen.event("live", &format!("{} subscriptions are open", stage.cast.users.len() + 1));

    screen.begin_progress(script.len());
    let started = Instant::now();
    let (cue, cues) = watch::channel(Cue::Follow);
    let mut agent = actix_web::rt::spawn(stage.agent().follow(feed, cues));
    let mut director = Director::new(stage.journal.clone(), cue.clone(), script.len(), stage.cast.users.len());
    let mut given_up = tokio::select! {
        given_up = stage.hold_conversations(&mut director, server, screen) => given_up?,
        ended = &mut agent => return Err(ended_early(ended.map(|ended| ended.map(drop)))),
        Some(ended) = listeners.join_next() => return Err(ended_early(ended)),
        never = show_progress(&stage.journal, screen.bar()) => match never {},
    };
    let playing = started.elapsed();
    stage.settle().await;
    screen.end_progress();

    cue.send_replace(Cue::Stop);
    stop.send_replace(true);
    given_up.extend(agent.await.map_err(|death| DemoError::Died(death.to_string()))??);
    while let Some(ended) = listeners.join_next().await {
        ended.map_err(|death| DemoError::Died(death.to_string()))??;
    }
    for reason in given_up.iter().take(GIVEN_UP_SHOWN) {
        screen.event("gave up", reason);
    }
    stage.judge(director.interruptions, given_up, playing, screen).await
}

/// A subscription that ends while the conversations go on was refused.
fn ended_early(ended: Result<Result<(), SocketError>, JoinError>) -> DemoError {
    match ended {
        Ok(Ok(())) => DemoError::Died("it ended before it was told to".to_owned()),
        Ok(Err(refused)) => refused.into(),
        Err(death) => DemoError::Died(death.to_string()),
    }
}

async fn show_progress(journal: &Journal, bar: ProgressBar) -> Infallible {
    let mut acknowledgements = journal.acknowledgements();
    loop {
        let count = *acknowledgements.borrow_and_update();
        bar.set_position(u64::try_from(count).unwrap_or(u64::MAX));
        if acknowledgements.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn password() -> Result<String, DemoError> {
    let mut bytes = [0; 18];
    getrandom::fill(&mut bytes).map_err(DemoError::Randomness)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// What the play happens on, once the server is set up.
struct Stage {
    http: HttpClient,
    script: Rc<Script>,
    journal: Rc<Journal>,
    cast: Cast,
}

type Listeners = JoinSet<Result<(), SocketError>>;

impl Stage {
    /// Subscribes every user to their own mailbox.
    async fn open_inboxes(&self, server: &ServerProcess) -> Result<(Listeners, watch::Sender<bool>), DemoError> {
        let connected = stream::iter(self.script.users()).map(|user| async move {
            let mut query = LiveQuery::new(server.address(), self.cast.users[user.index()].clone(), user::SUBSCRIPTION);
            query.connect().await?;
            Ok::<(UserNumber, LiveQuery), SocketError>((user, query))
        });
        let connected: Vec<(UserNumber, LiveQuery)> = connected.buffered(CONNECTS_AT_ONCE).try_collect().await?;
        let stop = watch::Sender::new(false);
        let mut listeners = JoinSet::new();
        for (user, query) in connected {
            listeners.spawn_local(user::listen(user, query, self.journal.clone(), stop.subscribe()));
        }
        Ok((listeners, stop))
    }

    /// Subscribes the agent to all mailboxes.
    async fn open_feed(&self, server: &ServerProcess) -> Result<LiveQuery, DemoError> {
        let mut feed = LiveQuery::new(server.address(), self.cast.agent.clone(), agent::SUBSCRIPTION);
        feed.connect().await?;
        Ok(feed)
    }

    fn agent(&self) -> Agent {
        Agent::new(self.writer(&self.cast.agent), self.script.clone(), self.journal.clone())
    }

    fn writer(&self, token: &Token) -> Writer {
        Writer::new(self.http.clone(), token.clone(), self.script.clone(), self.journal.clone())
    }

    /// All users at once, while the director interrupts. Returns who gave up, and why.
    async fn hold_conversations(
        &self,
        director: &mut Director,
        server: &mut ServerProcess,
        screen: &Screen,
    ) -> Result<Vec<String>, DemoError> {
        let users = self.script.users().map(|user| {
            let writer = self.writer(&self.cast.users[user.index()]);
            User::new(user, writer, self.script.clone(), self.journal.clone()).play()
        });
        let mut conversations = pin!(join_all(users));
        let outcomes = tokio::select! {
            biased;
            interrupted = director.interrupt(server, screen) => {
                interrupted?;
                conversations.await
            }
            // Before the last interruption only if users gave up: the proof will say so.
            outcomes = &mut conversations => outcomes,
        };
        Ok(outcomes.into_iter().filter_map(Result::err).collect())
    }

    /// Waits for what is still on its way, then for a while in which nothing more should come.
    async fn settle(&self) {
        let settled = async {
            for user in self.script.users() {
                let expected = self.script.messages_of(user).count();
                let _ = self.journal.arrivals(user).wait_for(|count| *count >= expected).await;
            }
            let _ = self.journal.acknowledgements().wait_for(|count| *count >= self.script.len()).await;
            let questions = self.script.questions().count();
            let _ = self.journal.agent_arrivals().wait_for(|count| *count >= questions).await;
        };
        // What is missing after that is for the proof to tell.
        let _ = timeout(SETTLE_LIMIT, settled).await;
        sleep(QUIET).await;
    }

    /// Asks the last questions, and shows findings and figures.
    async fn judge(
        &self,
        interruptions: Interruptions,
        given_up: Vec<String>,
        playing: Duration,
        screen: &Screen,
    ) -> Result<(), DemoError> {
        let audit = Audit::new(self.http.clone(), self.script.clone());
        let stored = audit.stored(&self.cast).await?;
        let trespass = audit.trespass(&self.cast).await?;
        let Seen { acknowledged, inboxes, agent } = self.journal.take_seen();
        let record = Record { acknowledged, inboxes, agent, stored, trespass, interruptions, given_up };
        let findings = proof::check(&self.script, &record);
        screen.findings(&findings);
        self.journal.with_latencies(|latencies| {
            screen.figures(&Figures {
                messages: record.acknowledged.iter().filter(|acknowledged| **acknowledged).count(),
                playing,
                found_written: self.journal.found_written(),
                write: &latencies.write,
                receive: &latencies.receive,
            });
        });
        if findings.iter().all(|finding| finding.holds) {
            screen.line("\nAll of it holds.");
            Ok(())
        } else {
            Err(DemoError::NotTrue)
        }
    }
}
