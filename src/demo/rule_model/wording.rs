//! Pieces of text that the rules share: counted nouns, quoted tool output, shortened text.

/// `1 pod`, `2 pods`.
pub(super) fn count_noun(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// The verb that goes with a count.
pub(super) fn is_or_are(n: usize) -> &'static str {
    if n == 1 { "is" } else { "are" }
}

/// At most `longest` characters, with a mark where more was.
pub(super) fn truncate_chars(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((at, _)) => format!("{}…", text[..at].trim_end()),
        None => text.to_owned(),
    }
}

/// A tool's words in a code block, not too many of them.
pub(super) fn code_block(content: &str) -> String {
    const LINES: usize = 60;
    let lines: Vec<&str> = content.lines().collect();
    let left_out = lines.len().saturating_sub(LINES);
    let note = if left_out > 0 { format!("\n({left_out} more lines)") } else { String::new() };
    // A fence in the content would end ours.
    let shown = lines[..lines.len() - left_out].join("\n").replace("```", "'''");
    format!("```\n{shown}\n```{note}")
}
