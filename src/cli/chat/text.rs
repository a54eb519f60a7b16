//! Text for a terminal: made safe, made short.

use serde_json::Value;

/// A text without anything that a terminal would obey, or that would show it in another order than it has.
///
/// What models and tools say is not ours: an escape sequence could repaint the question that the user is about to answer.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .filter_map(|c| match c {
            '\n' | '\t' => Some(c),
            '\r' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => None,
            c if c.is_control() => Some('\u{fffd}'),
            c => Some(c),
        })
        .collect()
}

/// The first `max` characters, with `…` where something was cut.
pub(super) fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// A JSON value in one short line.
pub(super) fn compact(value: &Value, max: usize) -> String {
    cut(&clean(&value.to_string()), max)
}

/// A JSON value in full, indented.
pub(super) fn pretty(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string());
    text.lines().map(|line| format!("  {}", clean(line))).collect::<Vec<_>>().join("\n")
}

/// Milliseconds for people.
pub(super) fn duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

/// Bytes for people.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{}.{} KiB", bytes >> 10, ((bytes & 1_023) * 10) >> 10),
        _ => format!("{}.{} MiB", bytes >> 20, (((bytes >> 10) & 1_023) * 10) >> 10),
    }
}

/// A number for people.
pub(super) fn count(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        1_000..1_000_000 => format!("{}.{}k", number / 1_000, number % 1_000 / 100),
        _ => format!("{}.{}M", number / 1_000_000, number % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_that_it_would_obey() {
        assert_eq!(clean("a\u{1b}[2Jb\r\n\tc\u{9b}d\u{202e}e\u{7}"), "a\u{fffd}[2Jb\n\tc\u{fffd}de\u{fffd}");
        assert_eq!(pretty(&serde_json::json!({"a": "\u{202e}x"})), "  {\n    \"a\": \"x\"\n  }");
    }

    #[test]
    fn figures_are_short() {
        assert_eq!([duration(999), duration(1_250), duration(125_000)], ["999 ms", "1.2 s", "2 min 5 s"]);
        assert_eq!([size(12), size(3_584), size(3 << 20)], ["12 B", "3.5 KiB", "3.0 MiB"]);
        assert_eq!([count(7), count(12_345), count(2_300_000)], ["7", "12.3k", "2.3M"]);
        assert_eq!(cut("äöü", 2), "äö…");
    }
}
