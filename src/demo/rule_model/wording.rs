//! Pieces of text that the rules share: counted nouns, quoted tool output, shortened text.

/// Returns a counted noun: `1 pod`, `2 pods`.
pub(super) fn count_noun(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// Returns the verb for a count.
pub(super) fn is_or_are(n: usize) -> &'static str {
    if n == 1 { "is" } else { "are" }
}

/// Returns at most `max` characters, followed by `…` if the text is longer.
pub(super) fn truncate_chars(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((at, _)) => format!("{}…", text[..at].trim_end()),
        None => text.to_owned(),
    }
}

/// Returns tool output in a code block, limited in length.
pub(super) fn code_block(content: &str) -> String {
    const MAX_LINES: usize = 60;
    let lines: Vec<&str> = content.lines().collect();
    let omitted = lines.len().saturating_sub(MAX_LINES);
    let note = if omitted > 0 { format!("\n({omitted} more lines)") } else { String::new() };
    // A fence in the content would end this block.
    let shown = lines[..lines.len() - omitted].join("\n").replace("```", "'''");
    format!("```\n{shown}\n```{note}")
}
