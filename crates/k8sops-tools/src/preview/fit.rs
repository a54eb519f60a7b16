//! Cuts a preview that is too long for an approval request: at whole hunks of a diff, or at whole lines.
//!
//! The lines of an output may be folded because they are alike. The lines of a preview may not: two lines that differ in a
//! number only are what a person must see (`replicas: 3` and `replicas: 0`). So what is shown is shown as it is, and what is
//! left out is counted. Of many alike changes, those that are unlike the others are kept first.

use std::{collections::HashMap, fmt::Write as _};

/// Unchanged lines that are shown before and after a change.
const CONTEXT_LINES: usize = 3;
/// Bytes that are kept free for a note on what is left out.
const NOTE_BYTES: usize = 96;

/// A preview within its limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FittedPreview {
    pub(crate) text: String,
    /// Lines that are left out, not counting unchanged lines far from any change.
    pub(crate) lines_omitted: u64,
}

/// A part of a preview that is shown as a whole or left out as a whole.
struct PreviewUnit<'a> {
    /// Lines that name the file of a diff, shown once before the first of its hunks.
    header: Option<usize>,
    /// `@@ -1,3 +1,4 @@`; empty for a line that is in no diff.
    hunk_header: String,
    lines: Vec<&'a str>,
    /// What the unit changes, without the digits that differ between alike changes.
    shape: String,
}

impl PreviewUnit<'_> {
    fn bytes(&self) -> usize {
        self.hunk_header.len() + 1 + self.lines.iter().map(|line| line.len() + 1).sum::<usize>()
    }

    fn line_count(&self) -> usize {
        self.lines.len() + usize::from(!self.hunk_header.is_empty())
    }
}

/// Fits a preview into `max_bytes`. `advice` says how to read the whole, and is added if lines are left out.
pub(crate) fn fit_preview(text: &str, max_bytes: usize, advice: &str) -> FittedPreview {
    if text.len() <= max_bytes {
        return FittedPreview { text: text.to_owned(), lines_omitted: 0 };
    }
    let (headers, units) = split_into_units(text);
    let header_bytes: Vec<usize> = headers.iter().map(|lines| lines.iter().map(|line| line.len() + 1).sum()).collect();
    let selected = select_units(&units, &header_bytes, max_bytes.saturating_sub(2 * NOTE_BYTES + advice.len()));
    let mut shown = String::new();
    let mut shown_header = None;
    let mut gap = 0;
    let mut lines_omitted = 0;
    for (unit, is_selected) in units.iter().zip(&selected) {
        if !is_selected {
            gap += unit.line_count();
            continue;
        }
        write_gap(&mut shown, &mut gap, &mut lines_omitted);
        if let Some(header) = unit.header
            && shown_header.replace(header) != Some(header)
        {
            headers[header].iter().for_each(|line| push_line(&mut shown, line));
        }
        if !unit.hunk_header.is_empty() {
            push_line(&mut shown, &unit.hunk_header);
        }
        unit.lines.iter().for_each(|line| push_line(&mut shown, line));
    }
    if let Some(first) = units.first()
        && !selected.contains(&true)
    {
        // A single unit is larger than the limit, as the diff of a long new object is: its first lines are shown.
        let room = max_bytes.saturating_sub(3 * NOTE_BYTES + advice.len());
        for header in first.header.into_iter().flat_map(|header| &headers[header]) {
            push_line(&mut shown, header);
        }
        let mut kept = 0;
        for line in &first.lines {
            if shown.len() + line.len() > room {
                break;
            }
            push_line(&mut shown, line);
            kept += 1;
        }
        gap -= kept;
    }
    write_gap(&mut shown, &mut gap, &mut lines_omitted);
    if lines_omitted > 0 {
        let _ = writeln!(shown, "[this preview leaves out {lines_omitted} lines; {advice}]");
    }
    FittedPreview { text: shown, lines_omitted }
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// Says how many lines are left out here.
fn write_gap(text: &mut String, gap: &mut usize, lines_omitted: &mut u64) {
    if *gap > 0 {
        let _ = writeln!(text, "[{gap} lines are left out here]");
        *lines_omitted += *gap as u64;
        *gap = 0;
    }
}

/// Chooses the units to show: those with a rare shape first, then from the beginning.
fn select_units(units: &[PreviewUnit<'_>], header_bytes: &[usize], max_bytes: usize) -> Vec<bool> {
    let mut frequencies: HashMap<&str, usize> = HashMap::new();
    for unit in units {
        *frequencies.entry(&unit.shape).or_default() += 1;
    }
    let mut order: Vec<usize> = (0..units.len()).collect();
    order.sort_by_key(|at| frequencies.get(units[*at].shape.as_str()).copied().unwrap_or_default());
    let mut selected = vec![false; units.len()];
    let mut paid_headers = vec![false; header_bytes.len()];
    let mut used = 0;
    for at in order {
        let unit = &units[at];
        let header = unit.header.filter(|header| !paid_headers[*header]);
        // A neighbor that is left out costs a note.
        let has_neighbor = at == 0 || selected[at - 1] || selected.get(at + 1) == Some(&true);
        let cost = unit.bytes()
            + header.map_or(0, |header| header_bytes[header])
            + if has_neighbor { 0 } else { NOTE_BYTES / 2 };
        if used + cost > max_bytes {
            continue;
        }
        used += cost;
        selected[at] = true;
        if let Some(header) = header {
            paid_headers[header] = true;
        }
    }
    selected
}

/// Splits a text into the hunks of a diff with the headers of its files, or into lines if it is no diff.
fn split_into_units(text: &str) -> (Vec<Vec<&str>>, Vec<PreviewUnit<'_>>) {
    let lines: Vec<&str> = text.lines().collect();
    if !lines.iter().any(|line| parse_hunk_header(line).is_some()) {
        let units = lines.into_iter().map(|line| PreviewUnit {
            header: None,
            hunk_header: String::new(),
            shape: line_shape(line),
            lines: vec![line],
        });
        return (Vec::new(), units.collect());
    }
    let mut headers: Vec<Vec<&str>> = Vec::new();
    let mut units = Vec::new();
    let mut header: Vec<&str> = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let Some(start) = parse_hunk_header(lines[at]) else {
            header.push(lines[at]);
            at += 1;
            continue;
        };
        if !header.is_empty() {
            headers.push(std::mem::take(&mut header));
        }
        let begin = at + 1;
        let end = (begin..lines.len()).find(|line| is_end_of_hunk(&lines, *line)).unwrap_or(lines.len());
        let file = headers.len().checked_sub(1);
        units.extend(trim_context(start, &lines[begin..end]).into_iter().map(|(hunk_header, lines)| PreviewUnit {
            header: file,
            shape: hunk_shape(&lines),
            hunk_header,
            lines,
        }));
        at = end;
    }
    // Lines behind the last hunk, such as a message of the program that made the diff.
    units.extend(header.into_iter().map(|line| PreviewUnit {
        header: None,
        hunk_header: String::new(),
        shape: line_shape(line),
        lines: vec![line],
    }));
    (headers, units)
}

/// Returns the first line of both sides, from `@@ -OLD,… +NEW,… @@`.
fn parse_hunk_header(line: &str) -> Option<(usize, usize)> {
    let (old, rest) = line.strip_prefix("@@ -")?.split_once(" +")?;
    let first = |side: &str| side.split([',', ' ']).next()?.parse().ok();
    Some((first(old)?, first(rest)?))
}

/// Returns whether a hunk ends before a line. The lengths in its header are not relied on: not every tool that prints a diff
/// counts well.
fn is_end_of_hunk(lines: &[&str], at: usize) -> bool {
    let line = lines[at];
    let starts_file = line.starts_with("--- ") && lines.get(at + 1).is_some_and(|next| next.starts_with("+++ "));
    starts_file
        || parse_hunk_header(line).is_some()
        || !(line.is_empty() || line.starts_with([' ', '+', '-', '\\', '\t']))
}

/// Splits a hunk so that no change has more than [`CONTEXT_LINES`] unchanged lines around it.
fn trim_context<'a>((mut old, mut new): (usize, usize), lines: &[&'a str]) -> Vec<(String, Vec<&'a str>)> {
    let is_change = |line: &str| line.starts_with(['+', '-']);
    let is_near_change = |at: usize| {
        let around = at.saturating_sub(CONTEXT_LINES)..(at + CONTEXT_LINES + 1).min(lines.len());
        lines[around].iter().any(|line| is_change(line))
    };
    let mut hunks: Vec<(usize, usize, Vec<&str>)> = Vec::new();
    let mut is_open = false;
    for (at, line) in lines.iter().enumerate() {
        if is_near_change(at) {
            if !is_open {
                hunks.push((old, new, Vec::new()));
            }
            if let Some((.., kept)) = hunks.last_mut() {
                kept.push(line);
            }
            is_open = true;
        } else {
            is_open = false;
        }
        old += usize::from(!line.starts_with(['+', '\\']));
        new += usize::from(!line.starts_with(['-', '\\']));
    }
    let with_header = hunks.into_iter().map(|(old, new, lines)| {
        let old_lines = lines.iter().filter(|line| !line.starts_with(['+', '\\'])).count();
        let new_lines = lines.iter().filter(|line| !line.starts_with(['-', '\\'])).count();
        (format!("@@ -{old},{old_lines} +{new},{new_lines} @@"), lines)
    });
    with_header.collect()
}

fn hunk_shape(lines: &[&str]) -> String {
    lines.iter().filter(|line| line.starts_with(['+', '-'])).map(|line| without_digits(line) + "\n").collect()
}

/// Returns what a line says without the name of the object that it is about: `pod/web-1 deleted` and `pod/db-0 deleted` have
/// the same shape, `namespace/shop deleted` has another.
fn line_shape(line: &str) -> String {
    let (subject, rest) = line.split_once(' ').unwrap_or((line, ""));
    match subject.split_once('/') {
        Some((kind, _)) => without_digits(&format!("{kind}/ {rest}")),
        None => without_digits(line),
    }
}

fn without_digits(text: &str) -> String {
    let mut shape = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '0'..='9' if shape.ends_with('#') => {}
            '0'..='9' => shape.push('#'),
            char => shape.push(char),
        }
    }
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object_diff(name: &str, hunk: &str) -> String {
        format!("--- live/{name}\n+++ new/{name}\n@@ -1,3 +1,3 @@\n spec:\n{hunk}")
    }

    fn numbered_lines(count: usize, start: &str) -> String {
        let mut text = String::new();
        (0..count).for_each(|n| push_line(&mut text, &format!("{start}{n}")));
        text
    }

    #[test]
    fn short_preview_stays_as_it_is() {
        let diff = object_diff("web", "-  replicas: 3\n+  replicas: 0\n");
        assert_eq!(fit_preview(&diff, 1000, "ask"), FittedPreview { text: diff, lines_omitted: 0 });
    }

    #[test]
    fn unlike_hunk_is_shown_among_many_alike() {
        let alike = |n: usize| object_diff(&format!("web-{n}"), &format!("-  image: web:1.{n}\n+  image: web:2.{n}\n"));
        let diff = (0..500).map(alike).collect::<Vec<_>>().concat();
        let odd = object_diff("role", "-  - get\n+  - '*'\n");
        let diff = format!("{diff}{odd}{diff}");
        let fitted = fit_preview(&diff, 4000, "read it at /preview");
        assert!(fitted.text.len() <= 4000, "{}", fitted.text.len());
        assert!(fitted.text.contains("+++ new/role\n@@ -1,2 +1,2 @@\n spec:\n-  - get\n+  - '*'\n"), "{}", fitted.text);
        let shown = fitted.text.lines().filter(|line| line.contains("image:")).count();
        assert!(shown > 20, "{shown}");
        assert!(fitted.lines_omitted > 3000);
        assert!(fitted.text.ends_with("read it at /preview]\n"), "{}", fitted.text);
    }

    #[test]
    fn unchanged_lines_far_from_changes_give_way() {
        let context = numbered_lines(3000, "     - name: VAR_");
        let hunk = format!("{context}-  replicas: 3\n+  replicas: 0\n{context}-  image: a\n+  image: b\n{context}");
        let fitted = fit_preview(&object_diff("web", &hunk), 4000, "ask");
        assert_eq!(fitted.lines_omitted, 0, "{}", fitted.text);
        assert!(fitted.text.contains("-  replicas: 3\n+  replicas: 0\n"));
        assert!(fitted.text.contains("-  image: a\n+  image: b\n"));
        assert!(fitted.text.contains("@@ -2999,7 +2999,7 @@"), "{}", fitted.text);
    }

    #[test]
    fn kind_that_occurs_once_is_shown_in_a_list_of_objects() {
        let pods = |from: usize| (from..from + 900).map(|n| format!("pod/web-{n} deleted (server dry run)\n"));
        let list: String =
            pods(0).chain(["namespace/prod deleted (server dry run)\n".to_owned()]).chain(pods(900)).collect();
        let fitted = fit_preview(&list, 2000, "ask");
        assert!(fitted.text.contains("namespace/prod deleted"), "{}", fitted.text);
        assert_eq!(
            fitted.text.lines().filter(|line| line.contains("deleted")).count() as u64,
            1801 - fitted.lines_omitted
        );
        assert!(fitted.text.len() <= 2000);
    }

    #[test]
    fn single_unit_above_the_limit_shows_its_first_lines() {
        let added = numbered_lines(2000, "+  key");
        let fitted = fit_preview(&object_diff("big", &added), 1500, "ask");
        assert!(fitted.text.contains("+++ new/big\n") && fitted.text.contains("+  key0\n"), "{}", fitted.text);
        assert!(fitted.lines_omitted > 1700 && fitted.text.len() <= 1500);
    }

    #[test]
    fn removed_line_that_looks_like_a_header_is_no_header() {
        let diff = "--- a\n+++ b\n@@ -1,2 +1,2 @@\n--- dashes\n+x\n y\n".repeat(100);
        let (headers, units) = split_into_units(&diff);
        assert_eq!((headers.len(), units.len()), (100, 100));
        assert_eq!(units[0].lines, ["--- dashes", "+x", " y"]);
    }
}
