//! `xargs`: the commands that it runs, and the words that it adds.

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

/// How `xargs` takes its input apart.
#[derive(Debug, Default, PartialEq, Eq)]
enum InputSplit {
    /// At blanks and line feeds.
    #[default]
    Words,
    /// At line feeds alone.
    Lines,
    /// At another character.
    Other,
}

/// What the arguments of `xargs` say.
#[derive(Default)]
struct XargsOptions {
    split: InputSplit,
    /// The text in the command that an item takes the place of.
    placeholder: Option<String>,
    /// Most items for one command.
    most_items: Option<usize>,
    /// Items are not only counted one by one.
    counts_lines: bool,
}

impl XargsOptions {
    /// Reads the flags, and returns what is behind them: the command. `None` if they are not known.
    fn parse(arguments: &[ShellWord]) -> Option<(Self, &[ShellWord])> {
        let mut options = Self::default();
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
                    options.split = InputSplit::Other;
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
                "n" | "max-args" => options.most_items = Some(value.parse().ok()?),
                "L" | "max-lines" if value.bytes().all(|byte| byte.is_ascii_digit()) => options.counts_lines = true,
                "P" | "max-procs" if value.bytes().all(|byte| byte.is_ascii_digit()) => {}
                "I" | "replace" if value.len() < 12 && !value.starts_with('-') => {
                    options.placeholder = Some(value.to_owned());
                }
                // Another delimiter might leave a `-` at the start of a word.
                "d" | "delimiter" if matches!(value, "\\n" | "\n") => options.split = InputSplit::Lines,
                "d" | "delimiter" if matches!(value, " " | ",") => options.split = InputSplit::Other,
                _ => return None,
            }
        }
        Some((options, rest))
    }
}

/// Reads the arguments of `xargs`; `None` if they are not known.
pub(crate) fn parse_xargs(arguments: &[ShellWord], input: PrintedText) -> Option<XargsCommand> {
    let kind = input.kind();
    let (XargsOptions { split, placeholder, .. }, rest) = XargsOptions::parse(arguments)?;
    let splits_lines = split == InputSplit::Words;
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

/// Returns the commands that `xargs` runs with this input; `None` if they are not known.
pub(crate) fn run_xargs(arguments: &[ShellWord], input: &str) -> Option<Vec<Vec<ShellWord>>> {
    let (options, command) = XargsOptions::parse(arguments)?;
    // Quotes and escapes join words, and a blank at the end of a line joins lines.
    if input.contains(['"', '\'', '\\', '\0']) || options.counts_lines || command.is_empty() {
        return None;
    }
    let items: Vec<&str> = match (&options.placeholder, &options.split) {
        (_, InputSplit::Other) => return None,
        (None, InputSplit::Words) => input.split_whitespace().collect(),
        (Some(_), InputSplit::Words) => input.lines().map(str::trim_start).filter(|line| !line.is_empty()).collect(),
        (_, InputSplit::Lines) => input.lines().collect(),
    };
    if items.is_empty() || items.iter().any(|item| item.is_empty()) {
        return None;
    }
    let Some(placeholder) = options.placeholder else {
        let most = options.most_items.unwrap_or(items.len()).max(1);
        let with_items = |items: &[&str]| {
            command.iter().cloned().chain(items.iter().map(|item| ShellWord::from_argument(item))).collect()
        };
        return Some(items.chunks(most).map(with_items).collect());
    };
    let with_item = |item: &&str| {
        command.iter().map(|word| ShellWord::from_argument(&word.text.replace(&placeholder, item))).collect()
    };
    Some(items.iter().map(with_item).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str, input: &str) -> Option<String> {
        let arguments: Vec<ShellWord> = line.split(' ').map(ShellWord::from_argument).collect();
        let print = |words: Vec<ShellWord>| words.iter().map(|word| word.text.clone()).collect::<Vec<_>>().join(" ");
        Some(run_xargs(&arguments, input)?.into_iter().map(print).collect::<Vec<_>>().join("; "))
    }

    #[test]
    fn commands_with_known_input() {
        for (line, input, expected) in [
            ("kubectl delete pod", "a b\nc", Some("kubectl delete pod a b c")),
            ("-r -n 2 kubectl delete", "pod/a pod/b pod/c", Some("kubectl delete pod/a pod/b; kubectl delete pod/c")),
            ("-n1 kubectl delete pod", " a  b ", Some("kubectl delete pod a; kubectl delete pod b")),
            (
                "-I {} kubectl scale {} --replicas=0",
                "deploy/a\n deploy/b\n",
                Some("kubectl scale deploy/a --replicas=0; kubectl scale deploy/b --replicas=0"),
            ),
            ("-d \n kubectl delete", "pod/a\npod/b", Some("kubectl delete pod/a pod/b")),
            ("-P 4 -I% kubectl delete pod %", "a", Some("kubectl delete pod a")),
            ("kubectl delete pod", "", None),
            ("kubectl delete pod", "'a b'", None),
            ("-L 1 kubectl delete pod", "a", None),
            ("-d , kubectl delete pod", "a,b", None),
            ("-0 kubectl delete pod", "a", None),
            ("-a file kubectl delete pod", "a", None),
            ("-d \n kubectl delete pod", "a\n\nb", None),
        ] {
            assert_eq!(run(line, input).as_deref(), expected, "{line} < {input:?}");
        }
    }
}
