//! Words of a line, its time and its level.

use super::quantity::is_time;

/// Tokens at the beginning of a line among which its time is looked for.
const MAX_TIME_TOKENS: usize = 8;

/// A word of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LineToken<'a> {
    pub(super) text: &'a str,
    /// The word before `=` or `:`, which names this one.
    pub(super) name: Option<&'a str>,
}

impl LineToken<'_> {
    /// Returns whether the word may differ between lines of one kind.
    pub(super) fn is_variable(&self) -> bool {
        self.text.bytes().any(|byte| byte.is_ascii_digit())
    }

    /// Returns whether the word is a path or a URL.
    pub(super) fn is_path(&self) -> bool {
        self.text.starts_with('/') && self.text.len() > 1 || self.text.contains("://")
    }

    /// Returns whether the word is a time or a date.
    pub(super) fn is_time(&self) -> bool {
        is_clock(self.text) || is_date(self.text)
    }
}

/// Returns the words of a line. Numbers with their units, addresses, paths and ids are one word.
pub(super) fn split_tokens(line: &str) -> impl Iterator<Item = LineToken<'_>> {
    let is_separator = |char: char| {
        char.is_whitespace()
            || matches!(char, '"' | '\'' | '(' | ')' | '[' | ']' | '{' | '}' | '<' | '>' | ',' | ';' | '=' | '|' | '`')
    };
    let mut name = None;
    let mut rest = line;
    std::iter::from_fn(move || {
        loop {
            rest = rest.trim_start_matches(is_separator);
            if rest.is_empty() {
                return None;
            }
            let end = rest.find(is_separator).unwrap_or(rest.len());
            let word = &rest[..end];
            let names_next = rest[end..].starts_with('=')
                || word.ends_with(':')
                || rest[end..].strip_prefix('"').is_some_and(|after| after.starts_with(':'));
            rest = &rest[end..];
            let text = word.trim_end_matches([':', '.', '!']).trim_start_matches(':');
            if text.is_empty() {
                continue;
            }
            let token = LineToken { text, name: name.take() };
            name = names_next.then_some(text);
            return Some(token);
        }
    })
}

/// Returns the time of a line as the line has it.
pub(super) fn line_time(line: &str) -> Option<&str> {
    let beginning = &line[..line.floor_char_boundary(400)];
    let mut date: Option<&str> = None;
    for token in split_tokens(beginning).take(MAX_TIME_TOKENS) {
        if is_time(token.text) || is_clock(token.text) {
            let end = token.text.as_ptr() as usize - line.as_ptr() as usize + token.text.len();
            let start = date.map_or(token.text, |date| date).as_ptr() as usize - line.as_ptr() as usize;
            return line.get(start..end);
        }
        date = is_date(token.text).then_some(token.text);
    }
    None
}

/// Returns whether a word is a time of day, with or without a date: `10:00:01`, `29/Nov/2026:10:00:00`, `10:00:01.123Z`.
fn is_clock(word: &str) -> bool {
    let mut parts = word.rsplitn(3, ':');
    let second = parts.next().unwrap_or_default();
    let minute = parts.next().unwrap_or_default();
    let hour = parts.next().unwrap_or_default();
    let starts_with_two_digits = |text: &str| text.len() >= 2 && text.bytes().take(2).all(|byte| byte.is_ascii_digit());
    starts_with_two_digits(second)
        && minute.len() == 2
        && starts_with_two_digits(minute)
        && hour.bytes().rev().take(2).filter(u8::is_ascii_digit).count() == 2
}

/// Returns whether a word is a date: `2026-11-29` or `2026/11/29`.
fn is_date(word: &str) -> bool {
    let bytes = word.as_bytes();
    bytes.len() == 10
        && matches!(bytes[4], b'-' | b'/')
        && bytes[7] == bytes[4]
        && bytes.iter().enumerate().all(|(at, byte)| matches!(at, 4 | 7) || byte.is_ascii_digit())
}

/// What the level of a line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineLevel {
    Error,
    Warning,
    Ordinary,
    /// The line has no level.
    Absent,
}

/// Returns the level of a line.
pub(super) fn line_level(line: &str) -> LineLevel {
    let beginning = &line[..line.floor_char_boundary(300)];
    if is_klog(beginning) {
        return match beginning.as_bytes().first() {
            Some(b'E' | b'F') => LineLevel::Error,
            Some(b'W') => LineLevel::Warning,
            _ => LineLevel::Ordinary,
        };
    }
    for token in split_tokens(beginning).take(MAX_TIME_TOKENS * 2) {
        let word = token.text.split(':').next().unwrap_or_default();
        if word.len() > 8 {
            continue;
        }
        let is_named =
            token.name.is_some_and(|name| matches!(name, "level" | "lvl" | "severity" | "levelname" | "@level"));
        // A word is a level only if it is written as one.
        if !is_named && word.bytes().any(|byte| byte.is_ascii_lowercase()) {
            continue;
        }
        match word.to_ascii_lowercase().as_str() {
            "error" | "err" | "fatal" | "critical" | "panic" | "crit" | "severe" | "alert" | "emerg" => {
                return LineLevel::Error;
            }
            "warn" | "warning" | "wrn" => return LineLevel::Warning,
            "info" | "inf" | "debug" | "dbg" | "trace" | "notice" => return LineLevel::Ordinary,
            // Numbers of pino and bunyan.
            "50" | "60" if is_named => return LineLevel::Error,
            "40" if is_named => return LineLevel::Warning,
            "10" | "20" | "30" if is_named => return LineLevel::Ordinary,
            _ => {}
        }
    }
    LineLevel::Absent
}

/// Returns whether a line has a level or the form of klog, as lines of logs have.
pub(super) fn has_level(line: &str) -> bool {
    let beginning = &line[..line.floor_char_boundary(200)];
    is_klog(beginning)
        || split_tokens(beginning).take(MAX_TIME_TOKENS).any(|token| {
            matches!(
                token.text.to_ascii_lowercase().as_str(),
                "info"
                    | "warn"
                    | "warning"
                    | "error"
                    | "err"
                    | "debug"
                    | "trace"
                    | "fatal"
                    | "notice"
                    | "critical"
                    | "level"
                    | "inf"
                    | "wrn"
                    | "dbg"
            ) || token.text.starts_with("INFO:")
        })
}

/// Returns whether a line begins as klog writes it: `E1129 10:00:00.000000`.
fn is_klog(line: &str) -> bool {
    let bytes = line.as_bytes();
    bytes.len() > 6
        && matches!(bytes[0], b'I' | b'W' | b'E' | b'F')
        && bytes[1..5].iter().all(u8::is_ascii_digit)
        && bytes[5] == b' '
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_into_words_with_names() {
        let tokens: Vec<(&str, Option<&str>)> =
            split_tokens(r#"ts=2025-05-22T06:30:34Z took=41.1µs msg="a b" {"code":502}"#)
                .map(|t| (t.text, t.name))
                .collect();
        assert_eq!(
            tokens,
            [
                ("ts", None),
                ("2025-05-22T06:30:34Z", Some("ts")),
                ("took", None),
                ("41.1µs", Some("took")),
                ("msg", None),
                ("a", Some("msg")),
                ("b", None),
                ("code", None),
                ("502", Some("code")),
            ]
        );
    }

    #[test]
    fn times_of_lines_are_found() {
        for (line, time) in [
            ("2026-11-23T10:00:00Z ERROR x", Some("2026-11-23T10:00:00Z")),
            ("2025-09-26 10:50:20,515 - INFO", Some("2025-09-26 10:50:20")),
            ("E1129 10:00:00.000000 1 x.go:1] y", Some("10:00:00.000000")),
            (r#"1.2.3.4 - - [29/Nov/2026:10:00:01 +0000] "GET /""#, Some("29/Nov/2026:10:00:01")),
            ("no time at fe80::1:2 here", None),
            ("plain", None),
        ] {
            assert_eq!(line_time(line), time, "{line}");
        }
    }
}
