//! Secrets in the arguments of programs: the word behind `--password`, `-u user:password`, `-pX`.
//!
//! Arguments stand in command lines, in lists of YAML and JSON, and one a line in `kubectl describe`. All of these are read as
//! one sequence of words.

use std::{ops::Range, sync::LazyLock};

use super::{
    found_secret::{FoundSecret, SecretReach},
    secret_names::{SecretNameLevel, rate_secret_name},
    secret_values::{PairContext, is_name_like, is_plain_value, is_secret_value, looks_random},
    word_set::{WordSet, word_set},
};

/// Programs with a password behind `-p`, or joined with it.
static LOGIN_PROGRAMS: LazyLock<WordSet> = LazyLock::new(|| {
    word_set(
        "mysql mysqldump mysqladmin mysqlimport mysqlshow mysqlsh mariadb mariadb-dump mariadb-admin mongo mongosh mongodump \
         mongorestore mongoexport docker podman nerdctl helm oras crane skopeo buildah oc az sshpass cqlsh rabbitmqadmin \
         influx sqlcmd bcp mosquitto_pub mosquitto_sub kcadm.sh kinit isql arangosh clickhouse-client plink pscp zabbix_get \
         cockroach htpasswd nodetool solr gcrane regctl xtrabackup mariabackup iredis kafkacat vsql snowsql proxysql psexec psexec64 impdp expdp sqlldr bteq tdload",
    )
});
/// Programs with a password behind `-a`.
static AUTH_PROGRAMS: LazyLock<WordSet> =
    LazyLock::new(|| word_set("redis-cli redis-benchmark valkey-cli keydb-cli iredis"));
/// Programs with a password behind `-w`.
static BIND_PROGRAMS: LazyLock<WordSet> =
    LazyLock::new(|| word_set("ldapsearch ldapadd ldapmodify ldapdelete ldapwhoami ldappasswd ldapcompare"));
/// Subcommands that take a password, of programs that use `-p` for something else, too.
static LOGIN_COMMANDS: LazyLock<WordSet> = LazyLock::new(|| word_set("login registry auth"));
/// Programs for which `-p` means a port or a profile unless they log in.
static PORT_PROGRAMS: LazyLock<WordSet> =
    LazyLock::new(|| word_set("docker podman nerdctl helm oras crane skopeo buildah oc az gcrane regctl"));

/// A word and how it stands in the text.
struct ArgumentWord<'a> {
    text: &'a str,
    range: Range<usize>,
    /// Whether it is the first word of its line.
    is_first: bool,
    /// Whether it is the last word of its line.
    is_last: bool,
}

/// What the next word is.
enum ExpectedValue<'a> {
    /// The value of an option whose name sounds like a secret.
    Named(&'a str, SecretNameLevel),
    /// The password of a login.
    Password,
    /// Perhaps the password of the user that the command names.
    PossiblePassword,
    /// A user and a password.
    UserAndPassword,
}

/// Adds the secrets in arguments to `found`.
pub(super) fn find_argument_secrets(text: &str, found: &mut Vec<FoundSecret>) {
    if !text.contains('-') {
        return;
    }
    let mut program = "";
    let mut logs_in = false;
    let mut names_user = false;
    let mut expected: Option<(ExpectedValue<'_>, bool)> = None;
    for word in split_arguments(text) {
        if word.is_first && expected.as_ref().is_none_or(|(_, is_last)| !*is_last) {
            expected = None;
        }
        if let Some((value, _)) = expected.take()
            && let Some(range) = match_expected(text, &value, &word)
        {
            let key = match value {
                ExpectedValue::Named(name, _) => name,
                ExpectedValue::Password | ExpectedValue::PossiblePassword | ExpectedValue::UserAndPassword => {
                    "password"
                }
            };
            push_argument(text, range, key, found);
            continue;
        }
        let base = word.text.rsplit('/').next().unwrap_or_default();
        if is_program(base) {
            program = base;
            logs_in = !PORT_PROGRAMS.contains(base);
        } else if matches!(word.text, "|" | ";" | "&&" | "||") {
            program = "";
            names_user = false;
        } else if LOGIN_COMMANDS.contains(word.text) {
            logs_in = true;
        }
        let value = match read_option(text, &word, program, logs_in, found) {
            None if names_user && matches!(word.text, "-p" | "-P") => Some(ExpectedValue::PossiblePassword),
            value => value,
        };
        names_user |= matches!(value, Some(ExpectedValue::UserAndPassword)) || word.text == "--username";
        expected = value.map(|value| (value, word.is_last && word.is_first));
    }
}

fn is_program(word: &str) -> bool {
    LOGIN_PROGRAMS.contains(word) || AUTH_PROGRAMS.contains(word) || BIND_PROGRAMS.contains(word)
}

/// Returns what the word behind an option is. A password that is joined with its option is added to `found`.
fn read_option<'a>(
    text: &str,
    word: &ArgumentWord<'a>,
    program: &str,
    logs_in: bool,
    found: &mut Vec<FoundSecret>,
) -> Option<ExpectedValue<'a>> {
    let option = word.text;
    match option {
        "-u" | "--user" | "-U" | "--proxy-user" | "--userpwd" | "--credentials" => {
            return Some(ExpectedValue::UserAndPassword);
        }
        "-passin" | "-passout" | "-pass" => return Some(ExpectedValue::Named("password", SecretNameLevel::Certain)),
        "-p" | "-P" if logs_in && LOGIN_PROGRAMS.contains(program) => return Some(ExpectedValue::Password),
        "-a" if AUTH_PROGRAMS.contains(program) => return Some(ExpectedValue::Password),
        "-w" if BIND_PROGRAMS.contains(program) => return Some(ExpectedValue::Password),
        _ => {}
    }
    if let Some(joined) = option.strip_prefix("-p").filter(|joined| !joined.is_empty() && !joined.starts_with('=')) {
        let takes_joined = program.starts_with("my") || program.starts_with("maria") || program == "sshpass";
        if takes_joined && !joined.starts_with("ort") && !joined.starts_with("ass") && !is_plain_value(joined) {
            push_argument(text, word.range.end - joined.len()..word.range.end, "password", found);
            return None;
        }
    }
    if let Some(joined) = option.strip_prefix("-p=")
        && logs_in
        && LOGIN_PROGRAMS.contains(program)
        && !is_plain_value(joined)
    {
        push_argument(text, word.range.end - joined.len()..word.range.end, "password", found);
        return None;
    }
    if let Some(joined) = option.strip_prefix("-w")
        && BIND_PROGRAMS.contains(program)
        && !is_plain_value(joined)
    {
        push_argument(text, word.range.end - joined.len()..word.range.end, "password", found);
        return None;
    }
    if let Some(joined) = option.strip_prefix("-u").filter(|joined| joined.contains(':')) {
        let at = joined.find(':')? + 1;
        if program.is_empty() && !is_plain_value(&joined[at..]) && !joined[at..].bytes().all(|b| b.is_ascii_digit()) {
            push_argument(text, word.range.end - joined.len() + at..word.range.end, "password", found);
        }
        return None;
    }
    let name = option.strip_prefix("--").or_else(|| option.strip_prefix('-').filter(|name| name.len() > 3))?;
    let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    let level = if is_name { rate_secret_name(name) } else { SecretNameLevel::Unlikely };
    (level > SecretNameLevel::Unlikely).then_some(ExpectedValue::Named(name, level))
}

/// Returns the secret in a word that stands where a value is expected.
fn match_expected(text: &str, expected: &ExpectedValue<'_>, word: &ArgumentWord<'_>) -> Option<Range<usize>> {
    let value = word.text;
    if value.starts_with('-') && value.len() > 1 && !looks_random(value) {
        return None;
    }
    match expected {
        ExpectedValue::Named(_, level) => {
            // OpenSSL says where a password comes from.
            let source = value.strip_prefix("pass:").map_or(0, |_| "pass:".len());
            if ["env:", "file:", "fd:", "stdin"].iter().any(|source| value.starts_with(source)) {
                return None;
            }
            let secret = &value[source..];
            is_secret_value(*level, secret, PairContext::Assignment).then(|| word.range.start + source..word.range.end)
        }
        ExpectedValue::Password => {
            // `-P` is a port for some programs.
            let is_port = value.len() <= 5 && value.bytes().all(|b| b.is_ascii_digit());
            (!is_port && !is_plain_value(value)).then(|| word.range.clone())
        }
        ExpectedValue::PossiblePassword => {
            let has = |accepts: fn(&u8) -> bool| value.as_bytes().iter().any(accepts);
            let is_secret = has(u8::is_ascii_digit)
                && has(u8::is_ascii_alphabetic)
                && !value.contains([':', '/', '.', '='])
                && !is_name_like(value)
                && !is_plain_value(value);
            is_secret.then(|| word.range.clone())
        }
        ExpectedValue::UserAndPassword => {
            let (user, secret) = value.split_once(':')?;
            let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
            let is_address = text[word.range.end..].starts_with("//") || secret.starts_with("//");
            let is_secret =
                !user.is_empty() && !is_number(user) && !is_number(secret) && !is_address && !is_plain_value(secret);
            is_secret.then(|| word.range.end - secret.len()..word.range.end)
        }
    }
}

/// Returns whether a word is the name of an argument in the audit log of Linux: `a2="value"`.
fn is_audit_field(word: &str) -> bool {
    let number = word.strip_prefix('a').and_then(|rest| rest.strip_suffix('='));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn push_argument(text: &str, range: Range<usize>, key: &str, found: &mut Vec<FoundSecret>) {
    let reach = if looks_random(&text[range.clone()]) { SecretReach::Session } else { SecretReach::InPlace };
    if !range.is_empty() {
        found.push(FoundSecret::plain(range, key, reach));
    }
}

/// Splits a text into words. Quotes, and brackets and commas around words, are not part of them.
fn split_arguments(text: &str) -> impl Iterator<Item = ArgumentWord<'_>> {
    let bytes = text.as_bytes();
    let is_separator = |byte: u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'"' | b'\'' | b'`' | b'\\');
    let mut at = 0;
    let mut is_line_begun = false;
    std::iter::from_fn(move || {
        loop {
            while at < bytes.len() && is_separator(bytes[at]) {
                is_line_begun &= bytes[at] != b'\n';
                at += 1;
            }
            if at >= bytes.len() {
                return None;
            }
            let start = at;
            // A word in quotes may contain what separates words elsewhere, but no blanks.
            while at < bytes.len() && !is_separator(bytes[at]) {
                at += 1;
            }
            let is_quoted = start > 0
                && at < bytes.len()
                && bytes[start - 1] == bytes[at]
                && !matches!(bytes[at], b' ' | b'\t' | b'\n');
            let mut range = start..at;
            if !is_quoted {
                let word = &text[range.clone()];
                let trimmed = word.trim_start_matches(['[', '(', '{', ',']);
                range.start = range.end - trimmed.len();
                let trimmed = trimmed.trim_end_matches([',', ']', ')', '}']);
                range.end = range.start + trimmed.len();
            }
            if range.is_empty() || matches!(&text[range.clone()], "-" | ",") || is_audit_field(&text[range.clone()]) {
                continue;
            }
            let is_first = !std::mem::replace(&mut is_line_begun, true);
            let rest =
                text[at..].bytes().find(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'"' | b'\'' | b',' | b'\\'));
            let is_last = rest.is_none_or(|byte| byte == b'\n');
            return Some(ArgumentWord { text: &text[range.clone()], range, is_first, is_last });
        }
    })
}
