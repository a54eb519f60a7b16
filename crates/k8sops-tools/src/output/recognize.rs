//! Recognizes what an output is, and shows it by the rule of its kind.

use std::{borrow::Cow, collections::HashMap};

use super::{
    budget::{BudgetedText, OutputBudget},
    cut_json::close_cut_json,
    describe::{read_object, shrink_sections, split_objects},
    diffs::{cut_diff, is_diff},
    documents::DocumentShrinker,
    list_item::ListItem,
    node::{Node, read_json, read_yaml},
    node_text::NodeStyle,
    noise::RemovedNoise,
    object_lists::list_objects,
    table_layout::{TextBlock, find_tables},
    tables::{shrink_table, whole_table},
    text_lines::{fold_lines, is_log, select_lines},
    truncate::truncate_middle,
};

/// Largest YAML that is parsed.
const MAX_YAML_BYTES: usize = 32 << 20;
/// Lines before JSON or YAML that a server may add.
const MAX_PREAMBLE_LINES: usize = 20;
/// Fewest bytes of JSON below a text that are shown by their own rule.
const MIN_TRAILING_JSON_BYTES: usize = 500;
/// Fewest tables that are joined if they have the same columns.
const MIN_JOINED_TABLES: usize = 4;
/// Fewest objects of `kubectl describe` that are compared and not shown one after another.
const MIN_COMPARED_OBJECTS: usize = 6;

/// JSON or YAML with the text around it.
struct ParsedDocuments<'a> {
    before: &'a str,
    documents: Vec<Node<'a>>,
    after: &'a str,
    style: NodeStyle,
}

/// Shows a text within the budget, by the rule of its kind.
pub(super) fn shrink_text(text: &str, budget: OutputBudget) -> String {
    let text = &*remove_colors(text);
    if budget.allows(text) {
        return text.to_owned();
    }
    if is_diff(text) {
        return cut_diff(text, budget);
    }
    // A whole output as a string of JSON.
    if text.starts_with('"')
        && let Ok(inner) = serde_json::from_str::<String>(text.trim_end())
    {
        return shrink_text(&inner, budget);
    }
    let shown = match parse_documents(text)
        .map(|parsed| shrink_parsed(parsed, budget))
        .or_else(|| shrink_before_json(text, budget))
        .or_else(|| shrink_cut(text, budget))
    {
        Some(shown) => shown,
        None => match split_objects(text) {
            Some(objects) => shrink_described(&objects, budget),
            None => match find_tables(text) {
                Some(blocks) => shrink_blocks(blocks, budget),
                None if is_log(text) => fold_lines(text, budget),
                None => select_lines(text, budget),
            },
        },
    };
    if budget.allows(&shown) { shown } else { truncate_middle(&shown, budget, "") }
}

/// Shows a text that ends with JSON, as of a server that prints a summary and then its data; `None` if the text is none.
fn shrink_before_json(text: &str, budget: OutputBudget) -> Option<String> {
    if is_json_lines(text) {
        return None;
    }
    let start = text.match_indices(['{', '[']).map(|(at, _)| at).find(|at| text[..*at].ends_with('\n'))?;
    let (before, json) = text.split_at(start);
    let (_, after) = read_json(json)?;
    if !after.trim().is_empty() || json.len() < MIN_TRAILING_JSON_BYTES {
        return None;
    }
    let before = shrink_text(before.trim_end(), budget.share(50));
    Some(format!("{before}\n{}", shrink_text(json.trim_end(), budget.minus(&before))))
}

/// Shows JSON whose end is missing; `None` if the text is none.
fn shrink_cut(text: &str, budget: OutputBudget) -> Option<String> {
    const NOTE: &str = "[the end of this JSON is missing, and so is its last value]";
    if is_json_lines(text) {
        return None;
    }
    let closed = close_cut_json(text)?;
    let parsed = parse_documents(&closed)?;
    Some(format!("{NOTE}\n{}", shrink_parsed(parsed, budget.minus(NOTE))))
}

/// Removes the colors of a terminal.
fn remove_colors(text: &str) -> Cow<'_, str> {
    if !text.contains("\u{1b}[") {
        return text.into();
    }
    let mut parts = text.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|char: char| char.is_ascii_alphabetic()).map_or(part.len(), |at| at + 1);
        plain.push_str(&part[end..]);
    }
    plain.into()
}

fn parse_documents(text: &str) -> Option<ParsedDocuments<'_>> {
    if is_json_lines(text) {
        return None;
    }
    let mut at = 0;
    let mut json_attempts = 0;
    for line in text.split_inclusive('\n').take(MAX_PREAMBLE_LINES) {
        let rest = &text[at..];
        if line.trim_start().starts_with(['{', '[']) && json_attempts < 3 {
            json_attempts += 1;
            if let Some((documents, after)) = read_json(rest.trim_start())
                && after.len() * 2 < rest.len()
            {
                let style = NodeStyle::of_json(rest);
                return Some(ParsedDocuments { before: &text[..at], documents, after, style });
            }
        }
        let is_yaml_start = line.starts_with("- ")
            || line.starts_with("---")
            || line.starts_with("apiVersion:")
            || line.starts_with("items:")
            || is_yaml_key(line) && text[..at].lines().all(is_heading);
        if is_yaml_start && rest.len() <= MAX_YAML_BYTES && split_objects(rest).is_none() {
            let (yaml, after) = rest.split_once("\n```").unwrap_or((rest, ""));
            return read_yaml(yaml).map(|documents| ParsedDocuments {
                before: &text[..at],
                documents,
                after,
                style: NodeStyle::Yaml,
            });
        }
        at += line.len();
    }
    None
}

/// Returns whether a line only says what follows: `USER-SUPPLIED VALUES:`, a comment, or nothing.
fn is_heading(line: &str) -> bool {
    let line = line.trim();
    let is_title = line.strip_suffix(':').is_some_and(|title| title.contains(' ') && !title.contains(": "));
    line.is_empty() || line.starts_with('#') || is_title
}

/// Returns whether a line is `key:` or `key: value`.
fn is_yaml_key(line: &str) -> bool {
    let key = line.split(':').next().unwrap_or_default();
    key.len() < line.trim_end().len()
        && !key.is_empty()
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/'))
        && line[key.len() + 1..].starts_with([' ', '\n', '\r'])
}

/// Returns whether each line of a text is an object of its own.
fn is_json_lines(text: &str) -> bool {
    let mut lines = 0;
    let mut objects = 0;
    for line in text.lines().filter(|line| !line.trim().is_empty()).take(40) {
        lines += 1;
        objects += usize::from(line.starts_with('{') && line.trim_end().ends_with('}') && line.len() > 2);
    }
    objects > 3 && objects * 5 >= lines * 2
}

fn shrink_parsed(parsed: ParsedDocuments<'_>, budget: OutputBudget) -> String {
    let ParsedDocuments { before, mut documents, after, style } = parsed;
    let mut noise = RemovedNoise::default();
    for document in &mut documents {
        noise.remove_from(document);
    }
    let mut text = BudgetedText::new(budget);
    if let Some(noise) = noise.describe() {
        text.push_line(&format!("[{noise}]"));
    }
    for around in [before, after] {
        let around = around.trim().trim_matches('`').trim();
        if !around.is_empty() {
            text.push_line(&shrink_text(around, budget.share(15)));
        }
    }
    let shrinker = DocumentShrinker { style, shrink_scalar: &shrink_text };
    text.push_line(&shrinker.shrink_documents(&documents, text.remaining()));
    text.into_text()
}

fn shrink_described(objects: &[&str], budget: OutputBudget) -> String {
    if objects.len() < MIN_COMPARED_OBJECTS {
        let mut text = BudgetedText::new(budget);
        for (n, object) in objects.iter().enumerate() {
            let remaining = text.remaining();
            let share = remaining.limited_to(remaining.tokens / (objects.len() - n));
            text.push_line(&shrink_sections(object, share, &shrink_text));
        }
        return text.into_text();
    }
    let nodes: Vec<Node<'_>> = objects.iter().map(|object| read_object(object)).collect();
    let items: Vec<ListItem<'_>> = nodes.iter().enumerate().map(|(n, node)| ListItem::new(node, n)).collect();
    let shrink_object = |item: &ListItem<'_>, budget: OutputBudget| {
        let object = nodes.iter().position(|node| std::ptr::eq(node, item.node)).map_or("", |at| objects[at]);
        shrink_sections(object, budget, &shrink_text)
    };
    list_objects(&items, "described objects", NodeStyle::Yaml, budget, &shrink_object)
}

/// Joins tables of the same columns if there are several, as of many namespaces: one by one, each would get too little room.
fn join_tables(blocks: Vec<TextBlock<'_>>) -> Vec<TextBlock<'_>> {
    let mut joined: Vec<TextBlock<'_>> = Vec::with_capacity(blocks.len());
    let mut by_columns: HashMap<Vec<&str>, usize> = HashMap::new();
    let tables = blocks.iter().filter(|block| matches!(block, TextBlock::Table(_))).count();
    for block in blocks {
        match block {
            TextBlock::Table(table) if tables >= MIN_JOINED_TABLES => {
                let first = by_columns.get(&table.columns).and_then(|at| joined.get_mut(*at));
                if let Some(TextBlock::Table(first)) = first {
                    first.parts += 1;
                    first.rows.extend(table.rows);
                } else {
                    by_columns.insert(table.columns.clone(), joined.len());
                    joined.push(TextBlock::Table(table));
                }
            }
            block => joined.push(block),
        }
    }
    joined
}

/// Shows tables and the text between them. Small ones are shown as they are, and large ones share the rest.
fn shrink_blocks(blocks: Vec<TextBlock<'_>>, budget: OutputBudget) -> String {
    let blocks = join_tables(blocks);
    let whole: Vec<Cow<'_, str>> = blocks
        .iter()
        .map(|block| match block {
            TextBlock::Table(table) => whole_table(table).into(),
            TextBlock::Lines(text) => (*text).into(),
        })
        .collect();
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    order.sort_by_key(|at| whole[*at].len());
    let mut remaining = budget.limited_to(budget.tokens.saturating_sub(blocks.len() * 2));
    let mut shown: Vec<String> = vec![String::new(); blocks.len()];
    for (n, at) in order.iter().enumerate() {
        let share = remaining.limited_to(remaining.tokens / (blocks.len() - n));
        shown[*at] = match &blocks[*at] {
            TextBlock::Table(table) => shrink_table(table, share),
            TextBlock::Lines(_) if share.allows(&whole[*at]) => whole[*at].clone().into_owned(),
            TextBlock::Lines(text) => select_lines(text, share),
        };
        remaining = remaining.minus(&shown[*at]);
    }
    shown.retain(|block| !block.is_empty());
    shown.join("\n\n")
}
