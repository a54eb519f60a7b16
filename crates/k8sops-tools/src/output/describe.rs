//! What `kubectl describe` prints: sections of `Key: value` lines, with tables in them. Several objects are parsed, so that they
//! can be compared.

use std::borrow::Cow;

use super::{
    budget::{BudgetedText, OutputBudget},
    node::{Node, ScalarKind},
};

/// Sections that say less than others about what is wrong, and get a quarter of the room of another one.
const MINOR_SECTIONS: &[&str] = &[
    "Labels",
    "Annotations",
    "System Info",
    "Tolerations",
    "Volumes",
    "Node-Selectors",
    "QoS Class",
    "Addresses",
    "Capacity",
];

/// Returns the objects in a text of `kubectl describe`; `None` if the text is none.
pub(super) fn split_objects(text: &str) -> Option<Vec<&str>> {
    let text = text.trim_matches('\n');
    if !is_first_line(text.lines().next()?) {
        return None;
    }
    let mut starts = vec![0];
    let mut at = 0;
    let mut is_after_blank = false;
    for line in text.split_inclusive('\n') {
        if is_after_blank && is_first_line(line) {
            starts.push(at);
        }
        is_after_blank = line.trim().is_empty();
        at += line.len();
    }
    starts.push(text.len());
    let objects: Vec<&str> = starts.windows(2).map(|pair| text[pair[0]..pair[1]].trim_matches('\n')).collect();
    let sections = split_sections(objects[0]).len();
    (sections >= 3).then_some(objects)
}

fn is_first_line(line: &str) -> bool {
    line.strip_prefix("Name:").is_some_and(|rest| rest.starts_with([' ', '\t']))
}

/// Splits an object into its sections: a line without indentation and the lines below it.
fn split_sections(object: &str) -> Vec<&str> {
    let mut starts = vec![0];
    let mut at = 0;
    for line in object.split_inclusive('\n') {
        let is_key = line.starts_with(|char: char| char.is_ascii_uppercase()) && line.contains(':');
        if at > 0 && is_key {
            starts.push(at);
        }
        at += line.len();
    }
    starts.push(object.len());
    starts.windows(2).map(|pair| object[pair[0]..pair[1]].trim_end()).collect()
}

/// Shows one object within the budget: short sections as they are, and of long ones what `shrink` leaves.
pub(super) fn shrink_sections(
    object: &str,
    budget: OutputBudget,
    shrink: &dyn Fn(&str, OutputBudget) -> String,
) -> String {
    let sections = split_sections(object);
    let weight = |section: &str| {
        let key = section.split(':').next().unwrap_or_default();
        if MINOR_SECTIONS.contains(&key) { 1 } else { 4 }
    };
    let mut order: Vec<usize> = (0..sections.len()).collect();
    order.sort_by_key(|at| sections[*at].len() * 4 / weight(sections[*at]));
    let mut remaining = budget.limited_to(budget.tokens.saturating_sub(sections.len()));
    let mut weights: usize = sections.iter().map(|section| weight(section)).sum();
    let mut shown: Vec<String> = vec![String::new(); sections.len()];
    for at in order {
        let section = sections[at];
        let share = remaining.tokens * weight(section) / weights.max(1);
        weights -= weight(section);
        let part = remaining.limited_to(share);
        shown[at] = if part.allows(section) { section.to_owned() } else { shrink_section(section, part, shrink) };
        remaining = remaining.minus(&shown[at]);
    }
    let mut text = BudgetedText::new(budget);
    for section in shown.iter().filter(|section| !section.is_empty()) {
        text.push_line(section);
    }
    text.into_text()
}

fn shrink_section(section: &str, budget: OutputBudget, shrink: &dyn Fn(&str, OutputBudget) -> String) -> String {
    match section.split_once('\n') {
        Some((key, body)) if key.trim_end().ends_with(':') => {
            let mut text = BudgetedText::new(budget);
            if text.push_line(key) {
                text.push_line(&shrink(body, text.remaining()));
            }
            text.into_text()
        }
        _ => shrink(section, budget),
    }
}

/// Reads an object as a tree: the indentation is the structure.
pub(super) fn read_object(object: &str) -> Node<'_> {
    let lines: Vec<(usize, &str)> = object
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| (line.len() - line.trim_start().len(), line.trim()))
        .collect();
    let mut at = 0;
    read_block(&lines, &mut at, 0, 0)
}

fn read_block<'a>(lines: &[(usize, &'a str)], at: &mut usize, indent: usize, depth: usize) -> Node<'a> {
    let mut fields: Vec<(Cow<'a, str>, Node<'a>)> = Vec::new();
    while let Some((line_indent, line)) = lines.get(*at).copied().filter(|(line_indent, _)| *line_indent >= indent) {
        *at += 1;
        let key_end = line.find(": ").or_else(|| line.ends_with(':').then(|| line.len() - 1));
        let next_indent = lines.get(*at).map_or(0, |(indent, _)| *indent);
        let Some(key_end) = key_end else {
            // A row of a table, or a further value.
            fields.push((Cow::Borrowed("line"), Node::Scalar(Cow::Borrowed(line), ScalarKind::Text)));
            continue;
        };
        let value = line[key_end + 1..].trim();
        let key = Cow::Borrowed(&line[..key_end]);
        if value.is_empty() && next_indent > line_indent && depth < 16 {
            fields.push((key, read_block(lines, at, next_indent, depth + 1)));
        } else {
            fields.push((key, Node::Scalar(Cow::Borrowed(value), ScalarKind::Text)));
        }
    }
    Node::Map(fields)
}
