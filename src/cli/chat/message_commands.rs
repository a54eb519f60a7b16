//! The commands for messages: `/attach`, `/again`, `/good`, `/bad`, and what is sent.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::json;
use uuid::Uuid;

use super::terminal_chat::{SentMessage, TerminalChat};
use crate::cli::{
    question::{QuestionError, QuestionInput, QuestionLimits, compose_question},
    terminal::{LineStyle, sanitize_text},
};

impl<W: Write> TerminalChat<W> {
    /// Runs `/attach`: reads a file that goes with the next message. Without a file it says which ones do.
    pub(super) async fn attach_file(&mut self, given: Option<String>) -> io::Result<()> {
        let Some(given) = given else {
            if self.attachments.is_empty() {
                return self.show_note("nothing goes with the next message; /attach FILE adds a file");
            }
            let names: Vec<String> = self.attachments.iter().map(QuestionInput::describe).collect();
            return self.show_note(format!("with the next message: {}; /attach - takes them back", names.join(", ")));
        };
        if given == "-" {
            self.attachments.clear();
            return self.show_note("nothing goes with the next message");
        }
        // A pipe or a network file system may take long, and the connection goes on.
        let path = find_path(&given);
        let read = tokio::task::spawn_blocking(move || read_regular_file(&path)).await;
        match read {
            Ok(Ok(input)) if input.is_blank() => {
                self.show_line(LineStyle::Failure, format!("{} is empty", sanitize_text(&given)))
            }
            Ok(Ok(input)) => {
                let note = format!("{} goes with the next message", sanitize_text(&input.describe()));
                self.attachments.push(input);
                self.show_note(note)
            }
            Ok(Err(error)) => self.show_line(LineStyle::Failure, sanitize_text(&error.to_string())),
            Err(error) => self.show_line(LineStyle::Failure, error.to_string()),
        }
    }

    /// Sends a message with the files that were attached for it.
    pub(super) async fn send_message(&mut self, content: String) -> io::Result<()> {
        let mut command = json!({"type": "message", "content": content});
        if !self.attachments.is_empty() {
            let limits = match QuestionLimits::fetch(&self.client).await {
                Ok(limits) => limits,
                Err(error) => return self.show_error(&error),
            };
            match compose_question(&content, self.attachments.clone(), limits) {
                Ok(question) => {
                    for note in question.notes {
                        self.show_note(sanitize_text(&note))?;
                    }
                    command["attachments"] = json!(question.attachments);
                }
                Err(error @ QuestionError::TooManyInputs(_)) => {
                    let line = format!("{error}; /attach - takes them back");
                    return self.show_line(LineStyle::Failure, line);
                }
                Err(error) => return self.show_line(LineStyle::Failure, error.to_string()),
            }
        }
        if self.session.is_none() {
            // Sessions are limited per user, so one is created only when it is needed.
            match self.client.create_session(None, self.next_model.as_ref()).await {
                Ok(id) => self.open_session(id, Some(0)),
                Err(error) => return self.show_line(LineStyle::Failure, error.to_string()),
            }
        }
        let Some(session) = &mut self.session else { return Ok(()) };
        let command_id = Uuid::now_v7().to_string();
        command["command_id"] = json!(command_id);
        session.view.record_sent_message(&command_id, self.source);
        session.connection.send_command(command).await;
        self.cancel_sent_at = None;
        self.last_sent = Some(SentMessage { content, attachments: std::mem::take(&mut self.attachments) });
        Ok(())
    }

    /// Runs `/again`: sends the last message once more, with what went with it if it was sent here.
    pub(super) async fn send_again(&mut self) -> io::Result<()> {
        let last = self.session.as_ref().and_then(|session| session.view.last_message().map(str::to_owned));
        let Some(message) = last else { return self.show_note("there is no message to send again") };
        self.show_line(LineStyle::User, format!("> {}", sanitize_text(&message)))?;
        if let Some(sent) = self.last_sent.take().filter(|sent| sent.content == message) {
            self.attachments.extend(sent.attachments);
        }
        self.send_message(message).await
    }

    /// Runs `/good` and `/bad`: rates the newest reply.
    pub(super) async fn rate_reply(&mut self, rating: &'static str, comment: Option<String>) -> io::Result<()> {
        let Some((session, reply)) =
            self.session.as_ref().and_then(|session| Some((session.id.clone(), session.view.last_reply()?.to_owned())))
        else {
            return self.show_note("there is no reply to rate");
        };
        match self.client.rate_reply(&session, &reply, json!({"rating": rating, "comment": comment})).await {
            Ok(()) => self.show_note(if rating == "up" { "rated as helpful" } else { "rated as not helpful" }),
            Err(error) => self.show_error(&error),
        }
    }
}

/// Reads a file that has an end.
fn read_regular_file(path: &Path) -> Result<QuestionInput, QuestionError> {
    let name = path.display().to_string();
    let unreadable = |source| QuestionError::Unreadable { name: name.clone(), source };
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(unreadable(io::Error::other("it is not a regular file")));
    }
    QuestionInput::open(path)
}

/// Returns the path that a user means: as it is typed, or as a shell would read it, which is how terminals paste the path of a file
/// that is dropped on them.
fn find_path(given: &str) -> PathBuf {
    let typed = PathBuf::from(given);
    if typed.exists() {
        return typed;
    }
    let word = match shlex::split(given).as_deref() {
        Some([word]) => word.clone(),
        _ => given.to_owned(),
    };
    match (word.strip_prefix("~/"), std::env::home_dir()) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_is_read_as_it_is_typed_or_as_a_shell_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("it's a log.txt");
        std::fs::write(&file, "x").unwrap();
        let path = file.to_str().unwrap();
        for given in [path.to_owned(), path.replace(' ', "\\ ").replace('\'', "\\'"), format!("\"{path}\"")] {
            assert_eq!(find_path(&given), file, "{given}");
        }
        assert_eq!(find_path("~/x.log"), std::env::home_dir().unwrap().join("x.log"));
        assert_eq!(find_path("it's"), PathBuf::from("it's"), "an open quotation mark is no error");
    }

    #[test]
    fn only_files_that_end_are_read() {
        for path in ["/dev/zero", "/tmp", "/nowhere/x.log"] {
            let error = read_regular_file(Path::new(path)).unwrap_err();
            assert!(error.to_string().starts_with(path), "{error}");
        }
    }
}
