//! Tables, of Kubernetes objects or as a tool printed them. Unusual rows come first, and all rows are counted by status.

use std::{collections::BTreeMap, fmt::Write};

use super::{OutputBudget, kubernetes_objects::parse_object_rows, truncate::shrink_to_budget};

/// Statuses that are usual, so that one row among thousands is not interesting.
const ORDINARY_STATUSES: &[&str] = &[
    "Running",
    "Completed",
    "Succeeded",
    "Ready",
    "Active",
    "Bound",
    "Available",
    "Normal",
    "True",
    "deployed",
    "Healthy",
    "Synced",
    "superseded",
    "Complete",
];
/// Fewer rows are not treated as a table.
const MIN_ROWS: usize = 20;

/// Bytes that are reserved for the last line, without its note.
const SUMMARY_BYTES: usize = 160;

/// A row of text.
struct TableRow<'a> {
    text: &'a str,
    is_ordinary: bool,
}

/// Returns a list of Kubernetes objects as a table; `None` if the text is no such list.
pub(super) fn tabulate_objects(text: &str, budget: OutputBudget, note: &str) -> Option<String> {
    let rows = parse_object_rows(text)?;
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for row in &rows {
        *counts.entry((&row.kind, &row.status)).or_default() += 1;
    }
    let mut by_kind: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for ((kind, status), count) in &counts {
        let status = if status.is_empty() { "without a status" } else { status };
        by_kind.entry(kind).or_default().push(format!("{count} {status}"));
    }
    let mut summary = String::new();
    for (kind, parts) in &by_kind {
        let total: usize = counts.iter().filter(|((of, _), _)| of == kind).map(|(_, count)| count).sum();
        let _ = write!(summary, "{total} {kind}: {}. ", parts.join(", "));
    }
    let headings = rows.first()?.headings.join("  ");
    let printed: Vec<String> =
        rows.iter().map(|row| row.cells.iter().map(|cell| format_cell(cell)).collect::<Vec<_>>().join("  ")).collect();
    let lines: Vec<TableRow<'_>> =
        rows.iter().zip(&printed).map(|(row, text)| TableRow { text, is_ordinary: row.is_ordinary }).collect();
    Some(render_table(summary.trim_end(), &headings, &lines, budget, note))
}

fn format_cell(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.replace(['\n', '\r'], " ") }
}

/// Returns a table that a tool printed, with headings in capitals and columns below them; `None` if the text is no such
/// table.
pub(super) fn tabulate_rows(text: &str, budget: OutputBudget, note: &str) -> Option<String> {
    let mut lines = text.lines();
    let headings = lines.next()?;
    let words: Vec<&str> = headings.split_whitespace().collect();
    let is_heading = |word: &str| {
        word.chars().all(|char| char.is_ascii_uppercase() || matches!(char, '-' | '(' | ')' | '%' | '/' | '_'))
    };
    if words.len() < 2 || !words.iter().all(|word| is_heading(word)) {
        return None;
    }
    let column =
        |name: &str| headings.split_whitespace().any(|word| word == name).then(|| headings.find(name)).flatten();
    let status_column = column("STATUS").or_else(|| column("TYPE"));
    let ready_column = column("READY");
    let restarts_column = column("RESTARTS");
    let cell_at = |line: &'_ str, at: Option<usize>| -> Option<String> {
        at.and_then(|at| line.get(at..)).and_then(|rest| rest.split_whitespace().next()).map(str::to_owned)
    };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut rows = Vec::new();
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let status = cell_at(line, status_column);
        let is_finished = matches!(status.as_deref(), Some("Completed" | "Succeeded"));
        let is_ready = cell_at(line, ready_column)
            .is_none_or(|ready| is_finished || ready.split_once('/').is_none_or(|(ready, all)| ready == all));
        let has_no_restarts = cell_at(line, restarts_column).is_none_or(|restarts| restarts == "0");
        let has_ordinary_status = status.as_deref().is_none_or(|status| ORDINARY_STATUSES.contains(&status));
        *counts.entry(status.unwrap_or_default()).or_default() += 1;
        rows.push(TableRow { text: line, is_ordinary: has_ordinary_status && is_ready && has_no_restarts });
    }
    if rows.len() < MIN_ROWS {
        return None;
    }
    let mut summary = format!("{} rows", rows.len());
    if status_column.is_some() {
        let parts: Vec<String> = counts.iter().map(|(status, count)| format!("{count} {status}")).collect();
        let _ = write!(summary, ": {}", parts.join(", "));
    }
    summary.push('.');
    Some(render_table(&summary, headings, &rows, budget, note))
}

/// Returns the counts, all unusual rows within the budget, and then the first of the other rows.
fn render_table(summary: &str, headings: &str, rows: &[TableRow<'_>], budget: OutputBudget, note: &str) -> String {
    shrink_to_budget(budget, |max_bytes| {
        let mut remaining = max_bytes.saturating_sub(summary.len() + headings.len() + note.len() + SUMMARY_BYTES);
        let mut kept = vec![false; rows.len()];
        for is_ordinary in [false, true] {
            for (row, kept) in rows.iter().zip(&mut kept) {
                if row.is_ordinary == is_ordinary && row.text.len() < remaining {
                    remaining -= row.text.len() + 1;
                    *kept = true;
                }
            }
        }
        let mut text = format!("{summary}\n{headings}\n");
        for (row, _) in rows.iter().zip(&kept).filter(|(_, kept)| **kept) {
            text.push_str(row.text);
            text.push('\n');
        }
        let left_out = kept.iter().filter(|kept| !**kept).count();
        let unusual = rows.iter().zip(&kept).filter(|(row, kept)| !row.is_ordinary && !**kept).count();
        if left_out > 0 || !note.is_empty() {
            let total = rows.len();
            let _ = write!(text, "[as a table; {left_out} of {total} rows left out, {unusual} of them unusual{note}]");
        }
        text
    })
}
