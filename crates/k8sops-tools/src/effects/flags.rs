//! How kubectl, helm and argocd read their command lines: flags and operands in any order, `--` ends the flags.
//!
//! A table names the flags that are known and harmless, in groups of words: `o,output=` takes a value,
//! `A,all-namespaces` is a switch, `dry-run?` takes one only behind a `=`. Every other flag is an error.

use super::lexer::Word;

/// Flags, in the notation above.
pub(super) type Flags = &'static [&'static str];

/// How a flag gets its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arity {
    Switch,
    Value,
    Optional,
}

/// A flag that was given.
#[derive(Debug)]
pub(super) struct Flag<'a> {
    /// Its long name, or its letter where it has no long one.
    pub name: &'static str,
    /// Its value.
    pub value: Option<&'a str>,
    /// Every reader of the line sees the same.
    pub plain: bool,
}

/// A command line, taken apart.
#[derive(Debug, Default)]
pub(super) struct Parsed<'a> {
    /// The flags in their order.
    pub flags: Vec<Flag<'a>>,
    /// What is no flag.
    pub operands: Vec<&'a Word>,
}

impl<'a> Parsed<'a> {
    /// The values of a flag, in their order.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.flags.iter().filter(move |flag| flag.name == name).filter_map(|flag| flag.value)
    }

    /// Whether the flag is given at all.
    pub(super) fn has(&self, name: &str) -> bool {
        self.flags.iter().any(|flag| flag.name == name)
    }

    /// Whether it is certain that nothing is done: `--dry-run` is there, each time with a value that says so, and
    /// written in a way that nobody reads differently.
    pub(super) fn is_dry(&self) -> bool {
        let mut dry = self.flags.iter().filter(|flag| flag.name == "dry-run").peekable();
        dry.peek().is_some() && dry.all(|flag| flag.plain && matches!(flag.value, None | Some("server" | "client")))
    }
}

/// Takes the words apart by the tables.
pub(super) fn parse<'a>(words: impl Iterator<Item = &'a Word>, tables: &[Flags]) -> Result<Parsed<'a>, String> {
    let mut parsed = Parsed::default();
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        if word.text == "--" {
            parsed.operands.extend(words);
            break;
        }
        let Some(given) = Given::of(word) else {
            parsed.operands.push(word);
            continue;
        };
        for (name, arity, inline) in given.flags(tables)? {
            let value = match (arity, inline) {
                (Arity::Switch, None | Some("true" | "false")) | (Arity::Optional, _) | (Arity::Value, Some(_)) => {
                    inline
                }
                (Arity::Switch, Some(_)) => return Err(format!("`{}` is not understood", show(&word.text))),
                (Arity::Value, None) => {
                    let value = words.next().ok_or_else(|| format!("`{}` lacks its value", show(&word.text)))?;
                    // It may be a value or a flag: whoever reads it as the other would run something else.
                    if value.text.starts_with('-') && !is_number(&value.text) && value.text != "-" {
                        return Err(format!("`{} {}` is not understood", show(&word.text), show(&value.text)));
                    }
                    Some(value.text.as_str())
                }
            };
            parsed.flags.push(Flag { name, value, plain: word.plain });
        }
    }
    Ok(parsed)
}

/// The place of the first operand at or behind `from`, where only flags of the tables may stand before it. That is how
/// these programs look for their verb.
pub(super) fn next_operand(words: &[Word], from: usize, tables: &[Flags]) -> Result<Option<usize>, String> {
    let mut at = from;
    while let Some(word) = words.get(at) {
        if word.text == "--" {
            return Err("`--` before the verb is not understood".into());
        }
        let Some(given) = Given::of(word) else { return Ok(Some(at)) };
        let takes_next =
            given.flags(tables)?.last().is_some_and(|(_, arity, inline)| *arity == Arity::Value && inline.is_none());
        at += if takes_next { 2 } else { 1 };
        let value = at.checked_sub(1).and_then(|value| words.get(value)).filter(|_| takes_next);
        if value.is_some_and(|value| value.text.starts_with('-') || value.text.contains(char::is_whitespace)) {
            return Err(format!("`{}` before the verb is not understood", show(&word.text)));
        }
    }
    Ok(None)
}

/// A verb, with the words around it.
pub(super) struct Verb<'a> {
    /// `get`, or `rollout status`. Empty: there is none.
    pub path: String,
    /// Where the words behind it start.
    pub end: usize,
    /// The words that are not it, in their order.
    pub rest: Vec<&'a Word>,
}

/// Looks for the verb as these programs do: before it stand only flags of the tables, and so between its words, where
/// `groups` are the verbs that have verbs of their own.
pub(super) fn verb<'a>(words: &'a [Word], tables: &[Flags], groups: &[&str]) -> Result<Verb<'a>, String> {
    let mut path = String::new();
    let mut places: Vec<usize> = Vec::new();
    while path.is_empty() || groups.contains(&path.as_str()) {
        let from = places.last().map_or(0, |last| last + 1);
        let at = match next_operand(words, from, tables) {
            Ok(Some(at)) => at,
            // Flags of the verb itself, as in `create -f`: the line stands or falls with what they say.
            Err(_) if !path.is_empty() => break,
            Ok(None) => break,
            Err(reason) => return Err(reason),
        };
        let word = words.get(at).filter(|word| word.plain).ok_or("a verb in quotes is not understood")?;
        if !path.is_empty() {
            path.push(' ');
        }
        path.push_str(&word.text);
        places.push(at);
    }
    let rest = words.iter().enumerate().filter(|(at, _)| !places.contains(at)).map(|(_, word)| word).collect();
    Ok(Verb { path, end: places.last().map_or(0, |last| last + 1), rest })
}

/// A word that starts with a dash.
enum Given<'a> {
    Long(&'a str, Option<&'a str>),
    Short(&'a str),
}

type Named<'a> = (&'static str, Arity, Option<&'a str>);

impl<'a> Given<'a> {
    fn of(word: &'a Word) -> Option<Self> {
        if let Some(long) = word.text.strip_prefix("--") {
            return Some(match long.split_once('=') {
                Some((name, value)) => Self::Long(name, Some(value)),
                None => Self::Long(long, None),
            });
        }
        word.text.strip_prefix('-').filter(|letters| !letters.is_empty()).map(Self::Short)
    }

    /// The flags that it names: one, or several letters in one word.
    fn flags(&self, tables: &[Flags]) -> Result<Vec<Named<'a>>, String> {
        match *self {
            Self::Long(name, value) => {
                let (known, arity) =
                    find(name, tables).filter(|_| name.len() > 1).ok_or_else(|| refusal("--", name))?;
                Ok(vec![(known, arity, value)])
            }
            Self::Short(letters) => {
                let mut flags = Vec::new();
                for (at, letter) in letters.char_indices() {
                    let end = at + letter.len_utf8();
                    let name = letters.get(at..end).unwrap_or_default();
                    let rest = letters.get(end..).unwrap_or_default();
                    let (known, arity) = find(name, tables).ok_or_else(|| refusal("-", name))?;
                    if let Some(value) = rest.strip_prefix('=') {
                        flags.push((known, arity, Some(value)));
                        break;
                    }
                    if arity == Arity::Value {
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

/// A flag's full name and arity, by its name or letter.
fn find(name: &str, tables: &[Flags]) -> Option<(&'static str, Arity)> {
    tables.iter().flat_map(|table| table.iter()).flat_map(|group| group.split_ascii_whitespace()).find_map(|entry| {
        let (names, arity) = match entry.as_bytes().last() {
            Some(b'=') => (entry.get(..entry.len() - 1)?, Arity::Value),
            Some(b'?') => (entry.get(..entry.len() - 1)?, Arity::Optional),
            _ => (entry, Arity::Switch),
        };
        let long = names.rsplit(',').next()?;
        names.split(',').any(|known| known == name).then_some((long, arity))
    })
}

/// Flags with which somebody else acts, or on another cluster than the one that the server was set up for.
const IDENTITY: &[&str] = &[
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

/// Whether a long flag has to do with who acts, and where, or with files.
pub(super) fn is_foreign(name: &str) -> bool {
    const FILES: &[&str] = &["cache-dir", "kuberc", "output-directory", "profile", "profile-output"];
    name.len() > 1 && (IDENTITY.contains(&name) || FILES.contains(&name))
}

fn refusal(dashes: &str, name: &str) -> String {
    if IDENTITY.contains(&name) {
        return format!("`{dashes}{name}` acts as somebody else or elsewhere");
    }
    format!("`{dashes}{}` is not known to be harmless here", show(name))
}

fn is_number(text: &str) -> bool {
    text.strip_prefix('-').is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A word for a person: short, and without signs that are not what they seem.
pub(super) fn show(text: &str) -> String {
    const LONGEST: usize = 40;
    let mut shown: String = text
        .chars()
        .take(LONGEST)
        .map(|char| if char.is_ascii_graphic() || char == ' ' { char } else { '?' })
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}
