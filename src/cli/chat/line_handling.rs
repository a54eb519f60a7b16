//! What the chat does with the user's lines and with Ctrl-C.

use std::{
    io::{self, Write},
    time::Duration,
};

use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    line_source::TerminalInput,
    terminal_chat::{LoopControl, OpenPrompt, TerminalChat},
    user_input::{HELP_TEXT, TypedAnswer, UserInput, parse_approval_answer, parse_user_input},
};
use crate::cli::terminal::LineStyle;

/// If a cancel request has no effect for this long, the next Ctrl-C leaves the chat.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

impl<W: Write> TerminalChat<W> {
    /// Handles what the user did at the open prompt. A prompt that remains unanswered is opened again by the loop.
    pub(super) async fn handle_input(&mut self, input: TerminalInput) -> io::Result<LoopControl> {
        self.screen.end_prompt()?;
        let prompt = self.prompt.take().unwrap_or(OpenPrompt::Message);
        let line = match input {
            TerminalInput::Line(line) => line,
            TerminalInput::InvalidUtf8 => {
                self.show_line(LineStyle::Failure, "skipped a line that is not valid UTF-8")?;
                return Ok(LoopControl::Continue);
            }
            TerminalInput::Interrupt => return self.handle_prompt_interrupt(&prompt).await,
            TerminalInput::End => return self.handle_input_end(),
        };
        self.exit_armed = false;
        let needs_reading =
            matches!(prompt, OpenPrompt::Question(_) | OpenPrompt::DeleteSession(_)) && !line.starts_with('/');
        if needs_reading && self.prompted_at.elapsed() < self.min_reading_time {
            self.show_note("ignored: the answer was typed before the question could be read")?;
            return Ok(LoopControl::Continue);
        }
        match prompt {
            OpenPrompt::Message => self.handle_line(&line).await,
            OpenPrompt::Question(id) => self.answer_question(&id, &line).await,
            OpenPrompt::Arguments(id) => self.submit_arguments(&id, &line).await,
            OpenPrompt::DeleteSession(id) => {
                match parse_approval_answer(&line) {
                    TypedAnswer::Approve(_) => self.delete_session(&id).await?,
                    _ => self.show_note("not deleted")?,
                }
                Ok(LoopControl::Continue)
            }
        }
    }

    async fn handle_prompt_interrupt(&mut self, prompt: &OpenPrompt) -> io::Result<LoopControl> {
        match prompt {
            OpenPrompt::Message => self.exit_or_warn(),
            OpenPrompt::Question(_) => self.handle_interrupt().await,
            OpenPrompt::Arguments(_) => Ok(LoopControl::Continue),
            OpenPrompt::DeleteSession(_) => {
                self.show_note("not deleted")?;
                Ok(LoopControl::Continue)
            }
        }
    }

    fn handle_input_end(&mut self) -> io::Result<LoopControl> {
        self.input_ended = true;
        let Some(question) = self.session.as_ref().and_then(|session| session.view.next_question(&self.answerable))
        else {
            return Ok(LoopControl::Continue);
        };
        let note = format!("{} was not answered; the question stays open in the session", question.name);
        self.show_note(note)?;
        Ok(LoopControl::Exit)
    }

    pub(super) async fn handle_line(&mut self, line: &str) -> io::Result<LoopControl> {
        match parse_user_input(line) {
            UserInput::Empty => {}
            UserInput::Message(content) => self.send_message(content).await?,
            UserInput::Sessions => self.show_sessions().await?,
            UserInput::Switch(given) => self.switch_session(&given).await?,
            UserInput::New(title) => self.start_new_session(title).await?,
            UserInput::Model(model) => self.choose_model(model).await?,
            UserInput::Title(title) => self.rename_session(&title).await?,
            UserInput::Delete => self.confirm_delete().await?,
            UserInput::Show(number) => self.show_output(number).await?,
            UserInput::Tools => self.show_tools().await?,
            UserInput::Context => self.show_context().await?,
            UserInput::Cost => self.show_cost().await?,
            UserInput::Approvals => self.show_approvals().await?,
            UserInput::Export(path) => self.export_session(path).await?,
            UserInput::Again => self.send_again().await?,
            UserInput::Attach(path) => self.attach_file(path).await?,
            UserInput::Good(comment) => self.rate_reply("up", comment).await?,
            UserInput::Bad(comment) => self.rate_reply("down", comment).await?,
            UserInput::Help => self.show_line(LineStyle::Plain, HELP_TEXT)?,
            UserInput::Quit => return Ok(LoopControl::Exit),
            UserInput::Invalid(message) => self.show_line(LineStyle::Failure, message)?,
        }
        Ok(LoopControl::Continue)
    }

    /// Handles Ctrl-C if there is no run to cancel: the first one says what a second one does.
    fn exit_or_warn(&mut self) -> io::Result<LoopControl> {
        if std::mem::replace(&mut self.exit_armed, true) {
            return Ok(LoopControl::Exit);
        }
        self.show_note("press Ctrl-C again or Ctrl-D, or type /quit, to leave")?;
        Ok(LoopControl::Continue)
    }

    /// Handles Ctrl-C while no prompt is open or at a question: cancels the run, not the program.
    pub(super) async fn handle_interrupt(&mut self) -> io::Result<LoopControl> {
        let prompted = self.prompt.is_some();
        let Some(session) = self.session.as_mut().filter(|session| session.view.is_in_run()) else {
            // Without a prompt the chat waits for the connection, which may never come back.
            return if prompted { self.exit_or_warn() } else { Ok(LoopControl::Exit) };
        };
        match self.cancel_sent_at {
            Some(since) if session.lost || since.elapsed() > CANCEL_TIMEOUT => return Ok(LoopControl::Exit),
            Some(_) => {}
            None => {
                self.cancel_sent_at = Some(Instant::now());
                let command_id = Uuid::now_v7().to_string();
                session.connection.send_command(json!({"type": "cancel", "command_id": command_id})).await;
                let note = if session.lost {
                    "the run will be cancelled after reconnecting; press Ctrl-C again to leave"
                } else {
                    "cancelling…"
                };
                self.show_note(note)?;
            }
        }
        Ok(LoopControl::Continue)
    }
}
