//! The forms in which a value may stand in a text, and which values are too common to be looked for.

use std::fmt::Write;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};

/// A shorter value is masked where it is known to be one, and nowhere else: it stands in too many words.
const MIN_ELSEWHERE: usize = 6;
/// Lines of a value of several lines that are looked for.
const MIN_LINE: usize = 12;
/// Values that are no secret by themselves. Masked where they are known to be one, and nowhere else.
const TRIVIAL: &[&str] = &[
    "admin",
    "administrator",
    "changeme",
    "cluster",
    "database",
    "default",
    "disable",
    "disabled",
    "enable",
    "enabled",
    "example",
    "false",
    "guest",
    "kubernetes",
    "localhost",
    "mariadb",
    "master",
    "mongodb",
    "mysql",
    "none",
    "opaque",
    "password",
    "postgres",
    "postgresql",
    "production",
    "public",
    "rabbitmq",
    "redis",
    "replica",
    "require",
    "required",
    "secret",
    "service",
    "staging",
    "system",
    "target",
    "token",
    "true",
    "username",
    "verify-full",
];
/// Keys whose values are rather names than secrets, when they look like names.
const NAMES: &[&str] = &[
    "user",
    "username",
    "host",
    "hostname",
    "database",
    "db",
    "dbname",
    "namespace",
    "port",
    "name",
    "region",
    "bucket",
    "endpoint",
    "url",
    "ca.crt",
    "tls.crt",
];

/// The plain value behind a base64 form, if it is text.
pub(super) fn decoded(base64: &str) -> Option<String> {
    let compact: String = base64.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    if compact.len() < 2 {
        return None;
    }
    let bytes = [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD].iter().find_map(|e| e.decode(&compact).ok());
    String::from_utf8(bytes?).ok()
}

/// The usual base64 form of a value.
pub(super) fn encoded(plain: &str) -> String {
    STANDARD.encode(plain)
}

/// Whether a value is looked for in other places than the one where it was found, under this key.
pub(super) fn is_worth_looking_for(key: &str, plain: &str) -> bool {
    let plain = plain.trim();
    let lower = plain.to_ascii_lowercase();
    let like_a_name = || plain.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._:/".contains(&b));
    !(plain.len() < MIN_ELSEWHERE
        || TRIVIAL.contains(&lower.as_str())
        || plain.starts_with("-----BEGIN CERTIFICATE")
        || plain.starts_with("-----BEGIN PUBLIC")
        || (NAMES.iter().any(|name| key.eq_ignore_ascii_case(name)) && like_a_name()))
}

/// All forms of a value that is looked for: plain ones, and base64 ones.
pub(super) fn of(plain: &str) -> (Vec<String>, Vec<String>) {
    let trimmed = plain.trim();
    let mut texts = vec![plain.to_owned(), trimmed.to_owned(), json_escaped(trimmed), url_encoded(trimmed)];
    texts.push(json_escaped(&json_escaped(trimmed)));
    if trimmed.contains('\n') {
        texts.extend(
            trimmed
                .lines()
                .map(str::trim)
                .filter(|l| l.len() >= MIN_LINE && !l.starts_with("-----"))
                .map(str::to_owned),
        );
    }
    texts.retain(|text| text.len() >= MIN_ELSEWHERE);
    texts.sort();
    texts.dedup();
    let mut encoded: Vec<String> = [plain, trimmed]
        .iter()
        .flat_map(|text| {
            [STANDARD.encode(text), STANDARD_NO_PAD.encode(text), URL_SAFE.encode(text), URL_SAFE_NO_PAD.encode(text)]
        })
        .collect();
    // `echo password | base64`, as many people make them.
    let with_newline = format!("{trimmed}\n");
    encoded.push(STANDARD.encode(&with_newline));
    encoded.sort();
    encoded.dedup();
    (texts, encoded)
}

fn json_escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_owned()
}

fn url_encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut url, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
        url
    })
}
