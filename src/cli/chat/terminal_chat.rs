//! The chat loop: one terminal, one service, one open session at a time.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};

use super::line_source::{LinePrompt, LineSource, TerminalInput};
use crate::cli::{
    question::QuestionInput,
    service::{ApiClient, ConnectionEvent, ModelSelection, SessionConnection},
    terminal::{InputSource, LineStyle, ScreenUpdate, TerminalScreen, sanitize_text},
    transcript::{QuestionSubject, TranscriptView},
};

/// An answer to a yes-or-no question that arrives sooner was typed before the user could read the question.
const MIN_READING_TIME: Duration = Duration::from_millis(300);
/// Time between two frames of the spinner.
const SPINNER_INTERVAL: Duration = Duration::from_millis(100);

/// The session that is open after the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum InitialSession {
    /// None: the first message creates a session.
    New,
    /// The newest session, if there is one.
    Newest,
    /// The session with this id, or with an id that starts or ends with it.
    Given(String),
}

/// What the open prompt asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OpenPrompt {
    /// A message or a command.
    Message,
    /// An answer to the question with this id.
    Question(String),
    /// The edited arguments for the question with this id.
    Arguments(String),
    /// A confirmation to delete the session with this id.
    DeleteSession(String),
}

/// The session that is open.
pub(super) struct OpenSession {
    pub(super) id: String,
    pub(super) connection: SessionConnection,
    pub(super) view: TranscriptView,
    /// Whether the user was told that the connection is lost.
    pub(super) lost: bool,
}

/// A message that was sent here.
pub(super) struct SentMessage {
    pub(super) content: String,
    pub(super) attachments: Vec<QuestionInput>,
}

/// Whether the chat loop continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoopControl {
    Continue,
    Exit,
}

/// A chat in a terminal.
pub(super) struct TerminalChat<W> {
    pub(super) client: ApiClient,
    lines: LineSource,
    pub(super) screen: TerminalScreen<W>,
    pub(super) source: InputSource,
    pub(super) session: Option<OpenSession>,
    pub(super) prompt: Option<OpenPrompt>,
    pub(super) prompted_at: Instant,
    /// See [`MIN_READING_TIME`].
    pub(super) min_reading_time: Duration,
    /// The next prompt, if it is not the usual one.
    pub(super) next_prompt: Option<(OpenPrompt, LinePrompt)>,
    /// The session ids of the last `/sessions`.
    pub(super) listed_sessions: Vec<String>,
    /// The model of the session that the next message creates.
    pub(super) next_model: Option<ModelSelection>,
    /// Files that go with the next message.
    pub(super) attachments: Vec<QuestionInput>,
    /// The newest message that was sent here.
    pub(super) last_sent: Option<SentMessage>,
    /// The input has ended: the chat ends when the current run does.
    pub(super) input_ended: bool,
    /// Whether an editor and a pager may use the terminal.
    pub(super) uses_programs: bool,
    /// Whether the user may answer a request for approval, as far as the service was asked.
    pub(super) answerable: BTreeMap<String, bool>,
    /// The next Ctrl-C leaves the chat.
    pub(super) exit_armed: bool,
    pub(super) cancel_sent_at: Option<Instant>,
}

impl<W: Write> TerminalChat<W> {
    /// Creates a chat without a session; the first message creates one.
    #[must_use]
    pub(super) fn new(client: ApiClient, lines: LineSource, screen: TerminalScreen<W>, source: InputSource) -> Self {
        let min_reading_time = match source {
            InputSource::Terminal => MIN_READING_TIME,
            InputSource::Pipe => Duration::ZERO,
        };
        Self {
            client,
            lines,
            screen,
            source,
            session: None,
            prompt: None,
            prompted_at: Instant::now(),
            min_reading_time,
            next_prompt: None,
            listed_sessions: Vec::new(),
            next_model: None,
            attachments: Vec::new(),
            last_sent: None,
            input_ended: false,
            uses_programs: false,
            answerable: BTreeMap::new(),
            exit_armed: false,
            cancel_sent_at: None,
        }
    }

    /// Returns the chat with an editor and a pager, for a terminal that is one.
    #[must_use]
    pub(super) fn with_programs(self) -> Self {
        Self { uses_programs: true, ..self }
    }

    /// Shows the greeting and opens the requested session.
    ///
    /// # Errors
    /// The service cannot be reached, or the session does not exist.
    pub(super) async fn start(&mut self, session: InitialSession) -> anyhow::Result<()> {
        let providers = self.client.list_providers().await?;
        let default = |key: &str| sanitize_text(providers[key].as_str().unwrap_or("?"));
        let model = format!("{}/{}", default("default_provider"), default("default_model"));
        self.show_note(format!("{} · {model} · /help for help", self.client.address()))?;
        let id = match session {
            InitialSession::Given(given) => Some(self.find_session(&given).await?),
            InitialSession::Newest => {
                let sessions = self.client.list_sessions().await?;
                sessions.first().and_then(|newest| newest["session_id"].as_str()).map(str::to_owned)
            }
            InitialSession::New => None,
        };
        if let Some(id) = id {
            self.open_session(id, None);
        }
        Ok(())
    }

    /// Runs until the user leaves. `interrupts` receives Ctrl-C while no prompt is open.
    ///
    /// # Errors
    /// The output is closed.
    pub(super) async fn run(&mut self, mut interrupts: mpsc::Receiver<()>) -> io::Result<()> {
        enum WakeReason {
            Input(TerminalInput),
            Connection(Option<ConnectionEvent>),
            Interrupt,
            Tick,
        }
        let mut ticks = interval(SPINNER_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            self.check_next_question().await?;
            self.prompt_user()?;
            if self.input_ended && self.prompt.is_none() && !self.is_waiting_for_service() {
                break;
            }
            let wakeup = {
                let session = &mut self.session;
                let lines = &mut self.lines;
                let prompted = self.prompt.is_some();
                let spinning = self.screen.needs_ticks();
                tokio::select! {
                    input = lines.next_input(), if prompted => WakeReason::Input(input),
                    event = next_connection_event(session) => WakeReason::Connection(event),
                    Some(()) = interrupts.recv() => WakeReason::Interrupt,
                    _ = ticks.tick(), if spinning => WakeReason::Tick,
                }
            };
            let control = match wakeup {
                WakeReason::Input(input) => self.handle_input(input).await?,
                WakeReason::Connection(event) => {
                    self.handle_connection_event(event)?;
                    LoopControl::Continue
                }
                WakeReason::Interrupt => self.handle_interrupt().await?,
                WakeReason::Tick => {
                    self.screen.advance_spinner()?;
                    LoopControl::Continue
                }
            };
            if control == LoopControl::Exit {
                break;
            }
        }
        self.screen.begin_prompt()
    }

    /// Returns whether the user must wait for the service before the next prompt.
    fn is_waiting_for_service(&self) -> bool {
        let Some(session) = &self.session else { return false };
        if self.input_ended && session.view.next_question(&self.answerable).is_some() {
            // The input has ended, so no answer can come.
            return false;
        }
        // While the connection is lost, the user may want to leave or switch; only a known run keeps them waiting.
        session.view.is_in_run() || (session.view.is_busy() && !session.lost)
    }

    /// Asks the service whether the user may answer the next request for approval: who may not is not asked.
    async fn check_next_question(&mut self) -> io::Result<()> {
        let next = self.session.as_ref().and_then(|session| session.view.next_question(&self.answerable));
        let Some(question) = next.filter(|question| question.subject == QuestionSubject::ToolCall) else {
            return Ok(());
        };
        let id = question.id.clone();
        if self.answerable.contains_key(&id) {
            return Ok(());
        }
        let may_answer = match self.client.list_approvals().await {
            Ok(approvals) => approvals.iter().any(|approval| approval["approval_id"] == id.as_str()),
            // The service decides when the answer arrives.
            Err(_) => true,
        };
        self.answerable.insert(id, may_answer);
        if !may_answer {
            self.show_note("another person must decide this; Ctrl-C cancels the run")?;
        }
        Ok(())
    }

    /// Opens a prompt, if it is the user's turn and no prompt is open.
    fn prompt_user(&mut self) -> io::Result<()> {
        if self.prompt.is_some() || self.input_ended {
            return Ok(());
        }
        let question = self.session.as_ref().and_then(|session| session.view.next_question(&self.answerable));
        // After a cancel, the user is not asked about the calls that are being cancelled.
        let question = question.filter(|_| self.cancel_sent_at.is_none());
        let (prompt, line_prompt) = if let Some(next) = self.next_prompt.take() {
            next
        } else if let Some(question) = question {
            let text = match question.subject {
                QuestionSubject::ToolCall => {
                    format!("{}: run it? [y]es, [n]o, [e]dit (y or n may have a comment): ", question.name)
                }
                QuestionSubject::ServerInput => format!("{}: [y]es, [n]o, [e]dit the answer: ", question.name),
            };
            (OpenPrompt::Question(question.id.clone()), LinePrompt::answer(text, String::new()))
        } else if self.is_waiting_for_service() {
            return Ok(());
        } else {
            (OpenPrompt::Message, LinePrompt::message())
        };
        self.screen.begin_prompt()?;
        self.prompt = Some(prompt);
        self.prompted_at = Instant::now();
        self.lines.request_line(line_prompt);
        Ok(())
    }

    /// Opens a session. Without `after` its earlier messages are shown first.
    pub(super) fn open_session(&mut self, id: String, after: Option<u64>) {
        let connection = SessionConnection::open(self.client.clone(), id.clone(), after);
        self.session = Some(OpenSession { id, connection, view: TranscriptView::default(), lost: false });
        self.cancel_sent_at = None;
    }

    pub(super) fn show_line(&mut self, style: LineStyle, line: impl Into<String>) -> io::Result<()> {
        self.screen.apply_updates([ScreenUpdate::Line(style, line.into())])
    }

    pub(super) fn show_note(&mut self, line: impl Into<String>) -> io::Result<()> {
        self.show_line(LineStyle::Note, line)
    }
}

/// Waits for the next event of the open session; never resolves if no session is open.
async fn next_connection_event(session: &mut Option<OpenSession>) -> Option<ConnectionEvent> {
    match session {
        Some(session) => session.connection.next_event().await,
        None => std::future::pending().await,
    }
}
