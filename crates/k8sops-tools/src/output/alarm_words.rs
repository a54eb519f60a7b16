//! Words and states by which an output says that something is wrong.

use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, MatchKind};

/// Longest beginning of a text in bytes that is searched.
const MAX_SEARCHED_BYTES: usize = 4_000;

/// Parts of words that stand for a fault wherever they occur.
const FAULT_WORDS: &[&str] = &[
    "error",
    "fail",
    "fatal",
    "panic",
    "exception",
    "oomkill",
    "out of memory",
    "killed",
    "refused",
    "denied",
    "unhealthy",
    "crash",
    "timeout",
    "timed out",
    "time out",
    "critical",
    "traceback",
    "segfault",
    "segmentation",
    "evict",
    "backoff",
    "back-off",
    "unable",
    "cannot",
    "can't",
    "could not",
    "couldn't",
    "exceed",
    "degraded",
    "outofsync",
    "insufficient",
    "not found",
    "notfound",
    "no such",
    "expired",
    "pressure",
    "unauthorized",
    "forbidden",
    "unreachable",
    "unavailable",
    "reset by peer",
    "broken pipe",
    "deadlock",
    "corrupt",
    "mismatch",
    "rejected",
    "abort",
    "throttl",
    "read-only file",
    "no space left",
    "too many",
    "invalid",
    "lost",
    "not ready",
    "notready",
    "imagepull",
    "stalled",
    "unschedulable",
    "unknown host",
    "nxdomain",
    "servfail",
    "no route",
    "x509",
    "violat",
    "conflict",
    "duplicate",
    "missing",
    "preempt",
    "drain",
    "stuck",
    "leak",
    "overload",
    "backpressure",
    "unexpected",
    "not match",
    "did not",
    "doesn't",
    "does not",
    "no endpoints",
    "sigterm",
    "sigkill",
    "terminated",
    "disconnect",
    "syntax",
];
/// The word of a log level below an error.
const WARNING_WORDS: &[&str] =
    &["warn", "pending", "unknown", "retry", "slow", "deprecated", "terminating", "suspended"];

static WORDS: LazyLock<AhoCorasick> = LazyLock::new(|| {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .match_kind(MatchKind::LeftmostFirst)
        .build(FAULT_WORDS.iter().chain(WARNING_WORDS))
        .expect("the words are a valid automaton")
});

/// How wrong a text sounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AlarmLevel {
    None,
    Warning,
    Fault,
}

/// Returns how wrong a text sounds. `0 errors`, `error=nil` and the like do not.
pub(super) fn alarm_level(text: &str) -> AlarmLevel {
    let text = &text[..text.floor_char_boundary(MAX_SEARCHED_BYTES)];
    let mut level = AlarmLevel::None;
    for found in WORDS.find_iter(text) {
        if is_negated(text, found.start(), found.end()) {
            continue;
        }
        if found.pattern().as_usize() < FAULT_WORDS.len() {
            return AlarmLevel::Fault;
        }
        level = AlarmLevel::Warning;
    }
    level
}

/// Returns whether the word at a position is said not to apply: `no error`, `0 failed`, `errors=0`, `error: <nil>`.
fn is_negated(text: &str, start: usize, end: usize) -> bool {
    let before = text[..start].trim_end_matches([' ', '"', '_', '-']);
    let word_before = before.rsplit(|char: char| !char.is_alphanumeric()).next().unwrap_or_default();
    if matches!(word_before, "0" | "no" | "No" | "NO" | "without" | "zero" | "non") {
        return true;
    }
    // The rest of the word, then what stands between it and its value.
    let after = text[end..].trim_start_matches(|char: char| char.is_alphanumeric() || matches!(char, '_' | '"' | '-'));
    let Some(value) = after.strip_prefix([':', '=']) else { return false };
    let value = value.trim_start_matches([' ', '"']);
    let value_end = value.find([' ', '"', ',', '}', ';', '\n']).unwrap_or(value.len());
    matches!(
        &value[..value_end],
        "" | "0" | "0%" | "0.0" | "nil" | "<nil>" | "null" | "none" | "None" | "<none>" | "false" | "[]"
    )
}

/// Returns whether a value says that the thing which its path names is not in order: `Ready=False`, `exitCode=137`.
pub(super) fn is_bad_state(path: &str, value: &str) -> bool {
    let last = path.rsplit(['.', '{']).next().unwrap_or(path).trim_end_matches(['}', ']', '[']).to_ascii_lowercase();
    let is_false = value.eq_ignore_ascii_case("false");
    let is_true = value.eq_ignore_ascii_case("true");
    if path.ends_with('}') && (is_false || is_true || value == "Unknown") {
        // A condition: its type says whether it is bad to be true.
        let names_fault =
            ["pressure", "unavailable", "degraded", "fail", "stalled", "unhealthy", "error", "conflict", "dangl"]
                .iter()
                .any(|word| last.contains(word));
        return if names_fault { is_true } else { !is_true };
    }
    match last.as_str() {
        "ready" | "available" | "healthy" | "synced" | "started" | "succeeded" | "up" => is_false || value == "0",
        "exitcode" | "exit_code" => value != "0",
        "deletiontimestamp" => value != "null",
        "phase" | "status" | "state" | "health" => {
            matches!(value, "Pending" | "Unknown" | "Lost" | "Terminating" | "Released" | "Missing" | "down" | "firing")
        }
        "suspend" | "suspended" | "unschedulable" | "paused" => is_true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negated_words_are_no_alarm() {
        for text in
            ["0 errors", "no error", "errors=0", "error: <nil>", "\"failed\": 0,", "err=nil", "failure_count=0 ok"]
        {
            assert_eq!(alarm_level(text), AlarmLevel::None, "{text}");
        }
        for text in ["error: disk", "12 errors", "errors=3", "write /x: read-only file system", "OOMKilled"] {
            assert_eq!(alarm_level(text), AlarmLevel::Fault, "{text}");
        }
        assert_eq!(alarm_level("WARN queue is long"), AlarmLevel::Warning);
    }

    #[test]
    fn conditions_are_judged_by_their_type() {
        for (path, value, is_bad) in [
            ("status.conditions{Ready}", "False", true),
            ("status.conditions{Ready}", "True", false),
            ("status.conditions{DiskPressure}", "True", true),
            ("status.conditions{DiskPressure}", "False", false),
            ("status.containerStatuses[].ready", "false", true),
            ("status.containerStatuses[].lastState.terminated.exitCode", "137", true),
            ("status.phase", "Running", false),
            ("metadata.deletionTimestamp", "2026-11-28T02:00:00Z", true),
            ("spec.enabled", "false", false),
        ] {
            assert_eq!(is_bad_state(path, value), is_bad, "{path}={value}");
        }
    }
}
