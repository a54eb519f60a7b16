//! A whole command line: its class is that of its worst part.

use super::{
    Judged, Sensitive, argocd, filters,
    flags::{self, show},
    helm, kubectl,
    lexer::{self, Line, Word},
    secrets,
};
use k8sops_core::ToolEffect;

/// A program whose command lines are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    Kubectl,
    Helm,
    Argocd,
}

/// Where a program may lie to be the one it is called after.
const DIRECTORIES: &[&str] = &["/usr/local/bin/", "/usr/bin/", "/bin/", "/opt/homebrew/bin/", "/snap/bin/"];

impl Program {
    /// The program that a command starts: by its bare name, or in a well-known directory.
    pub(super) fn named(name: &str) -> Option<Self> {
        let name = DIRECTORIES.iter().find_map(|directory| name.strip_prefix(directory)).unwrap_or(name);
        match name {
            "kubectl" => Some(Self::Kubectl),
            "helm" => Some(Self::Helm),
            "argocd" => Some(Self::Argocd),
            _ => None,
        }
    }

    fn judge(self, arguments: &[Word]) -> Part {
        match self {
            Self::Kubectl => kubectl::judge(arguments),
            Self::Helm => helm::judge(arguments),
            Self::Argocd => argocd::judge(arguments),
        }
    }
}

/// What is known of one command.
#[derive(Debug)]
pub(super) struct Part {
    pub judged: Judged,
    /// It only reads because of a `--dry-run`.
    pub dry: bool,
    /// The output is a table that shows no values, whatever passes it on.
    pub table: bool,
}

impl From<Judged> for Part {
    fn from(judged: Judged) -> Self {
        Self { judged, dry: false, table: false }
    }
}

/// Judges a line as a shell runs it. With `home`, the tool is that program's own, and its name may be missing.
pub(super) fn judge(text: &str, home: Option<Program>) -> Judged {
    match lexer::lex(text) {
        Ok(line) => judge_lexed(&line, home),
        Err(reason) => Judged::mutating(reason).with(secrets::in_text(text)),
    }
}

/// Judges the words of one command, as a program gets them without a shell.
pub(super) fn judge_argv(words: &[Word], home: Option<Program>) -> Judged {
    let line = Line { pipelines: vec![vec![words.to_vec()]] };
    judge_lexed(&line, home)
}

fn judge_lexed(line: &Line, home: Option<Program>) -> Judged {
    let mut home = home;
    let mut verdict: Option<Judged> = None;
    let mut dry = false;
    for pipeline in &line.pipelines {
        let mut flowing: Option<(Sensitive, bool)> = None;
        for command in pipeline {
            let part = judge_command(command, home.take());
            dry |= part.dry;
            let mut judged = part.judged;
            match (flowing, filters::passes_on(command)) {
                (Some((held, table)), Some(filter)) => {
                    let held = if table { held } else { filter.leaves(held) };
                    flowing = Some((held, table));
                }
                (None, Some(filter)) if filter.decodes() => flowing = Some((Sensitive::Values, false)),
                _ => {}
            }
            if let Some(held) = judged.sensitive {
                flowing = Some((held, part.table));
            }
            judged = judged.with(flowing.map(|(held, _)| held));
            verdict = Some(match verdict {
                Some(before) => before.and(judged),
                None => judged,
            });
        }
    }
    let verdict = verdict.unwrap_or_else(|| Judged::mutating("no command is given"));
    if dry && verdict.effect == ToolEffect::Read && !all_read_it_as_dry(line) {
        return Judged::mutating("`--dry-run` may be read differently").with(verdict.sensitive);
    }
    verdict
}

/// Whether a reader that knows no quotes, pipes and separators would find the same `--dry-run`s: it is the reading of
/// servers that split a line at its spaces.
fn all_read_it_as_dry(line: &Line) -> bool {
    line.pipelines.iter().flatten().flatten().all(|word| {
        let folded = word.text.to_ascii_lowercase();
        let says_dry = folded.contains("dry-run") || folded.contains("dry_run");
        let is_dry = word.plain && matches!(word.text.as_str(), "--dry-run" | "--dry-run=server" | "--dry-run=client");
        (!says_dry || is_dry) && !hides_a_flag(&word.text)
    })
}

/// Whether a part of the word behind a space would be a flag, were the word split there.
pub(super) fn hides_a_flag(word: &str) -> bool {
    word.split(char::is_whitespace).skip(1).any(|piece| {
        let mut signs = piece.chars();
        signs.next() == Some('-') && signs.next().is_some_and(|sign| sign == '-' || sign.is_ascii_alphabetic())
    })
}

/// Whether words could be taken apart in another way: a flag within a word, in quotes of its own, or behind `--`.
pub(super) fn is_ambiguous(words: &[Word]) -> bool {
    let quotes = ['\'', '"', '\\'];
    if words
        .iter()
        .any(|word| word.text.strip_prefix(quotes).is_some_and(|text| text.trim_start_matches(quotes).starts_with('-')))
    {
        return true;
    }
    let behind = words.iter().skip_while(|word| word.text != "--").skip(1);
    words.iter().any(|word| hides_a_flag(&word.text)) || behind.into_iter().any(|word| word.text.starts_with('-'))
}

/// Whether the words of a filter, taken for more arguments of the program before the pipe, would make it act as
/// somebody else, elsewhere or on files.
fn misleads(words: &[Word]) -> bool {
    let foreign = |piece: &str| {
        let name = piece.strip_prefix("--").unwrap_or_default();
        flags::is_foreign(name.split('=').next().unwrap_or_default())
    };
    let elsewhere = |at: usize| {
        let next = words.get(at + 1).and_then(|word| word.text.chars().next());
        next.is_some_and(char::is_alphanumeric)
    };
    words.iter().enumerate().any(|(at, word)| {
        let server = word.text.starts_with('-') && !word.text.starts_with("--") && word.text.contains('s');
        let attached = word.text.split_once('s').is_some_and(|(_, rest)| rest.contains([':', '.', '=', '/']));
        word.text.split(char::is_whitespace).any(foreign) || (server && (attached || elsewhere(at)))
    })
}

fn judge_command(words: &[Word], home: Option<Program>) -> Part {
    let Some((name, mut rest)) = words.split_first() else {
        return Judged::mutating("no command is given").into();
    };
    if let Some(home) = home {
        let arguments = if Program::named(&name.text) == Some(home) && name.plain { rest } else { words };
        return home.judge(arguments);
    }
    let mut name = name;
    // Programs that start another; two deep is more than anybody writes.
    for _ in 0..2 {
        match wrapped(name, rest) {
            None => break,
            Some(Err(reason)) => return Judged::mutating(reason).with(secrets::in_text(&text_of(words))).into(),
            Some(Ok(inner)) => match inner.split_first() {
                Some((first, others)) => (name, rest) = (first, others),
                None => return Judged::mutating("no command is given").into(),
            },
        }
    }
    if !name.plain {
        return Judged::mutating("a command's name in quotes is not understood")
            .with(secrets::in_text(&text_of(words)))
            .into();
    }
    if let Some(program) = Program::named(&name.text) {
        return program.judge(rest);
    }
    if misleads(rest) {
        return Judged::mutating(format!("`{}` with these arguments may be read differently", show(&name.text))).into();
    }
    match filters::judge(&name.text, rest) {
        Some(judged) => judged.into(),
        None => Judged::mutating(format!("`{}` is not known", show(&name.text)))
            .with(secrets::in_text(&text_of(words)))
            .into(),
    }
}

fn text_of(words: &[Word]) -> String {
    let words: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
    words.join(" ")
}

/// The command that `time`, `timeout` or `watch` starts. `None`: it is none of them.
fn wrapped<'a>(name: &Word, rest: &'a [Word]) -> Option<Result<&'a [Word], String>> {
    let mut at = 0;
    let text = |at: usize| rest.get(at).map_or("", |word| word.text.as_str());
    let takes_value: &[&str] = match name.text.as_str() {
        _ if !name.plain => return None,
        "time" => return Some(Ok(rest)),
        "timeout" => &["-k", "-s", "--kill-after", "--signal"],
        "watch" => &["-n", "--interval"],
        _ => return None,
    };
    while text(at).starts_with('-') {
        let switch = matches!(text(at), "--preserve-status" | "--foreground" | "-t" | "-d" | "-x");
        match takes_value.contains(&text(at)) {
            true => at += 2,
            false if switch => at += 1,
            false => return Some(Err(format!("`{} {}` is not understood", name.text, show(text(at))))),
        }
    }
    if name.text == "timeout" {
        let duration = text(at);
        let number = duration.strip_suffix(['s', 'm', 'h']).unwrap_or(duration);
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return Some(Err("`timeout` without a duration is not understood".into()));
        }
        at += 1;
    }
    let inner = rest.get(at..).unwrap_or_default();
    // It hands what it gets to a shell once more, which reads quotes and signs anew.
    let twice =
        |word: &Word| word.plain && word.text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=.,/:@%+".contains(&b));
    if name.text == "watch" && !inner.iter().all(twice) {
        return Some(Err("`watch` reads its words as a line once more".into()));
    }
    Some(Ok(inner))
}
