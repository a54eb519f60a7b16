//! `xargs`: the command that it runs, and the words that it adds.

use crate::{
    printed_text::PrintedText,
    shell_word::{ShellWord, TextKind, UNKNOWN_TEXT, UnknownText, WordCount},
};

/// A command that `xargs` runs.
pub(crate) struct XargsCommand {
    /// Its words, with those that `xargs` adds.
    pub(crate) words: Vec<ShellWord>,
    /// The kind of the added words.
    pub(crate) kind: TextKind,
    /// The text that it puts into a word, if that is one line.
    pub(crate) line_item: Option<UnknownText>,
}

/// Reads the arguments of `xargs`; `None` if they are not known.
pub(crate) fn parse_xargs(arguments: &[ShellWord], input: PrintedText) -> Option<XargsCommand> {
    let kind = input.kind();
    let mut splits_lines = true;
    let mut placeholder: Option<String> = None;
    let mut rest = arguments;
    while let Some((flag, others)) = rest.split_first().filter(|(flag, _)| flag.text.starts_with('-')) {
        if !flag.is_known() {
            return None;
        }
        rest = others;
        let letters = flag.text.as_str();
        match letters {
            "-r" | "-t" | "--no-run-if-empty" => continue,
            "-0" | "--null" | "-r0" | "-0r" => {
                splits_lines = false;
                continue;
            }
            "--" => break,
            _ => {}
        }
        let (name, inline) = match letters.strip_prefix("--").and_then(|long| long.split_once('=')) {
            Some((long, value)) => (long, value),
            None => letters.get(1..2).map(|letter| (letter, letters.get(2..).unwrap_or_default()))?,
        };
        let value = if inline.is_empty() {
            let (value, others) = rest.split_first().filter(|(value, _)| value.is_known())?;
            rest = others;
            value.text.as_str()
        } else {
            inline
        };
        match name {
            "n" | "L" | "P" | "max-args" | "max-lines" | "max-procs"
                if value.bytes().all(|byte| byte.is_ascii_digit()) => {}
            "I" | "replace" if value.len() < 12 && !value.starts_with('-') => placeholder = Some(value.to_owned()),
            // Another delimiter might leave a `-` at the start of a word.
            "d" | "delimiter" if matches!(value, "\\n" | "\n" | " " | ",") => splits_lines = false,
            _ => return None,
        }
    }
    let mut words = rest.to_vec();
    if words.is_empty() {
        words.push(ShellWord::from_argument("echo"));
    }
    let Some(placeholder) = placeholder else {
        words.push(ShellWord::of_kind(kind, WordCount::Any));
        return Some(XargsCommand { words, kind, line_item: None });
    };
    for word in words.iter_mut().filter(|word| word.text.contains(&placeholder)) {
        // Two texts of different origin in a word cannot be told apart.
        if word.unknown.is_some() {
            return None;
        }
        word.text = word.text.replace(&placeholder, &UNKNOWN_TEXT.to_string());
        word.unknown = Some(UnknownText { kind, count: WordCount::OneOrEmpty });
        word.unquoted = false;
    }
    let count = if input.has_one_name_per_line() { WordCount::One } else { WordCount::Any };
    Some(XargsCommand { words, kind, line_item: splits_lines.then_some(UnknownText { kind, count }) })
}
