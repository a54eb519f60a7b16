//! Chooses lines of a text until the budget is spent, and shows them in their order with the gaps between them.

use k8sops_models::tokens;

use super::{alarm_words::alarm_level, budget::OutputBudget};

/// Longest line in bytes that is shown completely, of a text with many lines.
const MAX_LINE_BYTES: usize = 2_000;
/// Tokens of the line that says how many lines are left out.
const GAP_TOKENS: usize = 9;
/// Bytes of that line.
const GAP_BYTES: usize = 32;

/// Lines of a text, some of which are shown.
pub(super) struct LineSelection<'a> {
    lines: &'a [&'a str],
    notes: Vec<Option<String>>,
    kept: Vec<bool>,
    remaining: OutputBudget,
    max_line: usize,
}

impl<'a> LineSelection<'a> {
    pub(super) fn new(lines: &'a [&'a str], budget: OutputBudget) -> Self {
        let remaining = OutputBudget {
            tokens: budget.tokens.saturating_sub(GAP_TOKENS),
            bytes: budget.bytes.saturating_sub(GAP_BYTES),
        };
        let max_line = (remaining.estimate_bytes() / lines.len().max(1)).max(MAX_LINE_BYTES);
        Self { lines, notes: vec![None; lines.len()], kept: vec![false; lines.len()], remaining, max_line }
    }

    pub(super) fn remaining(&self) -> OutputBudget {
        self.remaining
    }

    /// Shows a line if the budget allows it. `note` stands before the line.
    pub(super) fn keep(&mut self, at: usize, note: Option<String>) -> bool {
        self.keep_within(at, note, self.remaining.tokens)
    }

    /// Shows a line if it takes at most `max_tokens` and the budget allows it.
    pub(super) fn keep_within(&mut self, at: usize, note: Option<String>, max_tokens: usize) -> bool {
        if self.kept[at] {
            return true;
        }
        let line = shorten_line(self.lines[at], self.max_line);
        let limit = self.remaining.tokens.min(max_tokens);
        if line.len() / 16 > limit {
            return false;
        }
        let note_text = note.as_deref().map_or(0, |note| note.len() + 4);
        let note_tokens = note.as_deref().map_or(0, |note| tokens::count(note) + 3);
        // A line between two gaps makes one gap more, and a line between two shown lines makes one less.
        let is_kept = |at: Option<usize>| at.and_then(|at| self.kept.get(at)).copied().unwrap_or(false);
        let shown_neighbors = usize::from(is_kept(at.checked_sub(1))) + usize::from(is_kept(Some(at + 1)));
        let gap = usize::from(shown_neighbors == 0);
        let cost = tokens::count(&line) + 1 + note_tokens + gap * GAP_TOKENS;
        let bytes = line.len() + 1 + note_text + gap * GAP_BYTES;
        if cost > limit || bytes > self.remaining.bytes {
            return false;
        }
        self.remaining.tokens -= cost;
        self.remaining.bytes -= bytes;
        self.notes[at] = note;
        self.kept[at] = true;
        true
    }

    /// Shows further lines until the budget is spent: those around the lines that are shown, then the last and the first ones.
    pub(super) fn fill(&mut self) {
        let total = self.lines.len();
        let shown: Vec<usize> = (0..total).filter(|at| self.kept[*at]).collect();
        if shown.len() * 4 < total {
            for distance in 1..=2 {
                for at in &shown {
                    self.fill_line(at + distance);
                    self.fill_line(at.wrapping_sub(distance));
                }
            }
        }
        let mut failures = 0;
        for step in 0..total {
            // The end of a text usually says more than its beginning.
            for at in [total - 1 - step, step / 2] {
                if !self.fill_line(at) {
                    failures += 1;
                }
            }
            if failures > 40 || self.remaining.tokens < 4 {
                break;
            }
        }
    }

    fn fill_line(&mut self, at: usize) -> bool {
        at >= self.lines.len() || self.keep(at, None)
    }

    /// Returns the shown lines with the gaps between them.
    pub(super) fn into_text(self) -> String {
        let mut text = String::new();
        let mut gap = 0;
        let end_gap = |text: &mut String, gap: &mut usize| {
            if *gap > 0 {
                text.push_str(&format!("[... {gap} lines ...]\n"));
                *gap = 0;
            }
        };
        for (at, line) in self.lines.iter().enumerate() {
            if !self.kept[at] {
                gap += 1;
                continue;
            }
            end_gap(&mut text, &mut gap);
            if let Some(note) = &self.notes[at] {
                text.push_str(&format!("[{note}] "));
            }
            text.push_str(&shorten_line(line, self.max_line));
            text.push('\n');
        }
        end_gap(&mut text, &mut gap);
        text.pop();
        text
    }
}

/// Returns the beginning of a long line with the part of the rest that sounds wrong, or else with its end.
fn shorten_line(line: &str, max_bytes: usize) -> std::borrow::Cow<'_, str> {
    if line.len() <= max_bytes {
        return line.into();
    }
    let head_end = line.floor_char_boundary(max_bytes * 5 / 8);
    let (head, rest) = line.split_at(head_end);
    let part_bytes = max_bytes / 4;
    let mut at = 0;
    while at < rest.len() {
        let end = rest.ceil_char_boundary(at + part_bytes);
        let part = &rest[at..end];
        if alarm_level(part) > super::alarm_words::AlarmLevel::Warning {
            return format!("{head}…[{at} bytes]…{part}…[{} bytes]", rest.len() - end).into();
        }
        at = end;
    }
    let tail = &rest[rest.ceil_char_boundary(rest.len() - part_bytes)..];
    format!("{head}…[{} bytes]…{tail}", rest.len() - tail.len()).into()
}
