//! Diffs are never folded: two lines that differ in a number only are what matters. A diff that is too long is cut as a preview
//! is: unchanged lines go first, then whole hunks, and the number of the lines that are left out is stated.

use std::borrow::Cow;

use crate::preview::fit_preview;

use super::budget::OutputBudget;

/// Tenths of a byte per token, from one attempt to the next: diffs have between five and one bytes in a token.
const TENTHS_PER_TOKEN: &[usize] = &[50, 44, 38, 33, 28, 24, 20, 15, 10];

/// Returns whether a text is a unified diff, or a diff of the plugin helm-diff.
pub(super) fn is_diff(text: &str) -> bool {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty()).take(40).peekable();
    let mut has_header = false;
    while let Some(line) = lines.next() {
        let is_old_file = line.starts_with("--- ") && lines.peek().is_some_and(|next| next.starts_with("+++ "));
        has_header |= is_old_file || line.starts_with("diff -") || is_helm_header(line);
        if has_header && (is_old_file || line.starts_with("@@ ") || line.starts_with(['+', '-'])) {
            return true;
        }
    }
    false
}

/// Returns whether a line begins a resource in the output of the plugin helm-diff.
fn is_helm_header(line: &str) -> bool {
    ["has changed:", "has been added:", "has been removed:"].iter().any(|end| line.ends_with(end))
}

/// Shows a diff within the budget.
pub(super) fn cut_diff(text: &str, budget: OutputBudget) -> String {
    let text = &*with_hunks(text);
    let mut shown = String::new();
    for tenths in TENTHS_PER_TOKEN {
        let max_bytes = budget.bytes.min(budget.tokens.saturating_mul(*tenths) / 10);
        shown = fit_preview(text, max_bytes, "it is cut at whole changes").text;
        if budget.allows(&shown) {
            break;
        }
    }
    shown
}

/// Gives a diff without hunks, as helm-diff prints it, one hunk for each resource.
fn with_hunks(text: &str) -> Cow<'_, str> {
    if text.lines().any(|line| line.starts_with("@@ ")) {
        return text.into();
    }
    let mut hunks = String::with_capacity(text.len() + 1_024);
    for line in text.lines() {
        hunks.push_str(line);
        hunks.push('\n');
        if is_helm_header(line) {
            hunks.push_str("@@ -1,1 +1,1 @@\n");
        }
    }
    hunks.into()
}
