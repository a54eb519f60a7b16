//! Answers to approvals and to questions of MCP servers.

use std::io::{self, Write};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    line_source::LinePrompt,
    terminal_chat::{LoopControl, OpenPrompt, TerminalChat},
    user_input::{TypedAnswer, parse_approval_answer},
};
use crate::cli::{
    terminal::{EditedText, InputSource, LineStyle, edit_in_editor, parse_yaml, yaml_text},
    transcript::{PendingQuestion, QuestionSubject},
};

const NO_LONGER_OPEN: &str = "this question was answered elsewhere, or is no longer open";

impl<W: Write> TerminalChat<W> {
    /// Handles a line that was entered at a question: an answer, or a command.
    pub(super) async fn answer_question(&mut self, id: &str, line: &str) -> io::Result<LoopControl> {
        if line.starts_with('/') {
            return self.handle_line(line).await;
        }
        let Some(question) = self.pending_question(id) else {
            if parse_approval_answer(line) == TypedAnswer::Unclear {
                // The question is gone, so the line is what it looks like: the next message.
                return self.handle_line(line).await;
            }
            self.show_note(NO_LONGER_OPEN)?;
            return Ok(LoopControl::Continue);
        };
        let answer = match (parse_approval_answer(line), self.source) {
            // A piped message that starts with "yes" was not written for this question.
            (TypedAnswer::Approve(Some(_)) | TypedAnswer::Deny(Some(_)) | TypedAnswer::Edit, InputSource::Pipe) => {
                TypedAnswer::Unclear
            }
            (answer, _) => answer,
        };
        let command = match (question.subject, answer) {
            (QuestionSubject::ToolCall, TypedAnswer::Edit) if self.uses_programs => {
                return self.edit_arguments(&question).await;
            }
            (_, TypedAnswer::Edit) => {
                let prompt = match question.subject {
                    QuestionSubject::ToolCall => "arguments: ",
                    QuestionSubject::ServerInput => "answer: ",
                };
                let line_prompt = LinePrompt::answer(prompt.to_owned(), question.arguments.to_string());
                self.next_prompt = Some((OpenPrompt::Arguments(id.to_owned()), line_prompt));
                return Ok(LoopControl::Continue);
            }
            (_, TypedAnswer::Unclear) => {
                self.show_line(LineStyle::Failure, "answer y, n or e; a comment may follow: n not in production")?;
                return Ok(LoopControl::Continue);
            }
            (QuestionSubject::ToolCall, TypedAnswer::Approve(comment)) => {
                json!({"type": "approve", "approval_id": id, "comment": comment})
            }
            (QuestionSubject::ToolCall, TypedAnswer::Deny(comment)) => {
                json!({"type": "deny", "approval_id": id, "comment": comment})
            }
            (QuestionSubject::ServerInput, TypedAnswer::Approve(_)) => {
                json!({"type": "answer", "input_id": id, "action": "accept", "content": {}})
            }
            (QuestionSubject::ServerInput, TypedAnswer::Deny(_)) => {
                json!({"type": "answer", "input_id": id, "action": "decline"})
            }
        };
        self.send_answer(id, command).await;
        Ok(LoopControl::Continue)
    }

    /// Approves a call with edited arguments, or answers a server with an edited answer. After an invalid line the
    /// question is asked again.
    pub(super) async fn submit_arguments(&mut self, id: &str, line: &str) -> io::Result<LoopControl> {
        let Some(question) = self.pending_question(id) else {
            self.show_note(NO_LONGER_OPEN)?;
            return Ok(LoopControl::Continue);
        };
        match serde_json::from_str::<Value>(line) {
            Ok(arguments @ Value::Object(_)) => {
                let command = match question.subject {
                    QuestionSubject::ToolCall => json!({"type": "approve", "approval_id": id, "arguments": arguments}),
                    QuestionSubject::ServerInput => {
                        json!({"type": "answer", "input_id": id, "action": "accept", "content": arguments})
                    }
                };
                self.send_answer(id, command).await;
            }
            Ok(_) => self.show_line(LineStyle::Failure, "the arguments must be a JSON object; nothing was approved")?,
            Err(error) => {
                self.show_line(LineStyle::Failure, format!("invalid JSON ({error}); nothing was approved"))?;
            }
        }
        Ok(LoopControl::Continue)
    }

    /// Lets the user edit the arguments of a call as YAML, and approves the call with them.
    async fn edit_arguments(&mut self, question: &PendingQuestion) -> io::Result<LoopControl> {
        let text = format!(
            "# {} will run with these arguments when you save and leave.\n# Without a change nothing is decided.\n{}",
            question.name,
            yaml_text(&question.arguments)
        );
        self.screen.begin_prompt()?;
        let edited = edit_in_editor(text).await;
        self.screen.end_prompt()?;
        match edited {
            Ok(EditedText::Unchanged) => self.show_note("not changed; nothing is decided")?,
            Ok(EditedText::Changed(text)) => match parse_yaml(&text) {
                Ok(arguments @ Value::Object(_)) => {
                    let command = json!({"type": "approve", "approval_id": question.id, "arguments": arguments});
                    self.send_answer(&question.id, command).await;
                }
                Ok(_) => {
                    self.show_line(LineStyle::Failure, "the arguments must be fields with values; nothing is decided")?;
                }
                Err(error) => {
                    let line = format!("the arguments are no valid YAML ({error}); nothing is decided");
                    self.show_line(LineStyle::Failure, line)?;
                }
            },
            Err(error) => self.show_line(LineStyle::Failure, error.to_string())?,
        }
        Ok(LoopControl::Continue)
    }

    fn pending_question(&self, id: &str) -> Option<PendingQuestion> {
        self.session.as_ref().and_then(|session| session.view.pending_question(id)).cloned()
    }

    async fn send_answer(&mut self, question_id: &str, mut command: Value) {
        let Some(session) = &mut self.session else { return };
        let command_id = Uuid::now_v7().to_string();
        command["command_id"] = json!(command_id);
        session.view.record_answer(question_id, &command_id);
        session.connection.send_command(command).await;
    }
}
