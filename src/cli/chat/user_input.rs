//! Parses the lines that the user types: messages, commands, answers to questions.

/// A parsed line of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UserInput {
    /// A blank line.
    Empty,
    /// A message for the agent.
    Message(String),
    /// `/sessions`.
    Sessions,
    /// `/switch N|id`.
    Switch(String),
    /// `/new [title]`.
    New(Option<String>),
    /// `/model [provider/model]`.
    Model(Option<String>),
    /// `/title text`.
    Title(String),
    /// `/delete`.
    Delete,
    /// `/show N`, or `/last` without a number.
    Show(Option<u64>),
    /// `/tools`.
    Tools,
    /// `/context`.
    Context,
    /// `/cost`.
    Cost,
    /// `/approvals`.
    Approvals,
    /// `/export [path]`.
    Export(Option<String>),
    /// `/again`.
    Again,
    /// `/attach [path]`.
    Attach(Option<String>),
    /// `/good [comment]`.
    Good(Option<String>),
    /// `/bad [comment]`.
    Bad(Option<String>),
    /// `/help`.
    Help,
    /// `/quit`.
    Quit,
    /// An unknown command or a command with wrong arguments, with the message to show.
    Invalid(String),
}

/// All commands, for completion.
pub(super) const COMMANDS: [&str; 19] = [
    "/again",
    "/approvals",
    "/attach",
    "/bad",
    "/context",
    "/cost",
    "/delete",
    "/export",
    "/good",
    "/help",
    "/last",
    "/model",
    "/new",
    "/quit",
    "/sessions",
    "/show",
    "/switch",
    "/title",
    "/tools",
];

/// The output of `/help`.
pub(super) const HELP_TEXT: &str = "\
/show N, /last          the whole output of call [N], or of the last one
/attach FILE            a text file goes with the next message; - takes files back
/again                  send your last message again
/good, /bad [comment]   rate the last reply
/approvals              what waits for your decision, in all sessions
/tools                  the tools, and which of them ask first
/context, /cost         tokens of this session by part; what it and today cost
/export [path]          write this session to a Markdown file
/sessions               list your sessions, newest first
/switch N|id            switch to another session
/new [title]            start a new session
/model [provider/model] list the models, or select one
/title text             rename this session
/delete                 delete this session
/quit                   leave the chat (also Ctrl-D); a run in progress continues on the service
Ctrl-C cancels the run in progress. Pressed twice at the prompt, it leaves the chat.
A line that starts with a space is always sent as a message. A backslash at the end of a line, Alt-Enter or an open ``` continue the
message in the next line; Tab completes commands.";

/// Parses a line that was typed at the ordinary prompt.
#[must_use]
pub(super) fn parse_user_input(line: &str) -> UserInput {
    let text = line.trim();
    if text.is_empty() {
        return UserInput::Empty;
    }
    if !line.starts_with('/') {
        return UserInput::Message(text.to_owned());
    }
    let (command, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    let argument = (!rest.is_empty()).then(|| rest.to_owned());
    match (command, argument) {
        ("/sessions", None) => UserInput::Sessions,
        ("/switch", Some(which)) => UserInput::Switch(which),
        ("/new", title) => UserInput::New(title),
        ("/model", model) => UserInput::Model(model),
        ("/title", Some(title)) => UserInput::Title(title),
        ("/delete", None) => UserInput::Delete,
        ("/show", Some(number)) => match number.trim_matches(['[', ']']).parse() {
            Ok(number) => UserInput::Show(Some(number)),
            Err(_) => UserInput::Invalid("/show needs the number of a call: /show 3".to_owned()),
        },
        ("/last" | "/show", None) => UserInput::Show(None),
        ("/tools", None) => UserInput::Tools,
        ("/context", None) => UserInput::Context,
        ("/cost", None) => UserInput::Cost,
        ("/approvals", None) => UserInput::Approvals,
        ("/export", path) => UserInput::Export(path),
        ("/again", None) => UserInput::Again,
        ("/attach", path) => UserInput::Attach(path),
        ("/good", comment) => UserInput::Good(comment),
        ("/bad", comment) => UserInput::Bad(comment),
        ("/help" | "/?", None) => UserInput::Help,
        ("/quit" | "/exit" | "/q", None) => UserInput::Quit,
        ("/switch", None) => UserInput::Invalid("/switch needs a number or an id; /sessions lists them".to_owned()),
        ("/title", None) => UserInput::Invalid("/title needs the new title: /title text".to_owned()),
        (
            "/sessions" | "/delete" | "/last" | "/tools" | "/context" | "/cost" | "/approvals" | "/again" | "/help"
            | "/?" | "/quit" | "/exit" | "/q",
            Some(_),
        ) => UserInput::Invalid(format!("{command} takes no argument")),
        _ => UserInput::Invalid(format!(
            "unknown command {command}; /help lists the commands, and a leading space makes the line a message"
        )),
    }
}

/// An answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TypedAnswer {
    /// Yes, with a comment.
    Approve(Option<String>),
    /// No, with a comment.
    Deny(Option<String>),
    /// Edit the arguments first.
    Edit,
    /// The line is not an answer.
    Unclear,
}

/// Parses an answer: `y`, `n` or `e`. The text after `y` or `n` is the comment.
#[must_use]
pub(super) fn parse_approval_answer(line: &str) -> TypedAnswer {
    let line = line.trim();
    let (word, rest) = line.split_once([' ', ',', ':']).unwrap_or((line, ""));
    let comment = Some(rest.trim().to_owned()).filter(|rest| !rest.is_empty());
    match word.to_ascii_lowercase().as_str() {
        "y" | "yes" => TypedAnswer::Approve(comment),
        "n" | "no" => TypedAnswer::Deny(comment),
        "e" | "edit" if comment.is_none() => TypedAnswer::Edit,
        _ => TypedAnswer::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slash_starts_a_command_and_leading_space_a_message() {
        assert_eq!(parse_user_input("  why? "), UserInput::Message("why?".into()));
        assert_eq!(parse_user_input(" /etc is full"), UserInput::Message("/etc is full".into()));
        assert_eq!(parse_user_input(" \t"), UserInput::Empty);
        assert_eq!(parse_user_input("/new  pay day "), UserInput::New(Some("pay day".into())));
        assert_eq!(parse_user_input("/new"), UserInput::New(None));
        assert_eq!(parse_user_input("/model openai/a/b"), UserInput::Model(Some("openai/a/b".into())));
        assert_eq!(parse_user_input("/quit"), UserInput::Quit);
        for invalid in ["/etc is full", "/switch", "/title ", "/quit now", "/"] {
            assert!(matches!(parse_user_input(invalid), UserInput::Invalid(_)), "{invalid}");
        }
        assert_eq!(parse_user_input("/show [3]"), UserInput::Show(Some(3)));
        assert_eq!(parse_user_input("/last"), UserInput::Show(None));
        assert!(matches!(parse_user_input("/show three"), UserInput::Invalid(_)));
        for command in COMMANDS.iter().filter(|command| **command != "/help") {
            assert!(HELP_TEXT.contains(command));
        }
    }

    #[test]
    fn only_unambiguous_words_answer_an_approval() {
        assert_eq!(parse_approval_answer(" Y "), TypedAnswer::Approve(None));
        assert_eq!(parse_approval_answer("yes, but gently"), TypedAnswer::Approve(Some("but gently".into())));
        assert_eq!(parse_approval_answer("n not in prod"), TypedAnswer::Deny(Some("not in prod".into())));
        assert_eq!(parse_approval_answer("e"), TypedAnswer::Edit);
        for unclear in ["", "yep", "ok", "edit it", "/quit", "nope"] {
            assert_eq!(parse_approval_answer(unclear), TypedAnswer::Unclear, "{unclear}");
        }
    }
}
