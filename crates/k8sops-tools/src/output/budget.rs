//! The limits of an output, and a text that is written until they are reached.

use k8sops_models::tokens;

/// Bytes of a token, on average over the outputs of clusters. It is a first estimate, which counting then corrects.
const BYTES_PER_TOKEN: usize = 3;

/// Most tokens and bytes of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutputBudget {
    pub(crate) tokens: usize,
    pub(crate) bytes: usize,
}

impl OutputBudget {
    /// Returns whether a text is within the budget.
    pub(crate) fn allows(self, text: &str) -> bool {
        text.len() <= self.bytes && tokens::fits_within(text, self.tokens)
    }

    /// Estimates the bytes that the budget allows.
    pub(super) fn estimate_bytes(self) -> usize {
        self.bytes.min(self.tokens.saturating_mul(BYTES_PER_TOKEN))
    }

    /// Returns what `text` leaves of the budget.
    pub(crate) fn minus(self, text: &str) -> Self {
        Self {
            tokens: self.tokens.saturating_sub(tokens::count(text) + 1),
            bytes: self.bytes.saturating_sub(text.len() + 1),
        }
    }

    /// Returns a part of the budget in percent.
    pub(super) fn share(self, percent: usize) -> Self {
        Self { tokens: self.tokens * percent / 100, bytes: self.bytes / 100 * percent }
    }

    /// Returns this budget with at most `tokens` tokens.
    pub(super) fn limited_to(self, tokens: usize) -> Self {
        Self { tokens: self.tokens.min(tokens), ..self }
    }
}

/// Lines that are added for as long as the budget lasts.
#[derive(Debug)]
pub(super) struct BudgetedText {
    text: String,
    remaining: OutputBudget,
}

impl BudgetedText {
    pub(super) fn new(budget: OutputBudget) -> Self {
        Self { text: String::new(), remaining: budget }
    }

    pub(super) fn remaining(&self) -> OutputBudget {
        self.remaining
    }

    /// Adds a line, or several, if the budget allows it.
    pub(super) fn push_line(&mut self, line: &str) -> bool {
        let is_affordable = line.len() < self.remaining.bytes && self.remaining.tokens > 1;
        if !is_affordable || !tokens::fits_within(line, self.remaining.tokens - 1) {
            return false;
        }
        self.remaining = self.remaining.minus(line);
        self.text.push_str(line);
        self.text.push('\n');
        true
    }

    /// Adds the items of a list as one line: `prefix` and the items with commas between them, as many as `share` of the
    /// remaining budget allows. Returns how many were added; the line says how many were not.
    pub(super) fn push_list<'a>(&mut self, prefix: &str, items: impl ExactSizeIterator<Item = &'a str>) -> usize {
        let total = items.len();
        let more = |left: usize| if left == 0 { String::new() } else { format!(" and {left} more") };
        let mut remaining = self.remaining.minus(prefix).minus(&more(total));
        let mut line = prefix.to_owned();
        let mut added = 0;
        for item in items {
            let after = remaining.minus(item);
            if after.tokens == 0 || after.bytes == 0 {
                break;
            }
            remaining = after;
            line.push_str(if added == 0 { "" } else { ", " });
            line.push_str(item);
            added += 1;
        }
        if added == 0 {
            return 0;
        }
        line.push_str(&more(total - added));
        if self.push_line(&line) { added } else { 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(super) fn into_text(mut self) -> String {
        if self.text.ends_with('\n') {
            self.text.pop();
        }
        self.text
    }
}
