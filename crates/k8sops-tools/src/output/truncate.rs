//! Head and tail of a text: headings are at the beginning, errors at the end.

use std::borrow::Cow;

use super::budget::OutputBudget;

/// Share of the budget that the head gets, in tenths.
const HEAD_TENTHS: usize = 6;
/// How often a smaller size is tried. Each is four fifths of the previous one, so that the last is almost nothing.
const MAX_ATTEMPTS: usize = 24;
/// Bytes that are reserved for the line between head and tail, without its note.
const GAP_LINE_BYTES: usize = 120;

/// Returns the beginning and the end of a text, with a line between them that says what was left out.
pub(super) fn truncate_middle(text: &str, budget: OutputBudget, note: &str) -> String {
    shrink_to_budget(budget, |max_bytes| {
        let max_bytes = max_bytes.saturating_sub(GAP_LINE_BYTES + note.len());
        let max_head = max_bytes * HEAD_TENTHS / 10;
        let head = &text[..find_head_end(text, max_head)];
        let tail = &text[find_tail_start(text, (max_bytes - max_head).min(text.len() - head.len()))..];
        let left_out = &text[head.len()..text.len() - tail.len()];
        let first = head.matches('\n').count() + 1;
        let last = first + left_out.trim_end_matches('\n').matches('\n').count();
        let gap = if head.is_empty() || head.ends_with('\n') { "" } else { "\n" };
        format!("{head}{gap}[... {} bytes left out, lines {first} to {last}{note} ...]\n{tail}", left_out.len())
    })
}

/// Returns the longest text of `render` within the budget, which is called with fewer and fewer bytes.
pub(super) fn shrink_to_budget(budget: OutputBudget, render: impl Fn(usize) -> String) -> String {
    let mut max_bytes = budget.estimate_bytes();
    for _ in 0..MAX_ATTEMPTS {
        let rendered = render(max_bytes);
        if budget.allows(&rendered) {
            return rendered;
        }
        max_bytes = max_bytes / 5 * 4;
    }
    // The budget is too small even for the note.
    let shortest = render(0);
    shortest[..shortest.floor_char_boundary(budget.estimate_bytes())].to_owned()
}

/// Returns a value on one line, with at most `max_bytes`.
pub(super) fn clip_value(value: &str, max_bytes: usize) -> Cow<'_, str> {
    if value.len() <= max_bytes && !value.contains('\n') {
        return value.into();
    }
    let end = value.floor_char_boundary(max_bytes);
    let line = value[..end].replace('\n', "\\n");
    if end < value.len() { format!("{line}…").into() } else { line.into() }
}

/// Returns the last line end that is not far before the limit, or else the last character boundary.
fn find_head_end(text: &str, max_bytes: usize) -> usize {
    let limit = text.floor_char_boundary(max_bytes);
    let nearest = text.floor_char_boundary(limit - limit / 4);
    text[nearest..limit].rfind('\n').map_or(limit, |at| nearest + at + 1)
}

/// Returns the first line start that is not far behind the limit, or else the first character boundary.
fn find_tail_start(text: &str, max_bytes: usize) -> usize {
    let limit = text.ceil_char_boundary(text.len() - max_bytes.min(text.len()));
    let farthest = text.ceil_char_boundary(limit + (text.len() - limit) / 4);
    text[limit..farthest].find('\n').map_or(limit, |at| limit + at + 1)
}
