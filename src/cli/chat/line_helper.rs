//! What the line editor knows of the chat: completion of commands, and lines that continue.

use rustyline::{
    Context, Helper,
    completion::{Completer, FilenameCompleter},
    highlight::Highlighter,
    hint::Hinter,
    validate::{ValidationContext, ValidationResult, Validator},
};

use super::user_input::COMMANDS;

/// Completes commands and the paths of files, and reads on after a backslash or inside of a code block.
pub(super) struct LineHelper;

impl Helper for LineHelper {}

impl Highlighter for LineHelper {}

impl Hinter for LineHelper {
    type Hint = String;
}

impl Completer for LineHelper {
    type Candidate = String;

    fn complete(&self, line: &str, pos: usize, _ctx: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        if line[..pos].starts_with("/attach ") {
            let (start, found) = FilenameCompleter::new().complete_path(line, pos)?;
            return Ok((start, found.into_iter().map(|path| path.replacement).collect()));
        }
        Ok((0, complete_command(&line[..pos])))
    }
}

/// Returns the commands that begin with what is typed.
fn complete_command(typed: &str) -> Vec<String> {
    if !typed.starts_with('/') {
        return Vec::new();
    }
    COMMANDS.iter().filter(|command| command.starts_with(typed)).map(|command| format!("{command} ")).collect()
}

impl Validator for LineHelper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        Ok(if is_continued(context.input()) { ValidationResult::Incomplete } else { ValidationResult::Valid(None) })
    }
}

/// Returns whether a message goes on in the next line.
fn is_continued(input: &str) -> bool {
    let fences = input.lines().filter(|line| line.trim_start().starts_with("```")).count();
    input.ends_with('\\') || fences % 2 == 1
}

/// Returns a message of several lines without the marks that continue it.
pub(super) fn join_continued_lines(input: &str) -> String {
    input.replace("\\\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_completed() {
        assert_eq!(complete_command("/sh"), ["/show "]);
        assert_eq!(complete_command("/a"), ["/again ", "/approvals ", "/attach "]);
        assert!(complete_command("why /s").is_empty() && complete_command("").is_empty());
    }

    #[test]
    fn backslash_and_open_fence_continue_a_message() {
        assert!(is_continued("why\\") && is_continued("look:\n```\nkind: Pod"));
        assert!(!is_continued("why?") && !is_continued("```\na\n```") && !is_continued("use ``` here"));
        assert_eq!(join_continued_lines("one\\\ntwo"), "one\ntwo");
    }
}
