//! How kubectl, helm and argocd read their command lines: flags and operands in any order, and `--` ends the flags.
//!
//! A [`FlagTable`] names the flags that are known and harmless. Every other flag is an error.

use crate::shell_word::{PIPE_FILE, ShellWord, TextKind, UNKNOWN_TEXT, WordCount};

/// Known flags, as words separated by spaces: `o,output=` takes a value, `A,all-namespaces` is a switch, and `dry-run?` takes
/// a value only behind a `=`.
pub(crate) type FlagTable = &'static [&'static str];

/// How a flag gets its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FlagArity {
    Switch,
    Value,
    OptionalValue,
}

/// A flag of a command line.
#[derive(Debug)]
pub(crate) struct GivenFlag<'a> {
    /// Its long name, or its letter if it has no long name.
    name: &'static str,
    value: Option<&'a str>,
    /// Every reader of the line sees the same flag.
    unquoted: bool,
}

/// Flags and operands of a command line.
#[derive(Debug, Default)]
pub(crate) struct ParsedArguments<'a> {
    flags: Vec<GivenFlag<'a>>,
    /// The words that are neither flags nor their values.
    pub(crate) operands: Vec<&'a ShellWord>,
    /// A word is only known when the line runs.
    pub(crate) has_unknown: bool,
    /// The value of a flag may be no word or several ones, so that a value may become an operand.
    pub(crate) may_shift: bool,
}

impl<'a> ParsedArguments<'a> {
    /// Returns the values of a flag in their order.
    pub(crate) fn flag_values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.flags.iter().filter(move |flag| flag.name == name).filter_map(|flag| flag.value)
    }

    /// Returns whether the flag is given, with or without a value.
    pub(crate) fn has_flag(&self, name: &str) -> bool {
        self.flags.iter().any(|flag| flag.name == name)
    }

    /// Returns the flags whose values are only known when the line runs.
    pub(crate) fn unknown_flags(&self) -> impl Iterator<Item = &'static str> {
        let is_unknown = |flag: &&GivenFlag<'a>| {
            flag.value.is_some_and(|value| value.contains(UNKNOWN_TEXT) || value.contains(PIPE_FILE))
        };
        self.flags.iter().filter(is_unknown).map(|flag| flag.name)
    }

    /// Returns whether it is certain that nothing is changed: `--dry-run` is given, and each of its values says so and is
    /// written in a way that every reader sees.
    pub(crate) fn is_dry_run(&self) -> bool {
        let mut dry_runs = self.flags.iter().filter(|flag| flag.name == "dry-run").peekable();
        dry_runs.peek().is_some()
            && dry_runs.all(|flag| flag.unquoted && matches!(flag.value, None | Some("server" | "client")))
    }
}

/// Splits words into flags and operands. The error is the reason why the words are not certain to be harmless.
pub(crate) fn parse_arguments<'a>(
    words: impl Iterator<Item = &'a ShellWord>,
    tables: &[FlagTable],
) -> Result<ParsedArguments<'a>, String> {
    let mut parsed = ParsedArguments::default();
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        if word.text == "--" {
            parsed.operands.extend(words);
            break;
        }
        if word.may_be_hidden_flag() {
            return Err("a word that is only known when the line runs may be a flag".into());
        }
        parsed.has_unknown |= !word.is_known();
        let Some(given) = FlagWord::parse(word) else {
            parsed.operands.push(word);
            continue;
        };
        parsed.may_shift |= may_become_other_words(word);
        for (name, arity, inline_value) in given.resolve_flags(tables)? {
            let value = match (arity, inline_value) {
                (FlagArity::Switch, None | Some("true" | "false"))
                | (FlagArity::OptionalValue, _)
                | (FlagArity::Value, Some(_)) => inline_value,
                (FlagArity::Switch, Some(_)) => {
                    return Err(format!("`{}` gives a value to a switch", printable(&word.text)));
                }
                (FlagArity::Value, None) => {
                    let value = words.next().ok_or_else(|| format!("`{}` has no value", printable(&word.text)))?;
                    // A reader that takes this value for another flag would run something else.
                    if value.text.starts_with('-') && !is_negative_number(&value.text) && value.text != "-" {
                        let flag = printable(&word.text);
                        return Err(format!("the value of `{flag} {}` looks like a flag", printable(&value.text)));
                    }
                    if value.unknown.is_some_and(|unknown| unknown.kind == TextKind::Text) && !value.is_one_word() {
                        let flag = printable(&word.text);
                        return Err(format!("the value of `{flag}` may be several words"));
                    }
                    parsed.has_unknown |= !value.is_known();
                    parsed.may_shift |= !value.is_one_word();
                    Some(value.text.as_str())
                }
            };
            parsed.flags.push(GivenFlag { name, value, unquoted: word.unquoted });
        }
    }
    Ok(parsed)
}

/// Returns whether a flag with an unknown value in the same word may take the next word as its value, or become several words.
fn may_become_other_words(word: &ShellWord) -> bool {
    let is_short = !word.text.starts_with("--");
    word.unknown
        .is_some_and(|unknown| unknown.count == WordCount::Any || (is_short && unknown.count == WordCount::OneOrEmpty))
}

/// Returns the index of the first operand at or behind `from`. Only flags of the tables may stand before it. These programs
/// look for their verb in the same way.
fn find_next_operand(words: &[ShellWord], from: usize, tables: &[FlagTable]) -> Result<Option<usize>, String> {
    let mut at = from;
    while let Some(word) = words.get(at) {
        if word.text == "--" {
            return Err("`--` before the verb is not supported".into());
        }
        let Some(given) = FlagWord::parse(word) else { return Ok(Some(at)) };
        if may_become_other_words(word) {
            return Err(format!("the value of `{}` before the verb is not supported", printable(&word.text)));
        }
        let takes_next_word = given
            .resolve_flags(tables)?
            .last()
            .is_some_and(|(_, arity, inline_value)| *arity == FlagArity::Value && inline_value.is_none());
        at += if takes_next_word { 2 } else { 1 };
        let value = at.checked_sub(1).and_then(|value| words.get(value)).filter(|_| takes_next_word);
        let is_unclear = |value: &ShellWord| {
            value.text.starts_with('-') || value.text.contains(char::is_whitespace) || !value.is_one_word()
        };
        if value.is_some_and(is_unclear) {
            return Err(format!("the value of `{}` before the verb is not supported", printable(&word.text)));
        }
    }
    Ok(None)
}

/// The verb of a command line, and the words around it.
pub(crate) struct ParsedVerb<'a> {
    /// For example `get` or `rollout status`; empty if there is no verb.
    pub(crate) path: String,
    /// Index of the first word behind the verb.
    pub(crate) end: usize,
    /// The words that do not belong to the verb, in their order.
    pub(crate) other_words: Vec<&'a ShellWord>,
}

/// Looks for the verb as these programs do: only flags of the tables stand before it and between its words. `groups` are
/// the verbs that have subcommands.
pub(crate) fn find_verb<'a>(
    words: &'a [ShellWord],
    tables: &[FlagTable],
    groups: &[&str],
) -> Result<ParsedVerb<'a>, String> {
    let mut path = String::new();
    let mut indices: Vec<usize> = Vec::new();
    while path.is_empty() || groups.contains(&path.as_str()) {
        let from = indices.last().map_or(0, |last| last + 1);
        let at = match find_next_operand(words, from, tables) {
            Ok(Some(at)) => at,
            // A flag of the verb itself, as in `create -f`. The caller checks it with the table of the verb.
            Err(_) if !path.is_empty() => break,
            Ok(None) => break,
            Err(reason) => return Err(reason),
        };
        let word = words.get(at).filter(|word| word.unquoted).ok_or("a quoted verb is not supported")?;
        if !path.is_empty() {
            path.push(' ');
        }
        path.push_str(&word.text);
        indices.push(at);
    }
    let other_words = words.iter().enumerate().filter(|(at, _)| !indices.contains(at)).map(|(_, word)| word).collect();
    Ok(ParsedVerb { path, end: indices.last().map_or(0, |last| last + 1), other_words })
}

/// A word that starts with a dash.
enum FlagWord<'a> {
    /// The name behind `--`, and the value behind `=`.
    Long(&'a str, Option<&'a str>),
    /// The letters behind `-`.
    Short(&'a str),
}

/// A known flag: its name, its arity, and the value in the same word.
type ResolvedFlag<'a> = (&'static str, FlagArity, Option<&'a str>);

impl<'a> FlagWord<'a> {
    fn parse(word: &'a ShellWord) -> Option<Self> {
        if let Some(long) = word.text.strip_prefix("--") {
            return Some(match long.split_once('=') {
                Some((name, value)) => Self::Long(name, Some(value)),
                None => Self::Long(long, None),
            });
        }
        word.text.strip_prefix('-').filter(|letters| !letters.is_empty()).map(Self::Short)
    }

    /// Returns the flags in the word: one, or several letters behind one dash.
    fn resolve_flags(&self, tables: &[FlagTable]) -> Result<Vec<ResolvedFlag<'a>>, String> {
        match *self {
            Self::Long(name, value) => {
                let (known, arity) =
                    find_flag(name, tables).filter(|_| name.len() > 1).ok_or_else(|| rejection_reason("--", name))?;
                Ok(vec![(known, arity, value)])
            }
            Self::Short(letters) => {
                let mut flags = Vec::new();
                for (at, letter) in letters.char_indices() {
                    let end = at + letter.len_utf8();
                    let name = letters.get(at..end).unwrap_or_default();
                    let rest = letters.get(end..).unwrap_or_default();
                    let (known, arity) = find_flag(name, tables).ok_or_else(|| rejection_reason("-", name))?;
                    if let Some(value) = rest.strip_prefix('=') {
                        flags.push((known, arity, Some(value)));
                        break;
                    }
                    if arity == FlagArity::Value {
                        flags.push((known, arity, Some(rest).filter(|rest| !rest.is_empty())));
                        break;
                    }
                    flags.push((known, arity, None));
                }
                Ok(flags)
            }
        }
    }
}

/// Returns a flag's full name and arity, by its name or letter.
fn find_flag(name: &str, tables: &[FlagTable]) -> Option<(&'static str, FlagArity)> {
    tables.iter().flat_map(|table| table.iter()).flat_map(|group| group.split_ascii_whitespace()).find_map(|entry| {
        let (names, arity) = match entry.as_bytes().last() {
            Some(b'=') => (entry.get(..entry.len() - 1)?, FlagArity::Value),
            Some(b'?') => (entry.get(..entry.len() - 1)?, FlagArity::OptionalValue),
            _ => (entry, FlagArity::Switch),
        };
        let long = names.rsplit(',').next()?;
        names.split(',').any(|known| known == name).then_some((long, arity))
    })
}

/// Flags that choose another identity, or another cluster than the one that the server is configured for.
const IDENTITY_FLAGS: &[&str] = &[
    "as",
    "as-group",
    "as-uid",
    "as-user-extra",
    "auth-token",
    "certificate-authority",
    "client-certificate",
    "client-crt",
    "client-key",
    "cluster",
    "config",
    "header",
    "kube-apiserver",
    "kube-as-group",
    "kube-as-user",
    "kube-ca-file",
    "kube-token",
    "kubeconfig",
    "password",
    "proxy-url",
    "s",
    "server",
    "token",
    "user",
    "username",
];

/// Flags that read or write files of the server.
const FILE_FLAGS: &[&str] = &["cache-dir", "kuberc", "output-directory", "profile", "profile-output"];

/// Returns whether a long flag chooses an identity, a cluster or files.
pub(crate) fn is_identity_or_file_flag(name: &str) -> bool {
    name.len() > 1 && (IDENTITY_FLAGS.contains(&name) || FILE_FLAGS.contains(&name))
}

fn rejection_reason(dashes: &str, name: &str) -> String {
    if IDENTITY_FLAGS.contains(&name) {
        return format!("`{dashes}{name}` chooses another identity or cluster");
    }
    format!("`{dashes}{}` is not known to be harmless here", printable(name))
}

fn is_negative_number(text: &str) -> bool {
    text.strip_prefix('-').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Returns a word as a person may see it: short, and without characters that look like others.
pub(crate) fn printable(text: &str) -> String {
    const MAX_CHARS: usize = 40;
    let mut printable: String = text
        .chars()
        .take(MAX_CHARS)
        .map(|char| if char.is_ascii_graphic() || char == ' ' { char } else { '?' })
        .collect();
    if text.chars().nth(MAX_CHARS).is_some() {
        printable.push('…');
    }
    printable
}
