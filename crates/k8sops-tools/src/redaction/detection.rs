//! Secrets in a text by their pattern or by the name in front of them. Each pattern takes time linear in the text.

use std::{ops::Range, sync::LazyLock};

use regex::{Captures, Regex};

use super::{
    content_hint::ContentHint,
    found_secret::{FoundSecret, ValueForm},
    json_secrets::find_json_secrets,
    placeholder::{PLACEHOLDER_PREFIX, is_only_placeholders},
    yaml_secrets::find_yaml_secrets,
};

/// Words in the names of secrets.
const SECRET_WORDS: &str = "passwo?r?d|passphrase|passwd|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|\
    client[_-]?key|account[_-]?key|auth[_-]?key|signing[_-]?key|encryption[_-]?key|master[_-]?key|ssh[_-]?key|key-data|\
    credential|connection[_-]?string|dsn|bearer|session[_-]?key|licen[sc]e[_-]?key|hmac|webhook[_-]?url";
/// Ends of names that contain such a word and name something else: a reference, a path, a count, a switch, a public part.
const HARMLESS_NAME: &str = r"(?i)(name|names|ref|refs|keyref|file|files|path|paths|dir|mount|mounts|mounted|type|types|kind|policy|ttl|expiration|expirationseconds|expiry|expires|length|count|limit|limits|usage|enabled|required|version|rotation|automountserviceaccounttoken|certificate-data|tokens|secrets|passwords|credentials|imagepullsecrets|provider|store|audience|audiences|issuer|algorithm|id|ids|status|reviews?|requests?)$";

/// A value in quotes, which are escaped in JSON that is a string of other JSON.
const QUOTED_VALUE: &str = r#"(?:\\+"([^"\\\n]*)|"((?:[^"\\\n]|\\[^\n])*)"|'([^'\n]*)')"#;
/// A value without quotes, up to a character that ends a word.
const BARE_VALUE: &str = r#"([^\s"',;{}\[\]&|>)<\\][^\s"',;{}\[\]&|>)<]*)"#;

struct SecretPatterns {
    /// A line that is a name and its value: YAML, properties, variables.
    name_value_line: Regex,
    /// A name and a value anywhere in a line.
    name_value: Regex,
    /// A variable of a container: the name in one field, the value in the next.
    env_variable: Regex,
    harmless_name: Regex,
    /// Well-known forms of credentials, with the key of their placeholder. The secret is the group `v`, or the whole match
    /// if there is no such group.
    known_forms: Vec<(&'static str, Regex)>,
}

static PATTERNS: LazyLock<SecretPatterns> = LazyLock::new(|| {
    let regex = |pattern: &str| Regex::new(pattern).expect("a constant pattern");
    let name = format!(r"(?i:[A-Za-z0-9_.-]*(?:{SECRET_WORDS})[A-Za-z0-9_.-]*)");
    SecretPatterns {
        name_value_line: regex(&format!(
            r#"(?m)^[ \t]*(?:- )?(?:export[ \t]+)?["']?(?P<k>{name})["']?[ \t]*(?::[ \t]+|:?=[ \t]*)(?P<v>[^\r\n]+)"#
        )),
        name_value: regex(&format!(
            r#"(?P<k>{name})\\*["']?[ \t]*(?::?=[ \t]*(?:{QUOTED_VALUE}|{BARE_VALUE})|:[ \t]*{QUOTED_VALUE}|:[ \t]+{BARE_VALUE})"#
        )),
        env_variable: regex(&format!(
            r#"(?i:\bname)\\*["']?[ \t]*:[ \t]*\\*["']?(?P<k>{name})\\*["']?[ \t]*,?\s*\\*["']?(?i:value)\\*["']?[ \t]*:[ \t]*(?:{QUOTED_VALUE}|{BARE_VALUE})"#
        )),
        harmless_name: regex(HARMLESS_NAME),
        known_forms: vec![
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

/// Returns whether a text contains something that looks like a secret, or a placeholder of one.
#[must_use]
pub fn contains_secret(text: &str) -> bool {
    // A model may have copied only the beginning of the placeholder.
    text.contains(PLACEHOLDER_PREFIX) || !find_secrets(text, ContentHint::Any).is_empty()
}

/// Returns the secrets in a text that can be found without knowing any. They may overlap.
pub(super) fn find_secrets(text: &str, hint: ContentHint) -> Vec<FoundSecret> {
    let mut found = Vec::new();
    find_json_secrets(text, hint, &mut found);
    find_yaml_secrets(text, hint, &mut found);
    let patterns = &*PATTERNS;
    for (key, pattern) in &patterns.known_forms {
        for captures in pattern.captures_iter(text) {
            let Some(secret) = captures.name("v").or_else(|| captures.get(0)) else { continue };
            if is_secret_value(secret.as_str()) {
                push_secret(&mut found, secret.range(), key);
            }
        }
    }
    for captures in patterns.name_value_line.captures_iter(text) {
        let (Some(key), Some(rest)) = (captures.name("k"), captures.name("v")) else { continue };
        let range = strip_quotes(text, rest.range());
        if is_secret_name(key.as_str()) && is_secret_value(&text[range.clone()]) {
            push_secret(&mut found, range, key.as_str());
        }
    }
    for pattern in [&patterns.name_value, &patterns.env_variable] {
        for captures in pattern.captures_iter(text) {
            let Some(key) = captures.name("k") else { continue };
            if is_secret_name(key.as_str())
                && let Some(range) = captured_value(&captures)
                && is_secret_value(&text[range.clone()])
            {
                push_secret(&mut found, range, key.as_str());
            }
        }
    }
    found.retain(|secret| !is_only_placeholders(&text[secret.range.clone()]));
    found
}

fn push_secret(found: &mut Vec<FoundSecret>, range: Range<usize>, key: &str) {
    found.push(FoundSecret { range, key: key.to_owned(), form: ValueForm::Plain });
}

/// Returns the value of a match: the group behind the name that took part in it.
fn captured_value(captures: &Captures<'_>) -> Option<Range<usize>> {
    (2..captures.len()).find_map(|group| captures.get(group)).map(|found| found.range())
}

/// Returns the value in the rest of a line: without its quotes, and without the punctuation of JSON behind it.
fn strip_quotes(text: &str, rest: Range<usize>) -> Range<usize> {
    let value = text[rest.clone()].trim_end();
    let quote = value.chars().next().filter(|char| matches!(char, '"' | '\''));
    if let Some(quote) = quote
        && let Some(last) = value.rfind(quote).filter(|last| *last > 0)
    {
        return rest.start + 1..rest.start + last;
    }
    let bare = value.trim_end_matches([',', '}', ']']);
    rest.start..rest.start + bare.len()
}

/// Returns whether a value with this name is a secret.
pub(super) fn is_secret_name(name: &str) -> bool {
    static WORDS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(&format!("(?i:{SECRET_WORDS})")).expect("a constant pattern"));
    WORDS.is_match(name) && !PATTERNS.harmless_name.is_match(name)
}

/// Words that may follow the name of a secret without being one: switches, authorization schemes, words of a sentence.
const NON_SECRET_WORDS: &[&str] = &[
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

/// Returns whether a text that follows the name of a secret is a value, and not a reference, a switch or a number.
pub(super) fn is_secret_value(value: &str) -> bool {
    let value = value.trim().trim_end_matches(['.', ':']);
    // A sentence is recognized by its first word.
    let first_word = value.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    let is_number = !value.is_empty() && value.len() < 6 && value.bytes().all(|b| b.is_ascii_digit());
    let is_word = NON_SECRET_WORDS.contains(&first_word.as_str());
    !(is_number || is_word || is_reference(value))
}

/// Returns whether a value looks like the path of a file.
fn is_path(value: &str) -> bool {
    value.starts_with('/')
        && !value.starts_with("//")
        && value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"/._-".contains(&b))
}

/// Returns whether a value only refers to the secret, or is already unreadable.
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
