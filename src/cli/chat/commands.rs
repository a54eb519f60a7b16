//! What a line that the user has typed means.

/// A line of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Typed {
    /// Nothing.
    Nothing,
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
    /// `/help`.
    Help,
    /// `/quit`.
    Quit,
    /// Something with a slash in front that is none of these; what to say about it.
    Wrong(String),
}

/// What `/help` prints.
pub const HELP: &str = "\
/sessions               your sessions, newest first
/switch N|id            go on with another one
/new [title]            begin a new one
/model [provider/model] which models there are, or: take this one
/title text             rename this session
/delete                 delete this session
/quit                   leave (Ctrl-D too); a run goes on without you
Ctrl-C cancels the run in progress; twice at the prompt it leaves.
A line that begins with a space is a message, whatever follows.";

/// Reads a line.
#[must_use]
pub fn read(line: &str) -> Typed {
    let text = line.trim();
    if text.is_empty() {
        return Typed::Nothing;
    }
    if !line.starts_with('/') {
        return Typed::Message(text.to_owned());
    }
    let (command, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim();
    let given = (!rest.is_empty()).then(|| rest.to_owned());
    match (command, given) {
        ("/sessions", None) => Typed::Sessions,
        ("/switch", Some(which)) => Typed::Switch(which),
        ("/new", title) => Typed::New(title),
        ("/model", model) => Typed::Model(model),
        ("/title", Some(title)) => Typed::Title(title),
        ("/delete", None) => Typed::Delete,
        ("/help" | "/?", None) => Typed::Help,
        ("/quit" | "/exit" | "/q", None) => Typed::Quit,
        ("/switch", None) => Typed::Wrong("which one? /switch N or /switch id; /sessions lists them".to_owned()),
        ("/title", None) => Typed::Wrong("what title? /title text".to_owned()),
        ("/sessions" | "/delete" | "/help" | "/?" | "/quit" | "/exit" | "/q", Some(_)) => {
            Typed::Wrong(format!("{command} takes nothing after it"))
        }
        _ => Typed::Wrong(format!(
            "there is no {command}; /help lists what there is, a space in front makes it a message"
        )),
    }
}

/// An answer to an approval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Let it run.
    Approve(Option<String>),
    /// Do not.
    Deny(Option<String>),
    /// Let it run with other arguments.
    Edit,
    /// Not an answer.
    Unclear,
}

/// Reads an answer: `y`, `n`, `e`; what follows `y` or `n` is the comment.
#[must_use]
pub fn answer(line: &str) -> Answer {
    let line = line.trim();
    let (word, rest) = line.split_once([' ', ',', ':']).unwrap_or((line, ""));
    let comment = Some(rest.trim().to_owned()).filter(|rest| !rest.is_empty());
    match word.to_ascii_lowercase().as_str() {
        "y" | "yes" => Answer::Approve(comment),
        "n" | "no" => Answer::Deny(comment),
        "e" | "edit" if comment.is_none() => Answer::Edit,
        _ => Answer::Unclear,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_makes_a_command_and_a_space_before_it_a_message() {
        assert_eq!(read("  why? "), Typed::Message("why?".into()));
        assert_eq!(read(" /etc is full"), Typed::Message("/etc is full".into()));
        assert_eq!(read(" \t"), Typed::Nothing);
        assert_eq!(read("/new  pay day "), Typed::New(Some("pay day".into())));
        assert_eq!(read("/new"), Typed::New(None));
        assert_eq!(read("/model openai/a/b"), Typed::Model(Some("openai/a/b".into())));
        assert_eq!(read("/quit"), Typed::Quit);
        for wrong in ["/etc is full", "/switch", "/title ", "/quit now", "/"] {
            assert!(matches!(read(wrong), Typed::Wrong(_)), "{wrong}");
        }
        for command in ["/sessions", "/switch", "/new", "/model", "/title", "/delete", "/quit"] {
            assert!(HELP.contains(command));
        }
    }

    #[test]
    fn only_a_clear_word_is_an_answer() {
        assert_eq!(answer(" Y "), Answer::Approve(None));
        assert_eq!(answer("yes, but gently"), Answer::Approve(Some("but gently".into())));
        assert_eq!(answer("n not in prod"), Answer::Deny(Some("not in prod".into())));
        assert_eq!(answer("e"), Answer::Edit);
        for unclear in ["", "yep", "ok", "edit it", "/quit", "nope"] {
            assert_eq!(answer(unclear), Answer::Unclear, "{unclear}");
        }
    }
}
