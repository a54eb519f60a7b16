//! `k8sops chat`: a terminal client of the API, over the same WebSocket that any client uses.
//!
//! ```text
//! terminal (lines, Ctrl-C) ─▶ Chat ─▶ Client (REST) ─▶ service
//!                              │ ▲
//!                   commands   ▼ │  frames
//!                             Link (WebSocket, kept up) ◀─▶ service
//!                                │
//!                              View (frames ─▶ operations) ─▶ Screen
//! ```
//! [`View`] is pure and [`Screen`] only writes; this file joins them and decides when the user is asked.

mod client;
mod commands;
mod link;
mod render;
mod sessions;
mod terminal;
mod text;

#[cfg(test)]
mod tests;

use std::{io::Write, time::Duration};

use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};
use uuid::Uuid;

pub use client::{Client, ClientError};
pub use link::{Link, LinkEvent};
pub use render::{About, Op, Question, Tone, View};
pub use terminal::{Above, Ask, Input, Inputs, Look, Screen};

use commands::{Answer, Typed};

/// A cancel that has had no effect for this long: the next Ctrl-C leaves.
const PATIENCE: Duration = Duration::from_secs(5);

/// An answer to a question of yes or no that comes sooner was typed before the question could be read.
const READING: Duration = Duration::from_millis(300);

/// How to chat.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Where the service is.
    #[arg(long, env = crate::config::URL_VARIABLE, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// The key or token of its user; better in the variable, where other users of this machine do not see it.
    #[arg(long, env = crate::config::TOKEN_VARIABLE, hide_env_values = true)]
    token: Option<SecretString>,
    /// The session to go on with: an id, or the beginning of one.
    #[arg(long, conflicts_with = "resume")]
    session: Option<String>,
    /// Go on with the newest session instead of beginning one.
    #[arg(long = "continue", short = 'c')]
    resume: bool,
}

/// Chats until the user leaves.
///
/// # Errors
/// The service cannot be reached at the start, has no such session, or the terminal is closed.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let mut client = Client::new(&options.url)?;
    if let Some(token) = options.token {
        client = client.with_token(token);
    }
    let (inputs, above) = terminal::open_input();
    let typed = if above.is_some() { render::Typed::Yes } else { render::Typed::No };
    let screen = Screen::new(std::io::stdout(), Look::of_stdout(), above);
    let mut chat = Chat::new(client, inputs, screen, typed);
    chat.begin(options.session.as_deref(), options.resume).await?;
    let (interrupt, interrupts) = mpsc::channel(4);
    let watcher = tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if interrupt.send(()).await.is_err() {
                return;
            }
        }
    });
    let done = chat.run(interrupts).await;
    watcher.abort();
    match done {
        // Whoever read our output has gone; that is how a pipe ends.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// What the user was asked, while no answer has come.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    /// For a message or a command.
    Line,
    /// Whether a call may run.
    Approval(String),
    /// For the arguments that a call shall run with.
    Arguments(String),
    /// Whether a session shall be deleted.
    Delete(String),
}

/// The session that is open.
struct Current {
    id: String,
    link: Link,
    view: View,
    /// Whether the loss of the connection was told.
    lost: bool,
}

/// Whether the chat goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    Leave,
}

/// A chat: one terminal, one service, one session at a time.
pub struct Chat<W> {
    client: Client,
    inputs: Inputs,
    screen: Screen<W>,
    /// Whether the terminal shows what the user types.
    typed: render::Typed,
    current: Option<Current>,
    asked: Option<Asked>,
    /// When.
    asked_at: Instant,
    /// See [`READING`].
    reading: Duration,
    /// What the next question is, if not the usual one.
    ask_next: Option<(Asked, Ask)>,
    /// The ids of the newest `/sessions`.
    listed: Vec<String>,
    /// The model for the session that the next message begins.
    model: Option<(String, String)>,
    /// The input has ended: leave when there is nothing more to wait for.
    ended: bool,
    /// One more Ctrl-C leaves.
    leaving: bool,
    cancelled: Option<Instant>,
}

impl<W: Write> Chat<W> {
    /// A chat with no session yet: the first message begins one.
    #[must_use]
    pub fn new(client: Client, inputs: Inputs, screen: Screen<W>, typed: render::Typed) -> Self {
        Self {
            client,
            inputs,
            screen,
            typed,
            current: None,
            asked: None,
            asked_at: Instant::now(),
            // Nobody reads at the end of a pipe.
            reading: if typed == render::Typed::Yes { READING } else { Duration::ZERO },
            ask_next: None,
            listed: Vec::new(),
            model: None,
            ended: false,
            leaving: false,
            cancelled: None,
        }
    }

    /// Greets, and opens the session that was asked for.
    ///
    /// # Errors
    /// The service cannot be reached, or has no such session.
    pub async fn begin(&mut self, session: Option<&str>, resume: bool) -> anyhow::Result<()> {
        let providers = self.client.providers().await?;
        let default = |key: &str| text::clean(providers[key].as_str().unwrap_or("?"));
        let model = format!("{}/{}", default("default_provider"), default("default_model"));
        self.note(format!("{} · {model} · /help for help", self.client.address()))?;
        let id = match session {
            Some(which) => Some(self.find(which).await?),
            None if resume => {
                self.client.sessions().await?.first().and_then(|s| s["session_id"].as_str()).map(str::to_owned)
            }
            None => None,
        };
        if let Some(id) = id {
            self.open(id, None);
        }
        Ok(())
    }

    /// Chats until the user leaves. `interrupts` are Ctrl-C while no prompt stands.
    ///
    /// # Errors
    /// The output is closed.
    pub async fn run(&mut self, mut interrupts: mpsc::Receiver<()>) -> std::io::Result<()> {
        enum Woken {
            Input(Input),
            Link(Option<LinkEvent>),
            Interrupt,
            Tick,
        }
        let mut ticks = interval(Duration::from_millis(100));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            self.ask()?;
            if self.ended && self.asked.is_none() && !self.waiting() {
                break;
            }
            let woken = {
                let (current, inputs, asked) = (&mut self.current, &mut self.inputs, self.asked.is_some());
                let spinning = self.screen.wants_ticks();
                tokio::select! {
                    input = inputs.next(), if asked => Woken::Input(input),
                    event = next_event(current) => Woken::Link(event),
                    Some(()) = interrupts.recv() => Woken::Interrupt,
                    _ = ticks.tick(), if spinning => Woken::Tick,
                }
            };
            let next = match woken {
                Woken::Input(input) => self.input(input).await?,
                Woken::Link(event) => {
                    self.event(event)?;
                    Next::GoOn
                }
                Woken::Interrupt => self.interrupt().await?,
                Woken::Tick => {
                    self.screen.tick()?;
                    Next::GoOn
                }
            };
            if next == Next::Leave {
                break;
            }
        }
        self.screen.prompt_begins()
    }

    /// Whether the user's turn comes only when something else has happened.
    fn waiting(&self) -> bool {
        let Some(current) = &self.current else { return false };
        if self.ended && current.view.approval().is_some() {
            // Nobody is here to answer it.
            return false;
        }
        // While the service is away nothing is known to go on, and the user may want to leave or go elsewhere.
        current.view.in_run() || (current.view.busy() && !current.lost)
    }

    /// Asks the user, if it is their turn and nothing is asked yet.
    fn ask(&mut self) -> std::io::Result<()> {
        if self.asked.is_some() || self.ended {
            return Ok(());
        }
        let approval = self.current.as_ref().and_then(|current| current.view.approval());
        // Who has just cancelled is not asked about what is being cancelled.
        let approval = approval.filter(|_| self.cancelled.is_none());
        let (asked, ask) = if let Some(next) = self.ask_next.take() {
            next
        } else if let Some(approval) = approval {
            let prompt = match approval.about {
                About::Running => {
                    format!("{}: run it? [y]es, [n]o, [e]dit, with a comment if you like: ", approval.name)
                }
                About::Input => format!("{}: [y]es, [n]o, [e]dit the answer: ", approval.name),
            };
            (Asked::Approval(approval.id.clone()), Ask { prompt, initial: String::new() })
        } else if self.waiting() {
            return Ok(());
        } else {
            (Asked::Line, Ask { prompt: "> ".to_owned(), initial: String::new() })
        };
        self.screen.prompt_begins()?;
        self.asked = Some(asked);
        self.asked_at = Instant::now();
        self.inputs.ask(ask);
        Ok(())
    }

    async fn input(&mut self, input: Input) -> std::io::Result<Next> {
        self.screen.prompt_ends()?;
        let asked = self.asked.take().unwrap_or(Asked::Line);
        let line = match input {
            Input::Line(line) => line,
            // The question comes again.
            Input::Unreadable => {
                self.show(Tone::Bad, "that line is not UTF-8 and was skipped")?;
                return Ok(Next::GoOn);
            }
            Input::Interrupt if asked == Asked::Line => return self.leave_or_warn(),
            // The question comes again.
            Input::Interrupt if matches!(asked, Asked::Arguments(_)) => return Ok(Next::GoOn),
            Input::Interrupt if matches!(asked, Asked::Delete(_)) => {
                self.note("not deleted")?;
                return Ok(Next::GoOn);
            }
            Input::Interrupt => return self.interrupt().await,
            Input::End => {
                self.ended = true;
                if let Some(approval) = self.current.as_ref().and_then(|c| c.view.approval()) {
                    let line = format!("{} was not answered; the question stays open in the session", approval.name);
                    self.note(line)?;
                    return Ok(Next::Leave);
                }
                return Ok(Next::GoOn);
            }
        };
        self.leaving = false;
        let weighty = matches!(asked, Asked::Approval(_) | Asked::Delete(_)) && !line.starts_with('/');
        if weighty && self.asked_at.elapsed() < self.reading {
            self.note("that was typed before the question could be read")?;
            return Ok(Next::GoOn);
        }
        match asked {
            Asked::Line => self.line(&line).await,
            Asked::Approval(id) => self.answer(&id, &line).await,
            Asked::Arguments(id) => self.arguments(&id, &line).await,
            Asked::Delete(id) => {
                match commands::answer(&line) {
                    Answer::Approve(_) => self.delete(&id).await?,
                    _ => self.note("not deleted")?,
                }
                Ok(Next::GoOn)
            }
        }
    }

    async fn line(&mut self, line: &str) -> std::io::Result<Next> {
        match commands::read(line) {
            Typed::Nothing => {}
            Typed::Message(content) => self.message(content).await?,
            Typed::Sessions => self.list().await?,
            Typed::Switch(which) => self.switch(&which).await?,
            Typed::New(title) => self.begin_new(title).await?,
            Typed::Model(model) => self.choose_model(model).await?,
            Typed::Title(title) => self.rename(&title).await?,
            Typed::Delete => self.ask_delete().await?,
            Typed::Help => self.show(Tone::Plain, commands::HELP)?,
            Typed::Quit => return Ok(Next::Leave),
            Typed::Wrong(why) => self.show(Tone::Bad, why)?,
        }
        Ok(Next::GoOn)
    }

    async fn message(&mut self, content: String) -> std::io::Result<()> {
        if self.current.is_none() {
            // Only now: looking around must not use up the user's sessions.
            match self.client.create(None, self.model.as_ref()).await {
                Ok(id) => self.open(id, Some(0)),
                Err(error) => return self.show(Tone::Bad, error.to_string()),
            }
        }
        let Some(current) = &mut self.current else { return Ok(()) };
        let command_id = Uuid::now_v7().to_string();
        current.view.sent(&command_id, self.typed);
        self.cancelled = None;
        current.link.send(json!({"type": "message", "command_id": command_id, "content": content})).await;
        Ok(())
    }

    async fn answer(&mut self, id: &str, line: &str) -> std::io::Result<Next> {
        if line.starts_with('/') {
            return self.line(line).await;
        }
        let Some(approval) = self.pending(id) else {
            self.note("that was answered elsewhere, or is over")?;
            return Ok(Next::GoOn);
        };
        let answer = match (commands::answer(line), self.typed) {
            // A message in a pipe that begins with "yes" was not meant for this question.
            (Answer::Approve(Some(_)) | Answer::Deny(Some(_)) | Answer::Edit, render::Typed::No) => Answer::Unclear,
            (answer, _) => answer,
        };
        let (agreed, comment) = match answer {
            Answer::Approve(comment) => (true, comment),
            Answer::Deny(comment) => (false, comment),
            Answer::Edit => {
                let prompt = match approval.about {
                    About::Running => "arguments: ",
                    About::Input => "answer: ",
                };
                let ask = Ask { prompt: prompt.to_owned(), initial: approval.arguments.to_string() };
                self.ask_next = Some((Asked::Arguments(id.to_owned()), ask));
                return Ok(Next::GoOn);
            }
            Answer::Unclear => {
                self.show(Tone::Bad, "y, n or e; a comment goes after it: n not in production")?;
                return Ok(Next::GoOn);
            }
        };
        let command = match (approval.about, agreed) {
            (About::Running, true) => json!({"type": "approve", "approval_id": id, "comment": comment}),
            (About::Running, false) => json!({"type": "deny", "approval_id": id, "comment": comment}),
            (About::Input, true) => json!({"type": "answer", "input_id": id, "action": "accept", "content": {}}),
            (About::Input, false) => json!({"type": "answer", "input_id": id, "action": "decline"}),
        };
        self.resolve(id, command).await;
        Ok(Next::GoOn)
    }

    async fn arguments(&mut self, id: &str, line: &str) -> std::io::Result<Next> {
        let Some(question) = self.pending(id) else {
            self.note("that was answered elsewhere, or is over")?;
            return Ok(Next::GoOn);
        };
        match serde_json::from_str::<Value>(line) {
            Ok(arguments @ Value::Object(_)) => {
                let command = match question.about {
                    About::Running => json!({"type": "approve", "approval_id": id, "arguments": arguments}),
                    About::Input => {
                        json!({"type": "answer", "input_id": id, "action": "accept", "content": arguments})
                    }
                };
                self.resolve(id, command).await;
            }
            // The question of before comes again.
            Ok(_) => self.show(Tone::Bad, "the arguments must be a JSON object; nothing was approved")?,
            Err(error) => self.show(Tone::Bad, format!("that is not JSON ({error}); nothing was approved"))?,
        }
        Ok(Next::GoOn)
    }

    fn pending(&self, id: &str) -> Option<Question> {
        self.current.as_ref().and_then(|current| current.view.pending(id)).cloned()
    }

    async fn resolve(&mut self, id: &str, mut command: Value) {
        let Some(current) = &mut self.current else { return };
        let command_id = Uuid::now_v7().to_string();
        command["command_id"] = json!(command_id);
        current.view.answered(id, &command_id);
        current.link.send(command).await;
    }

    /// Ctrl-C with nothing to cancel: the first time it says what the second will do.
    fn leave_or_warn(&mut self) -> std::io::Result<Next> {
        if std::mem::replace(&mut self.leaving, true) {
            return Ok(Next::Leave);
        }
        self.note("Ctrl-C again, Ctrl-D or /quit to leave")?;
        Ok(Next::GoOn)
    }

    /// Ctrl-C while no prompt stands, or at the question for an approval: cancels the run and not the program.
    async fn interrupt(&mut self) -> std::io::Result<Next> {
        let asked = self.asked.is_some();
        let Some(current) = self.current.as_mut().filter(|current| current.view.in_run()) else {
            // Without a question it is the connection that is waited for, and that may be for ever.
            return if asked { self.leave_or_warn() } else { Ok(Next::Leave) };
        };
        match self.cancelled {
            Some(since) if current.lost || since.elapsed() > PATIENCE => return Ok(Next::Leave),
            Some(_) => {}
            None => {
                self.cancelled = Some(Instant::now());
                let command_id = Uuid::now_v7().to_string();
                current.link.send(json!({"type": "cancel", "command_id": command_id})).await;
                let line = if current.lost {
                    "will cancel when the service is back; Ctrl-C again to leave"
                } else {
                    "cancelling…"
                };
                self.note(line)?;
            }
        }
        Ok(Next::GoOn)
    }

    fn event(&mut self, event: Option<LinkEvent>) -> std::io::Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        match event {
            Some(LinkEvent::Frame(frame)) => {
                let mut ops = Vec::new();
                if frame["type"] == "hello" && std::mem::take(&mut current.lost) {
                    ops.push(Op::Line(Tone::Note, "connected again".to_owned()));
                }
                ops.extend(current.view.frame(&frame));
                // What was cancelled is over, or something was refused, which may have been the cancel.
                let kind = frame["type"].as_str().unwrap_or_default();
                if !current.view.in_run() || matches!(kind, "run_started" | "run_finished" | "run_failed" | "error") {
                    self.cancelled = None;
                }
                self.screen.show(ops)
            }
            Some(LinkEvent::Lost { why, .. }) => {
                let mut ops = current.view.lost();
                if !std::mem::replace(&mut current.lost, true) {
                    ops.push(Op::Line(Tone::Bad, format!("connection lost ({}), trying again…", text::clean(&why))));
                }
                self.screen.show(ops)
            }
            Some(LinkEvent::Gone(why)) => {
                self.current = None;
                self.cancelled = None;
                self.screen.show([
                    Op::Activity(None),
                    Op::Line(Tone::Bad, format!("this session is over: {}", text::clean(&why))),
                    Op::Line(Tone::Note, "the next message begins a new one".to_owned()),
                ])
            }
            None => {
                self.current = None;
                Ok(())
            }
        }
    }

    /// Opens a session; without `after` it begins with what was said before.
    fn open(&mut self, id: String, after: Option<u64>) {
        let link = Link::open(self.client.clone(), id.clone(), after);
        self.current = Some(Current { id, link, view: View::default(), lost: false });
        self.cancelled = None;
    }

    fn show(&mut self, tone: Tone, line: impl Into<String>) -> std::io::Result<()> {
        self.screen.show([Op::Line(tone, line.into())])
    }

    fn note(&mut self, line: impl Into<String>) -> std::io::Result<()> {
        self.show(Tone::Note, line)
    }
}

/// The next report of the open session; never comes when none is open.
async fn next_event(current: &mut Option<Current>) -> Option<LinkEvent> {
    match current {
        Some(current) => current.link.next().await,
        None => std::future::pending().await,
    }
}
