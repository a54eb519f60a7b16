//! What a value looks like: a secret, or one of the many things that stand behind the name of a secret and are none.

use std::sync::LazyLock;

use regex::Regex;

use super::{
    placeholder::{PLACEHOLDER_PREFIX, is_only_placeholders},
    secret_names::SecretNameLevel,
    word_set::{WordSet, word_set},
};

/// Where a name and its value are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PairContext {
    /// An assignment, a field of JSON, or a line of its own.
    Assignment,
    /// A colon in the middle of a line, which may be a sentence.
    Sentence,
}

/// Shortest value, and shortest part of one, that can look random.
const MIN_RANDOM_LEN: usize = 12;
/// Shortest part that can look random by its capitals alone.
const MIN_MIXED_CASE_LEN: usize = 16;
/// Shortest part that looks random by a few changes of case in it; a shorter one needs more of them.
const MIN_HUMPED_LEN: usize = 14;
/// Least share of capitals in generated letters, in percent. Camel case has one capital in four letters or fewer.
const MIN_MIXED_PERCENT: usize = 32;
/// Longest number that is not taken as a password.
const MAX_NUMBER_LEN: usize = 5;

/// Words that may follow the name of a secret without being one: switches, states, authorization schemes, and the first words
/// of a sentence.
static PLAIN_WORDS: LazyLock<WordSet> = LazyLock::new(|| {
    word_set(
        "true false null nil none undefined unset empty yes no on off enabled disabled opaque string str bytes int number \
         boolean object array required optional missing invalid valid expired expires revoked rotated rejected accepted \
         not is was are were be been will would could should must can cannot may for from in of and or the a an to at by \
         on with without has have had this that it no unable unauthorized unauthenticated forbidden denied error errors \
         failed failure failing fails fail success succeeded ok passed passing skipped skip bearer basic negotiate digest \
         apikey hidden masked redacted omitted filtered scrubbed sensitive unknown default pending ready running \
         healthy degraded progressing suspended synced outofsync notready available unavailable active inactive bound \
         released terminating completed succeeded crashloopbackoff imagepullbackoff errimagepull containercreating \
         createcontainerconfigerror evicted oomkilled clusterip loadbalancer nodeport externalname always never \
         ifnotpresent found created updated deleted deleting creating updating refreshing refreshed reconciled \
         provided specified configured changed unchanged set generated authentication authorization \
         permission access refused mismatch wrong bad incorrect exists matches verified checking using loading loaded \
         reading fetched fetching retrieved retrieving renewed renewing too only must should never",
    )
});
/// Words that occur in sentences and not in passphrases.
static SENTENCE_WORDS: LazyLock<WordSet> = LazyLock::new(|| {
    word_set(
        "not is was are were be been will for from in of and or the a an to at by on with without has have cannot can could \
         this that it no failed error invalid missing expired required retrying forbidden denied found does do did must too short minimum maximum least characters \
         changed updated incorrect expiry",
    )
});

/// Values that are references, masks or notations, by their beginning in lower case.
const REFERENCE_PREFIXES: &[&str] = &[
    "<",
    "$(",
    "${",
    "$env:",
    "$ansible_vault",
    "{{",
    "%(",
    "%{",
    "{cipher}",
    "enc[",
    "enc(",
    "env:",
    "file:",
    "ssm:",
    "vault:",
    "ref+",
    "arn:aws",
    "op:",
    "keyvault:",
    "secretkeyref",
    "valuefrom",
    "@microsoft.keyvault",
    "!ref",
    "!vault",
    "!sub",
    "!secret",
    "os.environ",
    "process.env",
    "(sensitive",
    "(known",
    "sha256:",
    "sha512:",
    "sha1:",
    "md5:",
];

/// Ends of names of Secrets and of their keys, which stand where a value is expected: `password: db-password`.
static REFERENCE_ENDS: LazyLock<WordSet> =
    LazyLock::new(|| word_set("password passwd secret secrets token creds credentials key auth"));
/// Words before such an end that make it a password of a careless person.
static CARELESS_WORDS: LazyLock<WordSet> =
    LazyLock::new(|| word_set("super top my very your secret default dev test admin some our the"));
/// Names of algorithms.
static ALGORITHMS: LazyLock<WordSet> = LazyLock::new(|| {
    word_set(
        "scram-sha-256 scram-sha-512 scram-sha-1 pbkdf2 argon2 argon2id argon2i bcrypt scrypt sha1 sha-1 sha256 sha-256 sha384 \
         sha512 sha-512 md5 hs256 hs384 hs512 rs256 rs384 rs512 es256 es384 es512 ps256 eddsa ed25519 aes256 aes-256-gcm \
         aes-128-cbc aes-256-cbc sha512crypt sha256crypt pbkdf2-sha256 pbkdf2-sha512 caching_sha2_password \
         mysql_native_password rsa-2048 rsa-4096 rsa4096 rsa2048 p-256 x509 oauth2 oauth2.0",
    )
});

struct ValuePatterns {
    /// Sizes, durations, dates, times and versions.
    measure: Regex,
    /// What documentation writes in the place of a value.
    sample: Regex,
    /// A variable, a field of an object or a call in a program.
    expression: Regex,
    uuid: Regex,
    address: Regex,
}

static PATTERNS: LazyLock<ValuePatterns> = LazyLock::new(|| {
    let regex = |pattern: &str| Regex::new(pattern).expect("a constant pattern");
    ValuePatterns {
        measure: regex(
            r"(?i)^(?:[0-9.]+ ?(?:bytes?|[kmgt]i?b?|b|%)|(?:[0-9.]+(?:ns|us|ms|[smhdw]))+|[0-9]+ (?:seconds?|minutes?|hours?|days?)|[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[t ].*)?|[\^~>=<v]*[0-9]{1,4}(?:\.[0-9]{1,4}){1,3})$",
        ),
        sample: regex(
            r"(?i)^(?:(?:your|insert|enter|put|replace|placeholder|todo|fixme|dummy|sample)[-_ ].*|.*[-_ ]here|(?:value|val|foo|bar|baz|xyz|example|sample)[0-9]{0,3}|(?-i:[A-Z_]*(?:PASSWORD|PASS|TOKEN|SECRET|KEY|CREDENTIALS?)[A-Z_]*))$",
        ),
        expression: regex(
            r"^(?:\$[A-Za-z_][A-Za-z0-9_]*|%[A-Za-z_]+%|[A-Za-z_.]+\[[A-Za-z_., |]*\]?|![A-Z][A-Za-z:]+ .*|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*){1,6}\[?|[A-Za-z_][A-Za-z_.]*\(.*\)?)$",
        ),
        uuid: regex(r"(?i)[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"),
        address: regex(r"^(?:[A-Za-z][A-Za-z0-9+.-]*://|//[a-z]|[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?:[:/]|$))"),
    }
});

/// Returns whether a value behind a name of this level is a secret.
pub(super) fn is_secret_value(level: SecretNameLevel, value: &str, context: PairContext) -> bool {
    let value = value.trim();
    if level == SecretNameLevel::Unlikely || is_plain_value(value) {
        return false;
    }
    let is_random = looks_random(value);
    if is_random {
        return true;
    }
    let is_number = value.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b',' | b'-' | b'+'));
    let has_digit = value.bytes().any(|b| b.is_ascii_digit());
    let is_word = is_word(value);
    let is_sentence = is_sentence(value);
    match (level, context) {
        (SecretNameLevel::Certain, PairContext::Assignment) => {
            !is_sentence && (!is_number || value.len() > MAX_NUMBER_LEN)
        }
        (SecretNameLevel::Certain, PairContext::Sentence) => {
            !is_sentence
                && !is_number
                && !value.contains(' ')
                && value.len() >= 4
                && (has_digit || !is_name_like(value))
                && !is_word
        }
        (SecretNameLevel::Likely, PairContext::Assignment) => {
            !value.contains(' ') && !is_number && !is_word && !is_name_like(value)
        }
        (SecretNameLevel::Likely, PairContext::Sentence) => looks_like_token(value),
        _ => false,
    }
}

/// Returns whether a text behind the name of a secret is a reference, a mask, a state, a path or a measure.
pub(super) fn is_plain_value(value: &str) -> bool {
    let value = value.trim();
    let bare = value.trim_end_matches(['.', ':', ',', ';', '!']);
    if bare.is_empty() || is_only_placeholders(value) || value.starts_with(PLACEHOLDER_PREFIX) {
        return true;
    }
    let lower = bare.get(..24.min(bare.len())).unwrap_or(bare).to_ascii_lowercase();
    let first_word = lower.split([' ', ',', ';', ':', '.']).next().unwrap_or_default();
    let is_one_word = first_word.len() == bare.len();
    let starts_like_sentence = PLAIN_WORDS.contains(first_word) && (is_one_word || bare.contains(' '));
    let patterns = &*PATTERNS;
    starts_like_sentence
        || is_mask(bare)
        || ALGORITHMS.contains(lower.as_str())
        || is_reference_name(bare)
        || is_path(bare)
        || REFERENCE_PREFIXES.iter().any(|prefix| lower.starts_with(prefix))
        || patterns.address.is_match(bare)
        || patterns.measure.is_match(bare)
        || patterns.sample.is_match(bare)
        || (patterns.expression.is_match(bare) && !looks_random(bare))
        // A regular expression.
        || ["[A-Z", "[a-z", "[0-9"].iter().any(|class| bare.contains(class))
}

/// Returns whether a value is the name of a Secret or of a key in it.
fn is_reference_name(value: &str) -> bool {
    let Some((before, end)) = value.rsplit_once(['-', '.', '/', '_']) else { return false };
    let is_careless = || before.split(['-', '.', '/', '_']).any(|word| CARELESS_WORDS.contains(word));
    REFERENCE_ENDS.contains(end) && is_name_like(value) && !is_careless()
}

/// Returns whether a value is one word: letters in one case, or in camel case.
fn is_word(value: &str) -> bool {
    let upper = value.bytes().filter(u8::is_ascii_uppercase).count();
    value.bytes().all(|b| b.is_ascii_alphabetic())
        && (upper == value.len()
            || upper * 100 < value.len() * MIN_MIXED_PERCENT
            || value[1..].bytes().all(|b| b.is_ascii_lowercase()))
}

/// Returns whether a value is already unreadable.
pub(super) fn is_mask(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    value.bytes().filter(|byte| *byte == b'*').count() * 2 >= value.len()
        || value.contains('\u{2022}')
        || value.contains("...")
        || value.contains('\u{2026}')
        || value.contains("XXXX")
        || lower.contains("redacted")
        || lower.contains("omitted")
        || lower.contains("[filtered]")
        || lower.contains("[hidden]")
        || value
            .bytes()
            .all(|b| matches!(b, b'*' | b'x' | b'X' | b'.' | b'-' | b'#' | b'_' | b'|' | b'>' | b'+' | b'~' | b'='))
}

/// Returns whether a value looks like the path of a file.
fn is_path(value: &str) -> bool {
    let begins =
        value.starts_with('/') && !value.starts_with("//") || value.starts_with("./") || value.starts_with("~/");
    let is_windows = value.as_bytes().get(1..3) == Some(b":\\");
    begins && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-@,: ".contains(&b)) && !looks_random(value)
        || is_windows
}

fn is_sentence(value: &str) -> bool {
    value.contains(' ')
        && value.split_whitespace().any(|word| {
            let word = word.trim_matches(|char: char| !char.is_ascii_alphanumeric()).to_ascii_lowercase();
            SENTENCE_WORDS.contains(word.as_str())
        })
}

/// Returns whether a value looks like the name of an object: words in lower case, with short numbers and hashes behind them.
pub(super) fn is_name_like(value: &str) -> bool {
    let parts: Vec<&str> = value.split(['-', '.', '/', '_', ':', '@', ',']).collect();
    let has_letter = |part: &str| part.bytes().any(|b| b.is_ascii_lowercase());
    let is_part = |(at, part): (usize, &&str)| {
        let letters = part.trim_end_matches(|char: char| char.is_ascii_digit());
        let is_plain = part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        // A year is a number of four digits.
        let most_digits = if letters.is_empty() && at > 0 { 4 } else { 3 };
        let is_word = letters.bytes().all(|b| b.is_ascii_lowercase()) && part.len() - letters.len() <= most_digits;
        is_plain && (is_word || (at > 0 && part.len() <= 10 && has_letter(part)))
    };
    has_letter(parts[0]) && parts.iter().enumerate().all(is_part)
}

/// Returns whether a word mixes letters and digits as tokens do, and names of objects do not.
fn looks_like_token(value: &str) -> bool {
    let has = |accepts: fn(&u8) -> bool| value.as_bytes().iter().any(accepts);
    value.len() >= 8
        && !value.contains(' ')
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_alphabetic)
        && !is_name_like(value)
}

/// Returns whether a value looks as if it was generated: no word, no name, no identifier of an object.
pub(super) fn looks_random(value: &str) -> bool {
    if value.len() < MIN_RANDOM_LEN || value.contains([' ', '\n', '<', '{']) {
        return false;
    }
    let without_uuids = PATTERNS.uuid.replace_all(value, "");
    if without_uuids.len() < MIN_RANDOM_LEN {
        return false;
    }
    if without_uuids.split(|char: char| !char.is_ascii_alphanumeric()).any(is_random_run) {
        return true;
    }
    // A generated password may have a special character every few letters.
    let bytes = without_uuids.as_bytes();
    let count = |accepts: fn(&u8) -> bool| bytes.iter().filter(|byte| accepts(byte)).count();
    let changes = bytes.windows(2).filter(|pair| char_class(pair[0]) != char_class(pair[1])).count();
    count(u8::is_ascii_uppercase) >= 2
        && count(u8::is_ascii_lowercase) >= 2
        && count(u8::is_ascii_digit) >= 1
        && changes * 5 >= bytes.len() * 2
}

/// Returns whether letters and digits without a separator look generated.
fn is_random_run(run: &str) -> bool {
    if run.len() < MIN_RANDOM_LEN {
        return false;
    }
    let bytes = run.as_bytes();
    let mut seen = [false; 128];
    for byte in bytes {
        seen[usize::from(byte & 127)] = true;
    }
    if seen.iter().filter(|is_seen| **is_seen).count() < 7 {
        return false;
    }
    let switches = bytes.windows(2).filter(|pair| pair[0].is_ascii_digit() != pair[1].is_ascii_digit()).count();
    let letters = bytes.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    let upper = bytes.iter().filter(|byte| byte.is_ascii_uppercase()).count();
    // A word in capitals has few changes of case; base64 of a text has many capitals and many changes.
    let case_changes = bytes.windows(2).filter(|pair| char_class(pair[0]) != char_class(pair[1])).count();
    let most_upper = if case_changes * 4 >= run.len() { 85 } else { 70 };
    let is_mixed_case = run.len() >= MIN_MIXED_CASE_LEN
        && upper * 100 >= letters * MIN_MIXED_PERCENT
        && upper * 100 <= letters * most_upper;
    switches >= 3 || is_mixed_case || has_odd_humps(bytes)
}

/// Returns whether a run has more and shorter parts than camel case, measured at the identifiers of public code: `bT4kQ9…` has
/// one for every two letters, `getUserById` one for every four.
fn has_odd_humps(run: &[u8]) -> bool {
    let upper = run.iter().filter(|byte| byte.is_ascii_uppercase()).count();
    let lower = run.iter().filter(|byte| byte.is_ascii_lowercase()).count();
    let mut parts = 0_usize;
    let mut short_parts = 0_usize;
    let mut at = 0;
    while at < run.len() {
        let length =
            |accepts: fn(&u8) -> bool, from: usize| run[from..].iter().take_while(|byte| accepts(byte)).count();
        let capitals = length(u8::is_ascii_uppercase, at);
        let letters = length(u8::is_ascii_lowercase, at + capitals);
        let part = match (capitals, letters) {
            (0, 0) => length(u8::is_ascii_digit, at).max(1),
            (0 | 1, _) | (_, 0) => capitals + letters,
            // The last capital begins the next part.
            _ => capitals - 1,
        };
        parts += 1;
        short_parts += usize::from(part <= 2);
        at += part;
    }
    // A part for every 3.2 letters, or for every 2.6 of a short run.
    let has_many_parts = match run.len() < MIN_HUMPED_LEN {
        true => short_parts >= 4 && parts * 13 >= run.len() * 5,
        false => short_parts >= 3 && parts * 16 >= run.len() * 5,
    };
    upper >= 2 && lower >= 2 && has_many_parts
}

fn char_class(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' => 0,
        b'A'..=b'Z' => 1,
        b'0'..=b'9' => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_values_look_random() {
        for value in [
            "A9s4OULaKxNaIG8g5714tA76",
            "38caa7a24fbb2a85a69d06de2decb569",
            "kGtYQPwXzVBnMlKjaSDf",
            "tr0ub4dor3more9x8c7v",
            "a1B!c2D@e3F#g4H$",
            "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        ] {
            assert!(looks_random(value), "{value}");
        }
    }

    #[test]
    fn names_of_objects_do_not_look_random() {
        for value in [
            "payments-api-5d4f7c9b8d-x2x1q",
            "4b1f0c6e-1c57-4b5e-9d0a-7c1f2c1f9e11",
            "pvc-4b1f0c6e-1c57-4b5e-9d0a-7c1f2c1f9e11",
            "ip-10-0-1-12.eu-west-1.compute.internal",
            "CrashLoopBackOffImagePullBackOff",
            "sh.helm.release.v1.web.v3",
            "2026-11-01T00:00:00Z",
            "kube-root-ca.crt",
            "X-Request-Authentication-Header",
        ] {
            assert!(!looks_random(value), "{value}");
        }
        for value in
            ["db-creds", "prod/db-creds", "orders.created", "web-tls", "api-5d4f7c9b8d-x2x1q", "burst-100", "vault-kv2"]
        {
            assert!(is_name_like(value), "{value}");
        }
        for value in ["kubetoken-123456", "q1w2e3r4t5", "s3cr3t-9", "Tr0ub4dor", "tr0ub4dor-and-3-more"] {
            assert!(!is_name_like(value), "{value}");
        }
    }

    #[test]
    fn values_that_are_no_secrets_are_plain() {
        for value in [
            "24 bytes",
            "0 bytes",
            "900s",
            "1h30m",
            "/opt/MyApp",
            "<set to the key 'a' in secret 'b'>",
            "$DB_PASSWORD",
            "${DB_PASSWORD}",
            "{{ .Values.password }}",
            "PASSWORD",
            "your-token-here",
            "********",
            "[REDACTED]",
            "sk-...abcd",
            "not synced yet, retrying in 5s",
            "expired 3h ago",
            "https://login.example.com/oauth2/token",
            "2026-11-01T00:00:00Z",
            "CrashLoopBackOff",
            "config.password",
            "getenv(\"DB_PASSWORD\")",
            "ENC[AES256_GCM,data:abc]",
            "arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-AbCdEf",
        ] {
            assert!(is_plain_value(value), "{value}");
        }
        for value in ["hunter2", "postgres", "s3cr3t-9", "A9s4OULaKxNaIG8g5714tA76", "no1knows"] {
            assert!(!is_plain_value(value), "{value}");
        }
    }
}
