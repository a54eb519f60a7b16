//! Text for a terminal: sanitized, shortened, with readable figures.

use std::fmt::Write as _;

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

/// Returns whether a character is invisible, or changes the order of the text.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e01ef}')
}

/// Writes characters that cannot be seen as their code, such as `⟨U+202E⟩`: for what a person approves, which must not look like
/// something else.
pub(in crate::cli) fn reveal_text(text: &str) -> String {
    let mut revealed = String::with_capacity(text.len());
    for c in text.replace("\r\n", "\n").chars() {
        if c != '\n' && c != '\t' && (c.is_control() || is_invisible(c)) {
            let _ = write!(revealed, "⟨U+{:04X}⟩", u32::from(c));
        } else {
            revealed.push(c);
        }
    }
    revealed
}

/// Formats a JSON value in one line of at most `max` characters.
pub(in crate::cli) fn compact_json(value: &Value, max: usize) -> String {
    truncate_chars(&reveal_text(&value.to_string()), max)
}

/// Formats the arguments of a call in one line of at most `max` characters: `name=web namespace=shop`.
pub(in crate::cli) fn compact_arguments(arguments: &Value, max: usize) -> String {
    let Some(fields) = arguments.as_object() else { return compact_json(arguments, max) };
    let is_bare =
        |text: &&str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || "\"'{}[],=".contains(c));
    let field = |(name, value): (&String, &Value)| match value.as_str().filter(is_bare) {
        Some(text) => format!("{name}={text}"),
        None => format!("{name}={value}"),
    };
    let line: Vec<String> = fields.iter().map(field).collect();
    truncate_chars(&reveal_text(&line.join(" ")).replace('\n', " "), max)
}

/// Formats a JSON value in full, as indented YAML.
pub(in crate::cli) fn indented_yaml(value: &Value) -> String {
    if value.as_object().is_some_and(serde_json::Map::is_empty) {
        return "  (no arguments)".to_owned();
    }
    let text = yaml_text(value);
    text.trim_end().lines().map(|line| format!("  {}", reveal_text(line))).collect::<Vec<_>>().join("\n")
}

/// Formats a JSON value as YAML, with texts of several lines as blocks.
pub(in crate::cli) fn yaml_text(value: &Value) -> String {
    serde_saphyr::to_string(value).unwrap_or_else(|_| value.to_string())
}

/// Parses YAML that a person has edited.
///
/// # Errors
/// The text is no YAML; with the line and column.
pub(in crate::cli) fn parse_yaml(text: &str) -> Result<Value, String> {
    serde_saphyr::from_str(text).map_err(|error| sanitize_text(error.to_string().lines().next().unwrap_or_default()))
}

/// Returns who did something, without the kind of author: `user:anna` is anna.
pub(in crate::cli) fn author_name(by: &str) -> String {
    sanitize_text(by.strip_prefix("user:").unwrap_or(by))
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
        assert_eq!(reveal_text("a\u{202e}b\u{200b}\u{1b}c\r\nd\u{e0041}"), "a⟨U+202E⟩b⟨U+200B⟩⟨U+001B⟩c\nd⟨U+E0041⟩");
    }

    #[test]
    fn arguments_are_yaml_or_one_line() {
        let arguments =
            serde_json::json!({"name": "web", "replicas": 3, "resource": "kind: Pod\nspec: {}\n", "why": "a b"});
        assert_eq!(
            indented_yaml(&arguments),
            "  name: web\n  replicas: 3\n  resource: |\n    kind: Pod\n    spec: {}\n  why: a b"
        );
        assert_eq!(
            compact_arguments(&serde_json::json!({"name": "web", "n": 3, "w": "a b"}), 80),
            "n=3 name=web w=\"a b\""
        );
        assert_eq!(indented_yaml(&serde_json::json!({"a": "\u{202e}x"})).matches("U+202E").count(), 1);
        assert_eq!(indented_yaml(&serde_json::json!({})), "  (no arguments)");
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
