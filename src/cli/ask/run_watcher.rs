//! Follows the run of a question to its end.

use std::{io, time::Duration};

use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};
use uuid::Uuid;

use super::{outcome::AskOutcome, output::AskOutput};
use crate::cli::{
    question::ComposedQuestion,
    service::{ConnectionEvent, SessionConnection},
    terminal::{InputSource, LineStyle, sanitize_text},
    transcript::TranscriptView,
};

/// Time between two frames of the spinner.
const SPINNER_INTERVAL: Duration = Duration::from_millis(100);
/// After a question to a person, other calls of the same reply may ask, too.
const SETTLE_TIME: Duration = Duration::from_millis(300);
/// How long a cancel may take to end the run.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the service may be away before the question is given up.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(120);

/// The beginning of what stands for the value of a secret in arguments.
const SECRET_PLACEHOLDER: &str = "[secret:";

/// Whether calls that only read are approved without a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadApprovals {
    Given,
    Asked,
}

/// Follows a run.
pub(super) struct RunWatcher<'a> {
    connection: &'a mut SessionConnection,
    output: &'a mut AskOutput,
    read_approvals: ReadApprovals,
    view: TranscriptView,
    /// The command that brought the question.
    command_id: String,
    /// The run of the question, once it has begun.
    run_id: Option<String>,
    answer: String,
    ended: Option<AskOutcome>,
    waits_since: Option<Instant>,
    cancelled_at: Option<Instant>,
    lost_since: Option<Instant>,
}

impl<'a> RunWatcher<'a> {
    pub(super) fn new(
        connection: &'a mut SessionConnection,
        output: &'a mut AskOutput,
        read_approvals: ReadApprovals,
    ) -> Self {
        Self {
            connection,
            output,
            read_approvals,
            view: TranscriptView::default(),
            command_id: Uuid::now_v7().to_string(),
            run_id: None,
            answer: String::new(),
            ended: None,
            waits_since: None,
            cancelled_at: None,
            lost_since: None,
        }
    }

    /// Sends the question and follows its run. `interrupts` receives Ctrl-C.
    ///
    /// # Errors
    /// An output is closed. The run is cancelled then.
    pub(super) async fn ask(
        mut self,
        question: &ComposedQuestion,
        interrupts: &mut mpsc::Receiver<()>,
    ) -> io::Result<AskOutcome> {
        // The user knows the question, so it is not shown again.
        self.view.record_sent_message(&self.command_id, InputSource::Terminal);
        let mut command = json!({"type": "message", "command_id": self.command_id, "content": question.text});
        if !question.attachments.is_empty() {
            command["attachments"] = json!(question.attachments);
        }
        self.connection.send_command(command).await;
        let followed = self.follow(interrupts).await;
        if followed.is_err() {
            self.cancel().await;
            self.wait_for_end().await;
        }
        followed
    }

    async fn follow(&mut self, interrupts: &mut mpsc::Receiver<()>) -> io::Result<AskOutcome> {
        let mut ticks = interval(SPINNER_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                biased;
                event = self.connection.next_event() => {
                    let Some(event) = event else { return Ok(AskOutcome::Failed) };
                    self.handle_event(event).await?;
                }
                Some(()) = interrupts.recv() => {
                    if self.cancelled_at.is_some() {
                        return Ok(AskOutcome::Cancelled);
                    }
                    self.output.show_line(LineStyle::Note, "cancelling… (Ctrl-C again leaves at once)")?;
                    self.cancel().await;
                }
                _ = ticks.tick() => {
                    if self.output.needs_ticks() {
                        self.output.advance_spinner()?;
                    }
                    if let Some(outcome) = self.outcome_by_time() {
                        if self.is_service_gone() {
                            let seconds = RECONNECT_TIMEOUT.as_secs();
                            self.output.show_line(
                                LineStyle::Failure,
                                format!("the service did not come back within {seconds} s; the run may still be in progress there"),
                            )?;
                        }
                        self.output.finish()?;
                        return Ok(outcome);
                    }
                }
            }
            if let Some(outcome) = self.ended {
                self.output.finish()?;
                self.output.write_answer(&self.answer)?;
                return Ok(outcome);
            }
        }
    }

    fn outcome_by_time(&self) -> Option<AskOutcome> {
        let has_passed = |since: Option<Instant>, limit| since.is_some_and(|since: Instant| since.elapsed() > limit);
        if has_passed(self.cancelled_at, CANCEL_TIMEOUT) {
            return Some(AskOutcome::Cancelled);
        }
        if self.is_service_gone() {
            return Some(AskOutcome::Failed);
        }
        has_passed(self.waits_since, SETTLE_TIME).then_some(AskOutcome::Waiting)
    }

    fn is_service_gone(&self) -> bool {
        self.lost_since.is_some_and(|since| since.elapsed() > RECONNECT_TIMEOUT)
    }

    async fn handle_event(&mut self, event: ConnectionEvent) -> io::Result<()> {
        match event {
            ConnectionEvent::Frame(frame) => {
                if self.lost_since.take().is_some() && frame["type"] == "hello" {
                    self.output.show_line(LineStyle::Note, "reconnected")?;
                }
                self.handle_frame(&frame).await
            }
            ConnectionEvent::Lost(error) => {
                let updates = self.view.mark_connection_lost();
                if self.lost_since.is_none() {
                    self.lost_since = Some(Instant::now());
                    let reason = sanitize_text(&error.to_string());
                    self.output.show_line(LineStyle::Failure, format!("connection lost ({reason}), reconnecting…"))?;
                }
                self.output.show_updates(updates)
            }
            ConnectionEvent::Ended(error) => {
                self.ended = Some(AskOutcome::Failed);
                self.output
                    .show_line(LineStyle::Failure, format!("session ended: {}", sanitize_text(&error.to_string())))
            }
        }
    }

    async fn handle_frame(&mut self, frame: &Value) -> io::Result<()> {
        let frame_type = frame["type"].as_str().unwrap_or_default();
        if frame_type == "user_message" && frame["command_id"] == self.command_id {
            self.run_id = frame["run_id"].as_str().map(str::to_owned);
        }
        let is_logged = frame["seq"].is_u64() && frame_type != "ack";
        let is_of_run = frame["run_id"].as_str().is_some_and(|run| Some(run) == self.run_id.as_deref());
        // A run that was in progress before is not what was asked for.
        let is_of_other_run = frame["run_id"].is_string() && !is_of_run;
        if (is_logged && is_of_run) || frame_type == "error" {
            self.output.write_event(frame)?;
        }
        let updates = self.view.apply_frame(frame);
        if is_of_other_run {
            return Ok(());
        }
        if frame_type == "approval_requested" && self.approve_read(frame).await {
            return Ok(());
        }
        self.output.show_updates(updates)?;
        self.note_progress(frame_type, frame)
    }

    fn note_progress(&mut self, frame_type: &str, frame: &Value) -> io::Result<()> {
        let code = frame["code"].as_str().unwrap_or_default();
        match frame_type {
            "error" if frame["command_id"] == self.command_id => self.ended = Some(AskOutcome::of_rejection(code)),
            "assistant_message" => {
                let text = sanitize_text(frame["content"].as_str().unwrap_or_default());
                if frame["tool_calls"].as_array().is_none_or(Vec::is_empty) {
                    self.answer = text;
                } else {
                    self.output.show_interim_text(&text)?;
                }
            }
            // An error is the answer to `approve_read`: a person must decide.
            "approval_requested" | "input_requested" | "error" => self.waits_since = Some(Instant::now()),
            "approval_resolved" | "input_resolved" => self.waits_since = None,
            "run_finished" => {
                self.ended = Some(match frame["outcome"].as_str() {
                    Some("limit") => AskOutcome::LimitReached,
                    Some("cancelled") if self.cancelled_at.is_some() => AskOutcome::Cancelled,
                    Some("cancelled") => AskOutcome::Failed,
                    _ => AskOutcome::Answered,
                });
            }
            "run_failed" => self.ended = Some(AskOutcome::of_failed_run(code)),
            "warning" if code == "message_lost" || code == "session_deleted" => self.ended = Some(AskOutcome::Failed),
            _ => {}
        }
        Ok(())
    }

    /// Approves a call that only reads, if the user has said so.
    async fn approve_read(&mut self, frame: &Value) -> bool {
        // A call that sends the value of a secret to a tool does more than read.
        let sends_secret = frame["arguments"].to_string().contains(SECRET_PLACEHOLDER);
        if self.read_approvals == ReadApprovals::Asked || frame["effect"] != "read" || sends_secret {
            return false;
        }
        let command_id = Uuid::now_v7().to_string();
        let command = json!({"type": "approve", "command_id": command_id, "approval_id": frame["approval_id"]});
        self.connection.send_command(command).await;
        true
    }

    async fn cancel(&mut self) {
        self.cancelled_at = Some(Instant::now());
        let command_id = Uuid::now_v7().to_string();
        self.connection.send_command(json!({"type": "cancel", "command_id": command_id})).await;
    }

    /// Waits until the cancelled run has ended, without any output.
    async fn wait_for_end(&mut self) {
        let end = async {
            while let Some(event) = self.connection.next_event().await {
                let ConnectionEvent::Frame(frame) = event else { continue };
                if matches!(frame["type"].as_str(), Some("run_finished" | "run_failed")) {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(CANCEL_TIMEOUT, end).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, sync::Arc};

    use parking_lot::Mutex;

    use super::*;
    use crate::cli::{
        question::{QuestionLimits, compose_question},
        service::ApiClient,
    };

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The clock is paused: it advances to the next timer whenever nothing else can happen.
    #[tokio::test(start_paused = true)]
    async fn question_is_given_up_if_the_service_does_not_come_back() {
        let began = Instant::now();
        // Nothing listens on the port of a listener that is gone.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let client = ApiClient::new(&format!("http://127.0.0.1:{port}")).unwrap();
        let mut connection = SessionConnection::open(client, "s".to_owned(), Some(0));
        let written = Written::default();
        let mut output = AskOutput::captured(written.clone());
        let question = compose_question("why?", Vec::new(), QuestionLimits::NONE).unwrap();
        let (_interrupt, mut interrupts) = mpsc::channel(1);
        let watcher = RunWatcher::new(&mut connection, &mut output, ReadApprovals::Asked);
        let outcome = watcher.ask(&question, &mut interrupts).await.unwrap();
        let shown = String::from_utf8(written.0.lock().clone()).unwrap();
        assert_eq!(outcome, AskOutcome::Failed, "{shown}");
        assert!(began.elapsed() > RECONNECT_TIMEOUT);
        let (first, last) = shown.trim_end().split_once('\n').unwrap();
        assert!(first.contains("connection lost (") && first.ends_with("), reconnecting…"), "{shown}");
        assert!(
            last.contains("the service did not come back within 120 s; the run may still be in progress"),
            "{shown}"
        );
    }
}
