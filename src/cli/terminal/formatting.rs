//! Text for a terminal: sanitized, shortened, with readable figures.

use serde_json::Value;

/// Removes or replaces everything that a terminal would interpret, and characters that change the order of the text.
///
/// The text of models and tools is untrusted: an escape sequence could repaint the question that the user is about to
/// answer.
pub(in crate::cli) fn sanitize_text(text: &str) -> String {
    text.chars()
        .filter_map(|c| match c {
            '\n' | '\t' => Some(c),
            '\r' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => None,
            c if c.is_control() => Some('\u{fffd}'),
            c => Some(c),
        })
        .collect()
}

/// Returns the part of an id that tells it from others: ids start with a time, which those of one hour share.
pub(in crate::cli) fn short_id(id: &str) -> &str {
    match id.char_indices().rev().nth(7) {
        Some((at, _)) => &id[at..],
        None => id,
    }
}

/// Returns the first `max` characters, followed by `…` if the text is longer.
pub(in crate::cli) fn truncate_chars(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

/// Formats a JSON value in one line of at most `max` characters.
pub(in crate::cli) fn compact_json(value: &Value, max: usize) -> String {
    truncate_chars(&sanitize_text(&value.to_string()), max)
}

/// Formats a JSON value in full, indented.
pub(in crate::cli) fn indented_json(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string());
    text.lines().map(|line| format!("  {}", sanitize_text(line))).collect::<Vec<_>>().join("\n")
}

/// Formats a duration in milliseconds: `240 ms`, `1.5 s`, `2 min 5 s`.
pub(in crate::cli) fn format_duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..60_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        _ => format!("{} min {} s", ms / 60_000, ms % 60_000 / 1_000),
    }
}

/// Formats a number of bytes: `12 B`, `3.5 KiB`, `3.0 MiB`.
pub(in crate::cli) fn format_bytes(bytes: u64) -> String {
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{}.{} KiB", bytes >> 10, ((bytes & 1_023) * 10) >> 10),
        _ => format!("{}.{} MiB", bytes >> 20, (((bytes >> 10) & 1_023) * 10) >> 10),
    }
}

/// Formats a count: `7`, `12.3k`, `2.3M`.
pub(in crate::cli) fn format_count(number: u64) -> String {
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
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(sanitize_text("a\u{1b}[2Jb\r\n\tc\u{9b}d\u{202e}e\u{7}"), "a\u{fffd}[2Jb\n\tc\u{fffd}de\u{fffd}");
        assert_eq!(indented_json(&serde_json::json!({"a": "\u{202e}x"})), "  {\n    \"a\": \"x\"\n  }");
    }

    #[test]
    fn figures_are_short() {
        let durations = [format_duration(999), format_duration(1_250), format_duration(125_000)];
        assert_eq!(durations, ["999 ms", "1.2 s", "2 min 5 s"]);
        assert_eq!([format_bytes(12), format_bytes(3_584), format_bytes(3 << 20)], ["12 B", "3.5 KiB", "3.0 MiB"]);
        assert_eq!([format_count(7), format_count(12_345), format_count(2_300_000)], ["7", "12.3k", "2.3M"]);
        assert_eq!(truncate_chars("äöü", 2), "äö…");
    }
}
