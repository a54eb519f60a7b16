//! Where secrets stand in a text, by their look or by what they are called. Each pattern is linear in the text.

use std::{ops::Range, sync::LazyLock};

use regex::{Captures, Regex};

use super::{json, placeholder, yaml};

/// A secret at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) range: Range<usize>,
    pub(super) key: String,
    /// Whether what stands there is the base64 form of the value.
    pub(super) is_base64: bool,
}

/// Words in the name of something secret.
const SECRET_WORDS: &str = "passwo?r?d|passphrase|passwd|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|\
    client[_-]?key|account[_-]?key|auth[_-]?key|signing[_-]?key|encryption[_-]?key|master[_-]?key|ssh[_-]?key|key-data|\
    credential|connection[_-]?string|dsn|bearer|session[_-]?key|licen[sc]e[_-]?key|hmac|webhook[_-]?url";
/// Names that have such a word and stand for something else: a reference, a place, a count, a switch, a public part.
const HARMLESS: &str = r"(?i)(name|names|ref|refs|keyref|file|files|path|paths|dir|mount|mounts|mounted|type|types|kind|policy|ttl|expiration|expirationseconds|expiry|expires|length|count|limit|limits|usage|enabled|required|version|rotation|automountserviceaccounttoken|certificate-data|tokens|secrets|passwords|credentials|imagepullsecrets|provider|store|audience|audiences|issuer|algorithm|id|ids|status|reviews?|requests?)$";

/// A value within a line: in quotes (which are escaped where JSON stands in JSON), or up to what ends a word of a list.
const VALUE: &str = r#"(?:\\+"([^"\\\n]*)|"((?:[^"\\\n]|\\[^\n])*)"|'([^'\n]*)')"#;
const WORD: &str = r#"([^\s"',;{}\[\]&|>)<\\][^\s"',;{}\[\]&|>)<]*)"#;

struct Patterns {
    /// A line that is a name and its value: YAML, properties, variables.
    line: Regex,
    /// A name, then a value, anywhere in a line.
    named: Regex,
    /// An environment variable: its name in one field, its value in the next.
    env: Regex,
    harmless: Regex,
    /// What is a secret by its look. The group `v`, where there is one, is the secret; else all of it.
    looks: Vec<(&'static str, Regex)>,
}

static PATTERNS: LazyLock<Patterns> = LazyLock::new(|| {
    let regex = |pattern: &str| Regex::new(pattern).expect("a constant pattern");
    let name = format!(r"(?i:[A-Za-z0-9_.-]*(?:{SECRET_WORDS})[A-Za-z0-9_.-]*)");
    Patterns {
        line: regex(&format!(
            r#"(?m)^[ \t]*(?:- )?(?:export[ \t]+)?["']?(?P<k>{name})["']?[ \t]*(?::[ \t]+|:?=[ \t]*)(?P<v>[^\r\n]+)"#
        )),
        named: regex(&format!(
            r#"(?P<k>{name})\\*["']?[ \t]*(?::?=[ \t]*(?:{VALUE}|{WORD})|:[ \t]*{VALUE}|:[ \t]+{WORD})"#
        )),
        env: regex(&format!(
            r#"(?i:\bname)\\*["']?[ \t]*:[ \t]*\\*["']?(?P<k>{name})\\*["']?[ \t]*,?\s*\\*["']?(?i:value)\\*["']?[ \t]*:[ \t]*(?:{VALUE}|{WORD})"#
        )),
        harmless: regex(HARMLESS),
        looks: vec![
            (
                "private-key",
                regex(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)"),
            ),
            ("jwt", regex(r"\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*)?")),
            ("aws-key-id", regex(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b")),
            ("github-token", regex(r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})")),
            ("gitlab-token", regex(r"\bgl(?:pat|dt|rt|ptt|cbt)-[A-Za-z0-9_-]{16,}")),
            ("slack-token", regex(r"\bxox[abeprs]-[A-Za-z0-9-]{10,}")),
            ("slack-webhook", regex(r"hooks\.slack\.com/services/(?P<v>[A-Za-z0-9/_-]{16,})")),
            ("stripe-key", regex(r"\b[sr]k_(?:live|test)_[A-Za-z0-9]{16,}")),
            ("api-key", regex(r"\bsk-[A-Za-z0-9_-]{20,}")),
            ("google-key", regex(r"\bAIza[A-Za-z0-9_-]{35}")),
            ("google-token", regex(r"\bya29\.[A-Za-z0-9_-]{20,}")),
            ("npm-token", regex(r"\bnpm_[A-Za-z0-9]{30,}")),
            ("huggingface-token", regex(r"\bhf_[A-Za-z0-9]{20,}")),
            ("vault-token", regex(r"\bhv[sbr]\.[A-Za-z0-9_-]{20,}")),
            ("digitalocean-token", regex(r"\bdo[opr]_v1_[0-9a-f]{40,}")),
            ("sendgrid-key", regex(r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}")),
            (
                "azure-key",
                regex(r"(?i:AccountKey|SharedAccessKey|SharedAccessSignature|sig)=(?P<v>[A-Za-z0-9+/%=]{20,})"),
            ),
            (
                "Authorization",
                regex(
                    r#"(?i:authorization|x-api-key|x-vault-token|x-auth-token|cookie)\\*["']?[ \t]*[:=][ \t]*\\*["']?(?i:(?:bearer|basic|token|negotiate|digest)[ \t]+)?(?P<v>[^\s"',\\]{6,})"#,
                ),
            ),
            ("bearer", regex(r#"\b(?i:bearer|basic)[ \t]+(?P<v>[^\s"',;)\\]*[0-9][^\s"',;)\\]{5,})"#)),
            ("url-password", regex(r#"\b[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s/:@"'<>\[\]]*:(?P<v>[^\s@/"'<>]+)@"#)),
            (
                "password",
                regex(r#"(?:^|\s)-{1,2}(?i:password|passwd|pass|token|secret|api-key)(?:[= ])(?P<v>[^\s"'-][^\s"']*)"#),
            ),
        ],
    }
});

/// All secrets in a text, as far as they are seen without knowing any. May overlap.
pub(super) fn all(text: &str, objects_expected: bool) -> Vec<Found> {
    let mut found = Vec::new();
    json::secrets(text, objects_expected, &mut found);
    yaml::secrets(text, objects_expected, &mut found);
    let patterns = &*PATTERNS;
    for (key, pattern) in &patterns.looks {
        for captures in pattern.captures_iter(text) {
            let Some(place) = captures.name("v").or_else(|| captures.get(0)) else { continue };
            if is_secret_value(place.as_str()) {
                push(&mut found, place.range(), key);
            }
        }
    }
    for captures in patterns.line.captures_iter(text) {
        let (Some(key), Some(rest)) = (captures.name("k"), captures.name("v")) else { continue };
        let range = unquoted(text, rest.range());
        if is_secret_name(key.as_str()) && is_secret_value(&text[range.clone()]) {
            push(&mut found, range, key.as_str());
        }
    }
    for pattern in [&patterns.named, &patterns.env] {
        for captures in pattern.captures_iter(text) {
            let Some(key) = captures.name("k") else { continue };
            if is_secret_name(key.as_str())
                && let Some(range) = value(&captures)
                && is_secret_value(&text[range.clone()])
            {
                push(&mut found, range, key.as_str());
            }
        }
    }
    found.retain(|found| !placeholder::is_all_of(&text[found.range.clone()]));
    found
}

fn push(found: &mut Vec<Found>, range: Range<usize>, key: &str) {
    found.push(Found { range, key: key.to_owned(), is_base64: false });
}

/// The value of a match: the one group behind the name that took part.
fn value(captures: &Captures<'_>) -> Option<Range<usize>> {
    (2..captures.len()).find_map(|group| captures.get(group)).map(|found| found.range())
}

/// The value in the rest of a line: without its quotes, and without what JSON has behind it.
fn unquoted(text: &str, rest: Range<usize>) -> Range<usize> {
    let value = text[rest.clone()].trim_end();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
    if let Some(quote) = quote
        && let Some(last) = value.rfind(quote).filter(|last| *last > 0)
    {
        return rest.start + 1..rest.start + last;
    }
    let bare = value.trim_end_matches([',', '}', ']']);
    rest.start..rest.start + bare.len()
}

/// Whether what a name stands for is a secret.
pub(super) fn is_secret_name(name: &str) -> bool {
    static WORDS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(&format!("(?i:{SECRET_WORDS})")).expect("a constant pattern"));
    WORDS.is_match(name) && !PATTERNS.harmless.is_match(name)
}

/// Words that stand behind a secret's name without being one: switches, kinds of authorization, the words of a sentence.
const NO_VALUES: &[&str] = &[
    "",
    "true",
    "false",
    "null",
    "nil",
    "none",
    "~",
    "yes",
    "no",
    "on",
    "off",
    "opaque",
    "string",
    "bytes",
    "required",
    "optional",
    "missing",
    "invalid",
    "expired",
    "not",
    "is",
    "was",
    "for",
    "from",
    "in",
    "of",
    "and",
    "or",
    "the",
    "has",
    "unauthorized",
    "error",
    "failed",
    "bearer",
    "basic",
    "negotiate",
    "digest",
    "token",
];

/// Whether what stands behind a secret's name is a value, and not a reference to one, a switch or a number.
pub(super) fn is_secret_value(value: &str) -> bool {
    let value = value.trim().trim_end_matches(['.', ':']);
    // The first word of a sentence gives it away.
    let lower = value.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    let is_number = !value.is_empty() && value.len() < 6 && value.bytes().all(|b| b.is_ascii_digit());
    let is_word = NO_VALUES.contains(&lower.as_str());
    !(is_number || is_word || is_reference(value))
}

/// Whether a value looks like the path of a file, as people write them.
fn is_path(value: &str) -> bool {
    value.starts_with('/')
        && !value.starts_with("//")
        && value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"/._-".contains(&b))
}

/// Whether a value only says where the real one is, or has been made unreadable already.
fn is_reference(value: &str) -> bool {
    value.starts_with('<')
        || value.starts_with("$(")
        || value.starts_with("${")
        || value.starts_with("{{")
        || is_path(value)
        || value.starts_with("[secret:")
        || value.starts_with("secretKeyRef")
        || matches!(value, "|" | ">" | "|-" | ">-" | "|+" | ">+")
        || value.bytes().all(|b| matches!(b, b'*' | b'x' | b'X' | b'.' | b'-' | b'#' | b'\xe2' | b'\x80' | b'\xa2'))
}
