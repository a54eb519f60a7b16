//! Credentials in URLs and connection strings, which have a place and no name. The rest of the address stays readable.

use std::sync::LazyLock;

use regex::Regex;

use super::{
    compile_pattern::compile_pattern,
    found_secret::{FoundSecret, SecretReach},
    secret_names::rate_secret_name,
    secret_values::{PairContext, is_name_like, is_plain_value, is_secret_value, looks_random},
};

/// How the secret of a pattern is told from something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ValueCheck {
    /// Any value that is no reference and no mask.
    Any,
    /// A value that is no name and no number.
    NotName,
    /// A value behind a name that sounds like a secret.
    Named,
    /// A value with a digit, which no word of a sentence has.
    HasDigit,
    /// A value that looks random.
    Random,
}

/// Key of the placeholder, what must occur in the text, the check of the value, and the pattern.
type AddressPattern = (&'static str, &'static str, ValueCheck, &'static str);

const ADDRESS_PATTERNS: &[AddressPattern] = &[
    // A password may contain `@`: the last one ends it.
    (
        "url-password",
        "://",
        ValueCheck::Any,
        r#"\b[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s/:@"'<>\[\]]*:(?P<v>[^\s/"'<>]+)@"#,
    ),
    (
        "url-token",
        "://",
        ValueCheck::Random,
        r#"\b[A-Za-z][A-Za-z0-9+.-]{1,20}://(?P<v>[^\s/:@"'<>\[\]]{16,})(?::[^\s/:@"'<>]*)?@"#,
    ),
    // `user:password@tcp(host:3306)/db` of Go, `user/password@//host/service` of Oracle.
    ("dsn-password", "@", ValueCheck::Any, r#"(?:^|[\s"'=])[A-Za-z0-9_.-]+:(?P<v>[^\s"']+)@(?:tcp|tcp4|tcp6|unix)?\("#),
    (
        "dsn-password",
        "@",
        ValueCheck::Any,
        r#"\b(?:thin:|oci:|sqlplus[ \t]+(?:-[A-Za-z0-9_]+[ \t]+)*)[A-Za-z0-9_.$-]+/(?P<v>[^\s@/"']+)@"#,
    ),
    // `user:password@host:port` without a scheme.
    (
        "url-password",
        "@",
        ValueCheck::NotName,
        r#"(?:^|[\s"'=,(])[A-Za-z][A-Za-z0-9_.-]*:(?P<v>[^\s@/"'=,:]{6,})@[A-Za-z0-9][A-Za-z0-9_.-]*(?::[0-9]+)?"#,
    ),
    // `\\server\share user%password` of smbclient.
    ("password", "%", ValueCheck::NotName, r#"-U[ \t]+["']?[A-Za-z0-9_\\.-]+%(?P<v>[^\s"']+)"#),
    // A part of the path of a webhook.
    (
        "webhook",
        "hook",
        ValueCheck::Random,
        r#"(?i)\b(?:https?://[^\s"'<>]*hooks?[^\s"'<>]*/)(?P<v>[A-Za-z0-9_-]{16,})"#,
    ),
    // The file of passwords of PostgreSQL: `host:port:database:user:password`.
    (
        "password",
        ":",
        ValueCheck::Any,
        r"(?m)^(?:[A-Za-z0-9_.*-]+:(?:[0-9]{2,5}|\*):[A-Za-z0-9_.*-]+:[A-Za-z0-9_.*-]+):(?P<v>\S+)$",
    ),
    // A signed URL.
    (
        "signature",
        "ignature=",
        ValueCheck::Random,
        r"(?i)[?&](?:x-amz-signature|x-goog-signature|signature|x-amz-security-token)=(?P<v>[^\s&\x22'<>]{16,})",
    ),
    // A private JSON web key.
    ("jwk", "\"kty\"", ValueCheck::Random, r#""(?:d|k|p|q|dp|dq|qi)"\s*:\s*"(?P<v>[A-Za-z0-9_-]{16,})""#),
    // Calls that set a variable: `define('DB_PASSWORD', 'value')`.
    (
        "password",
        "(",
        ValueCheck::Named,
        r#"\b[A-Za-z.]+\(\s*["'](?P<k>[A-Za-z0-9_.-]+)["']\s*,\s*["'](?P<v>[^"'\n]+)["']"#,
    ),
    // Statements of SQL.
    (
        "password",
        "'",
        ValueCheck::Any,
        r"(?i)\b(?:identified(?:\s+with\s+[A-Za-z0-9_]+)?\s+by(?:\s+password)?|(?:with|encrypted|role|user)\s+(?:[A-Za-z0-9_]+\s+)*?password)\s+'(?P<v>[^'\n]+)'",
    ),
    // Lines of .netrc, redis.conf and slapd.conf.
    ("password", "login", ValueCheck::Any, r"\blogin\s+\S+\s+password\s+(?P<v>\S+)"),
    (
        "password",
        "a",
        ValueCheck::NotName,
        r"(?im)^\s*(?:requirepass|masterauth|rootpw|bindpw|password|r[ow]community)[ \t]+(?P<v>[^\s:=]\S{5,})[ \t]*$",
    ),
    // Lists of users of PgBouncer, Postfix and Redis, the log of Redis, the clients of ZooKeeper, Db2 and RabbitMQ, and a file
    // of OpenVPN.
    ("password", "\" \"", ValueCheck::Random, r#"(?m)^"[^"\s]+" "(?P<v>[^"\s]+)"\s*$"#),
    (
        "password",
        ":",
        ValueCheck::Random,
        r"(?m)^\[[^\s\]]+\](?::[0-9]+)?[ \t]+[A-Za-z0-9_.@-]+:(?P<v>[^\s:/@]{12,})[ \t]*$",
    ),
    ("password", " >", ValueCheck::Any, r"(?m)\buser[ \t]+\S+[ \t]+(?:[^\s>]+[ \t]+)*>(?P<v>\S+)"),
    ("password", "using", ValueCheck::Any, r"(?i)\buser[ \t]+\S+[ \t]+using[ \t]+(?P<v>\S+)"),
    ("password", "AUTH", ValueCheck::Any, r#""AUTH"(?: "[^"]*")? "(?P<v>[^"]+)""#),
    ("password", "digest", ValueCheck::Any, r"\bdigest[ \t]+[A-Za-z0-9_.-]+:(?P<v>[^\s:]+)"),
    (
        "password",
        "rabbitmqctl",
        ValueCheck::Any,
        r"\brabbitmqctl[ \t]+(?:add_user|change_password)[ \t]+\S+[ \t]+(?P<v>\S+)",
    ),
    ("password", "<auth-user-pass>", ValueCheck::Any, r"<auth-user-pass>\s+\S+\s+(?P<v>\S+)\s"),
    // A sentence that says the value.
    (
        "password",
        "p",
        ValueCheck::HasDigit,
        r#"(?i)\b(?:password|passphrase|token|secret)\s+(?:is|was|set to)(?::|\s)\s*["'`]?(?P<v>[^\s"'`]{6,})"#,
    ),
    // A sentence that announces the value on a line of its own.
    (
        "password",
        ":\n",
        ValueCheck::Random,
        r"(?im)\b(?:password|passphrase|token|secret)\b[^\n]{0,80}:[ \t]*\r?\n(?:[ \t]*\r?\n)?[ \t]*(?P<v>\S{12,})[ \t]*\r?$",
    ),
    ("bearer", "e", ValueCheck::NotName, r"\b(?i:bearer|basic)[ \t]+(?P<v>[A-Za-z0-9_./+=~-]{12,})"),
];

static PATTERNS: LazyLock<Vec<Regex>> =
    LazyLock::new(|| ADDRESS_PATTERNS.iter().map(|(_, _, _, pattern)| compile_pattern(pattern)).collect());

/// Adds credentials in addresses and in statements to `found`.
pub(super) fn find_address_credentials(text: &str, found: &mut Vec<FoundSecret>) {
    for ((key, required, check, _), pattern) in ADDRESS_PATTERNS.iter().zip(&*PATTERNS) {
        if !text.contains(required) {
            continue;
        }
        for captures in pattern.captures_iter(text) {
            let Some(value) = captures.name("v") else { continue };
            let content = value.as_str().trim_end_matches([',', ';', '.']);
            let is_secret = !is_plain_value(content)
                && match check {
                    ValueCheck::Any => true,
                    ValueCheck::NotName => {
                        content.bytes().any(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
                            && !is_name_like(content)
                            && !content.bytes().all(|b| b.is_ascii_digit() || b == b'.')
                            && !content.starts_with("sha256")
                    }
                    ValueCheck::Named => captures.name("k").is_some_and(|name| {
                        is_secret_value(rate_secret_name(name.as_str()), content, PairContext::Assignment)
                    }),
                    ValueCheck::HasDigit => {
                        content.bytes().any(|b| b.is_ascii_digit()) && content.bytes().any(|b| b.is_ascii_alphabetic())
                    }
                    ValueCheck::Random => looks_random(content),
                };
            if is_secret {
                let reach = if looks_random(content) { SecretReach::Session } else { SecretReach::InPlace };
                found.push(FoundSecret::plain(value.start()..value.start() + content.len(), *key, reach));
            }
        }
    }
}
