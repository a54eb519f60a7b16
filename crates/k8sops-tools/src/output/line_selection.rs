//! Chooses lines of a text until the budget is spent, and shows them in their order with the gaps between them.

use std::{borrow::Cow, collections::HashMap};

use k8sops_models::tokens;

use super::{budget::OutputBudget, line_excerpt::excerpt_line};

/// Longest line in bytes that is shown completely, of a text with many lines.
const MAX_LINE_BYTES: usize = 2_000;
/// Shortest excerpt in bytes of a line that is too long.
const MIN_EXCERPT_BYTES: usize = 300;
/// Lines of a text that is read as one long line.
const MAX_FEW_LINES: usize = 3;
/// Most lines above a line that are shown because it belongs to them, and how far above they are looked for.
const MAX_PARENTS: usize = 4;
const MAX_PARENT_DISTANCE: usize = 500;
/// Tokens of the line that says how many lines are left out.
const GAP_TOKENS: usize = 9;
/// Bytes of that line.
const GAP_BYTES: usize = 32;

/// Lines of a text, some of which are shown.
pub(super) struct LineSelection<'a> {
    lines: &'a [&'a str],
    notes: Vec<Option<String>>,
    kept: Vec<bool>,
    /// The excerpts of lines that are too long.
    excerpts: HashMap<usize, String>,
    remaining: OutputBudget,
    max_line: usize,
}

impl<'a> LineSelection<'a> {
    pub(super) fn new(lines: &'a [&'a str], budget: OutputBudget) -> Self {
        let remaining = OutputBudget {
            tokens: budget.tokens.saturating_sub(GAP_TOKENS),
            bytes: budget.bytes.saturating_sub(GAP_BYTES),
        };
        Self {
            lines,
            notes: vec![None; lines.len()],
            kept: vec![false; lines.len()],
            excerpts: HashMap::new(),
            remaining,
            max_line: fair_line_bytes(lines, remaining.estimate_bytes()).max(MAX_LINE_BYTES),
        }
    }

    pub(super) fn remaining(&self) -> OutputBudget {
        self.remaining
    }

    /// Shows a line if the budget allows it. `note` stands before the line.
    pub(super) fn keep(&mut self, at: usize, note: Option<&str>) -> bool {
        self.keep_within(at, note, self.remaining.tokens)
    }

    /// Shows a line if it takes at most `max_tokens` and the budget allows it.
    pub(super) fn keep_within(&mut self, at: usize, note: Option<&str>, max_tokens: usize) -> bool {
        if self.kept[at] {
            return true;
        }
        let limit = self.remaining.tokens.min(max_tokens);
        // A text of few lines is mostly this one, and may have more bytes in a token than was estimated.
        let max_line = if self.lines.len() <= MAX_FEW_LINES { self.max_line * 8 / 5 } else { self.max_line };
        let line = excerpt_line(self.lines[at], max_line);
        if self.keep_text(at, &line, note, limit) {
            if let Cow::Owned(excerpt) = line {
                self.excerpts.insert(at, excerpt);
            }
            return true;
        }
        // Dense text has few bytes in a token, so that less of such a line fits than was estimated.
        let mut max_bytes = max_line.min(self.lines[at].len()).min(limit.saturating_mul(5)) * 7 / 8;
        while self.lines[at].len() > MAX_LINE_BYTES && max_bytes >= MIN_EXCERPT_BYTES {
            let excerpt = excerpt_line(self.lines[at], max_bytes).into_owned();
            if self.keep_text(at, &excerpt, note, limit) {
                self.excerpts.insert(at, excerpt);
                return true;
            }
            max_bytes = max_bytes * 7 / 8;
        }
        false
    }

    /// Marks a line as shown by `line` if that takes at most `limit` tokens.
    fn keep_text(&mut self, at: usize, line: &str, note: Option<&str>, limit: usize) -> bool {
        if line.len() / 16 > limit {
            return false;
        }
        let note_text = note.map_or(0, |note| note.len() + 4);
        let note_tokens = note.map_or(0, |note| tokens::count(note) + 3);
        // A line between two gaps makes one gap more, and a line between two shown lines makes one less.
        let is_kept = |at: Option<usize>| at.and_then(|at| self.kept.get(at)).copied().unwrap_or(false);
        let shown_neighbors = usize::from(is_kept(at.checked_sub(1))) + usize::from(is_kept(Some(at + 1)));
        let gap = usize::from(shown_neighbors == 0);
        let cost = tokens::count(line) + 1 + note_tokens + gap * GAP_TOKENS;
        let bytes = line.len() + 1 + note_text + gap * GAP_BYTES;
        if cost > limit || bytes > self.remaining.bytes {
            return false;
        }
        self.remaining.tokens -= cost;
        self.remaining.bytes -= bytes;
        self.notes[at] = note.map(str::to_owned);
        self.kept[at] = true;
        true
    }

    /// Shows the lines that a line is indented below, as the keys of YAML.
    pub(super) fn keep_parents(&mut self, at: usize) {
        let indent_of = |line: &str| line.len() - line.trim_start_matches([' ', '\t']).len();
        let mut indent = indent_of(self.lines[at]);
        let mut parents = 0;
        for parent in (at.saturating_sub(MAX_PARENT_DISTANCE)..at).rev() {
            if indent == 0 || parents == MAX_PARENTS {
                break;
            }
            let parent_indent = indent_of(self.lines[parent]);
            if parent_indent < indent {
                self.keep(parent, None);
                indent = parent_indent;
                parents += 1;
            }
        }
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
            text.push_str(self.excerpts.get(&at).map_or(line, String::as_str));
            text.push('\n');
        }
        end_gap(&mut text, &mut gap);
        text.pop();
        text
    }
}

/// Returns how many bytes of each line fit if short lines leave their part to the longer ones.
fn fair_line_bytes(lines: &[&str], bytes: usize) -> usize {
    let mut lengths: Vec<usize> = lines.iter().map(|line| line.len() + 1).collect();
    lengths.sort_unstable();
    let mut remaining = bytes;
    for (n, length) in lengths.iter().enumerate() {
        let fair = remaining / (lengths.len() - n);
        if *length > fair {
            return fair;
        }
        remaining -= length;
    }
    bytes
}
