//! Diffs are never folded: they are what a person approves. A diff that is too long loses context lines first. Then whole hunks
//! are left out, and the number of their lines is stated.

use std::{collections::HashSet, fmt::Write};

use super::{
    budget::{BudgetedText, OutputBudget},
    value_statistics::value_shape,
};

/// Unchanged lines around a change, from one attempt to the next.
const CONTEXT_LINES: &[usize] = &[3, 1, 0];

/// The lines of a file in a diff.
#[derive(Debug, Default)]
struct DiffFile<'a> {
    /// The lines before the first hunk.
    header: Vec<&'a str>,
    hunks: Vec<Vec<&'a str>>,
}

/// Returns whether a text is a unified diff, or a diff of helm.
pub(super) fn is_diff(text: &str) -> bool {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty()).take(40).peekable();
    let mut has_header = false;
    while let Some(line) = lines.next() {
        let is_old_file = line.starts_with("--- ") && lines.peek().is_some_and(|next| next.starts_with("+++ "));
        has_header |= is_old_file || line.starts_with("diff -") || is_helm_header(line);
        if has_header && (is_old_file || is_hunk_header(line) || is_change(line)) {
            return true;
        }
    }
    false
}

/// Returns whether a line begins a resource in the output of the plugin helm-diff.
fn is_helm_header(line: &str) -> bool {
    line.ends_with("has changed:") || line.ends_with("has been added:") || line.ends_with("has been removed:")
}

fn is_hunk_header(line: &str) -> bool {
    line.starts_with("@@ ")
}

fn is_file_header(line: &str) -> bool {
    line.starts_with("diff ")
        || line.starts_with("--- ")
        || line.starts_with("+++ ")
        || line.starts_with("index ")
        || is_helm_header(line)
}

fn is_change(line: &str) -> bool {
    line.starts_with(['+', '-'])
}

/// Shows a diff within the budget.
pub(super) fn cut_diff(text: &str, budget: OutputBudget) -> String {
    if budget.allows(text) {
        return text.to_owned();
    }
    let mut files = read_files(text);
    let mut omitted = 0;
    for context in CONTEXT_LINES {
        omitted += shorten_context(&mut files, *context);
        let shown = print_files(&files);
        let note = omission_note(omitted, 0, 0, &[]);
        if budget.minus(&note).allows(&shown) {
            return format!("{shown}\n{note}");
        }
    }
    cut_hunks(&files, omitted, budget)
}

fn read_files(text: &str) -> Vec<DiffFile<'_>> {
    let mut files: Vec<DiffFile<'_>> = vec![DiffFile::default()];
    let mut is_in_header = true;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        // `--- ` is also the removal of a line that begins with `-- `.
        let is_header = is_file_header(line)
            && (is_in_header || !line.starts_with("--- ") || lines.peek().is_some_and(|next| next.starts_with("+++ ")))
            && (is_in_header || !line.starts_with("+++ "));
        if is_header {
            if !is_in_header {
                files.push(DiffFile::default());
                is_in_header = true;
            }
            if let Some(file) = files.last_mut() {
                file.header.push(line);
            }
            continue;
        }
        let Some(file) = files.last_mut() else { continue };
        if is_hunk_header(line) || file.hunks.is_empty() {
            file.hunks.push(Vec::new());
        }
        is_in_header = false;
        if let Some(hunk) = file.hunks.last_mut() {
            hunk.push(line);
        }
    }
    files.retain(|file| !file.header.is_empty() || !file.hunks.is_empty());
    files
}

/// Marks the place of unchanged lines that are left out.
const CONTEXT_GAP: &str = " [... unchanged lines ...]";

/// Removes the unchanged lines that are more than `context` lines away from a change. Returns how many.
fn shorten_context(files: &mut [DiffFile<'_>], context: usize) -> usize {
    let mut removed = 0;
    for hunk in files.iter_mut().flat_map(|file| file.hunks.iter_mut()) {
        let mut is_near = vec![false; hunk.len()];
        for (at, line) in hunk.iter().enumerate() {
            if is_hunk_header(line) {
                is_near[at] = true;
            } else if is_change(line) {
                let last = (at + context).min(hunk.len() - 1);
                is_near[at.saturating_sub(context)..=last].fill(true);
            }
        }
        // A hunk without a change is not understood, and so nothing of it is removed.
        if !hunk.iter().any(|line| is_change(line)) {
            continue;
        }
        let mut shortened: Vec<&str> = Vec::new();
        for (line, is_near) in hunk.iter().zip(is_near) {
            if is_near {
                shortened.push(line);
                continue;
            }
            removed += usize::from(*line != CONTEXT_GAP);
            if shortened.last() != Some(&CONTEXT_GAP) {
                shortened.push(CONTEXT_GAP);
            }
        }
        *hunk = shortened;
    }
    removed
}

fn print_files(files: &[DiffFile<'_>]) -> String {
    let lines = files.iter().flat_map(|file| file.header.iter().chain(file.hunks.iter().flatten()));
    lines.copied().collect::<Vec<_>>().join("\n")
}

/// Shows whole hunks until the budget is spent: first one of each kind, because a change that is made a hundred times must not
/// displace one that is made once.
fn cut_hunks(files: &[DiffFile<'_>], omitted_context: usize, budget: OutputBudget) -> String {
    let mut seen: HashSet<String> = HashSet::new();
    let mut first_of_kind: Vec<(usize, usize)> = Vec::new();
    let mut others: Vec<(usize, usize)> = Vec::new();
    for (file, hunks) in files.iter().map(|file| &file.hunks).enumerate() {
        for (hunk, lines) in hunks.iter().enumerate() {
            let changes: Vec<String> =
                lines.iter().filter(|line| is_change(line)).map(|line| value_shape(line)).collect();
            let is_new = seen.insert(changes.join("\n"));
            if is_new { first_of_kind.push((file, hunk)) } else { others.push((file, hunk)) }
        }
    }
    let note = omission_note(omitted_context, usize::MAX / 2, usize::MAX / 2, &[]);
    let mut chosen = BudgetedText::new(budget.minus(&note).share(92));
    let mut kept: Vec<Vec<bool>> = files.iter().map(|file| vec![false; file.hunks.len()]).collect();
    for (file, hunk) in first_of_kind.into_iter().chain(others) {
        let mut text = files[file].hunks[hunk].join("\n");
        if !kept[file].contains(&true) {
            text = format!("{}\n{text}", files[file].header.join("\n"));
        }
        kept[file][hunk] = chosen.push_line(&text);
    }
    let mut text = BudgetedText::new(budget.minus(&note));
    let mut hunks = 0;
    let mut lines = 0;
    let mut names: Vec<&str> = Vec::new();
    for (file, kept) in files.iter().zip(&kept) {
        let shown: Vec<&str> =
            file.hunks.iter().zip(kept).filter(|(_, kept)| **kept).flat_map(|(hunk, _)| hunk.iter().copied()).collect();
        if !shown.is_empty() {
            text.push_line(&format!("{}\n{}", file.header.join("\n"), shown.join("\n")));
        }
        for (hunk, _) in file.hunks.iter().zip(kept).filter(|(_, kept)| !**kept) {
            hunks += 1;
            lines += hunk.iter().filter(|line| **line != CONTEXT_GAP).count();
            names.extend(file.header.last().filter(|name| names.last() != Some(*name)));
        }
    }
    let mut note_text = BudgetedText::new(text.remaining().minus(&note).share(90));
    note_text.push_list("", names.iter().map(|name| name.trim_start_matches("+++ ")));
    let names = note_text.into_text();
    let note = omission_note(omitted_context, hunks, lines, &[names.trim()]);
    let shown = text.into_text();
    format!("{shown}\n{note}")
}

fn omission_note(context: usize, hunks: usize, lines: usize, files: &[&str]) -> String {
    let mut parts = Vec::new();
    if context > 0 {
        parts.push(format!("{context} unchanged lines left out"));
    }
    if hunks > 0 {
        let mut part = format!("the diff is cut: {lines} lines of {hunks} more changes left out");
        if let Some(files) = files.first().filter(|files| !files.is_empty()) {
            let _ = write!(part, ", in {files}");
        }
        parts.push(part);
    }
    format!("[... {} ...]", parts.join("; "))
}
