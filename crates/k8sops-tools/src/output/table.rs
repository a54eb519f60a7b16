//! Tables: of objects, or as a tool printed them. What is not ordinary comes first, and everything is counted.

use std::{collections::BTreeMap, fmt::Write};

use super::{Budget, cut::shrinking, objects};

/// Statuses of which nobody looks for one among thousands.
const ORDINARY: &[&str] = &[
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
/// Rows of a table that are worth counting; fewer are cut like any text.
const MIN_ROWS: usize = 20;

/// A row as it is shown.
struct Line<'a> {
    text: &'a str,
    ordinary: bool,
}

/// A list of objects as a table.
pub(super) fn of_objects(text: &str, budget: Budget, note: &str) -> Option<String> {
    let rows = objects::rows(text)?;
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
        rows.iter().map(|row| row.cells.iter().map(|c| cell(c)).collect::<Vec<_>>().join("  ")).collect();
    let lines: Vec<Line<'_>> =
        rows.iter().zip(&printed).map(|(row, text)| Line { text, ordinary: row.ordinary }).collect();
    Some(shown(summary.trim_end(), &headings, &lines, budget, note))
}

fn cell(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.replace(['\n', '\r'], " ") }
}

/// A table that a tool printed: headings in capitals, columns below them.
pub(super) fn of_rows(text: &str, budget: Budget, note: &str) -> Option<String> {
    let mut lines = text.lines();
    let headings = lines.next()?;
    let words: Vec<&str> = headings.split_whitespace().collect();
    let capital =
        |word: &str| word.chars().all(|c| c.is_ascii_uppercase() || matches!(c, '-' | '(' | ')' | '%' | '/' | '_'));
    if words.len() < 2 || !words.iter().all(|word| capital(word)) {
        return None;
    }
    let column =
        |name: &str| headings.split_whitespace().any(|word| word == name).then(|| headings.find(name)).flatten();
    let (status, ready, restarts) = (column("STATUS").or_else(|| column("TYPE")), column("READY"), column("RESTARTS"));
    let value = |line: &'_ str, at: Option<usize>| -> Option<String> {
        at.and_then(|at| line.get(at..)).and_then(|rest| rest.split_whitespace().next()).map(str::to_owned)
    };
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut rows = Vec::new();
    for line in lines.filter(|line| !line.trim().is_empty()) {
        let is = value(line, status);
        let settled = matches!(is.as_deref(), Some("Completed" | "Succeeded"));
        let whole = value(line, ready).is_none_or(|r| settled || r.split_once('/').is_none_or(|(a, b)| a == b));
        let calm = value(line, restarts).is_none_or(|r| r == "0");
        let ordinary = is.as_deref().is_none_or(|is| ORDINARY.contains(&is)) && whole && calm;
        *counts.entry(is.unwrap_or_default()).or_default() += 1;
        rows.push(Line { text: line, ordinary });
    }
    if rows.len() < MIN_ROWS {
        return None;
    }
    let mut summary = format!("{} rows", rows.len());
    if status.is_some() {
        let parts: Vec<String> = counts.iter().map(|(status, count)| format!("{count} {status}")).collect();
        let _ = write!(summary, ": {}", parts.join(", "));
    }
    summary.push('.');
    Some(shown(&summary, headings, &rows, budget, note))
}

/// The counts, all rows that are not ordinary as far as there is room, and the first of the others.
fn shown(summary: &str, headings: &str, lines: &[Line<'_>], budget: Budget, note: &str) -> String {
    shrinking(budget, |room| {
        let mut left = room.saturating_sub(summary.len() + headings.len() + note.len() + 160);
        let mut kept = vec![false; lines.len()];
        for ordinary in [false, true] {
            for (line, kept) in lines.iter().zip(&mut kept) {
                if line.ordinary == ordinary && line.text.len() < left {
                    left -= line.text.len() + 1;
                    *kept = true;
                }
            }
        }
        let mut text = format!("{summary}\n{headings}\n");
        for (line, _) in lines.iter().zip(&kept).filter(|(_, kept)| **kept) {
            text.push_str(line.text);
            text.push('\n');
        }
        let gone = kept.iter().filter(|kept| !**kept).count();
        let odd = lines.iter().zip(&kept).filter(|(line, kept)| !line.ordinary && !**kept).count();
        if gone > 0 || !note.is_empty() {
            let _ =
                write!(text, "[as a table; {gone} of {} rows left out, {odd} of them not ordinary{note}]", lines.len());
        }
        text
    })
}
