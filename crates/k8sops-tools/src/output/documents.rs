//! JSON and YAML within a budget. What is small is shown as it is; of what is large, each part gets its share of the budget and
//! is shown by the rule of its kind.

use std::borrow::Cow;

use super::{
    alarm_words::{AlarmLevel, alarm_level},
    budget::{BudgetedText, OutputBudget},
    event_rows::list_events,
    facts::is_identity,
    list_item::ListItem,
    node::{Node, ScalarKind},
    node_text::NodeStyle,
    object_lists::list_objects,
    text_lines::select_lines,
    time_series::{list_series, summarize_points},
    truncate::clip_value,
};

/// Fewer objects are shown one by one.
const MIN_LIST_ITEMS: usize = 8;
/// Fewer entries of a map are fields and not a list of objects under their names.
const MIN_NAMED_ITEMS: usize = 12;
/// Most kinds that are shown apart.
const MAX_KINDS: usize = 24;
/// Bytes of a token of JSON or YAML, roughly, to share a budget.
const BYTES_PER_TOKEN: usize = 3;
/// Longest text in bytes in a part that is a little too long, from one attempt to the next.
const TRIMMED_BYTES: &[usize] = &[300, 120, 60];
/// Least share of the budget in percent that a part with its texts cut must fill.
const MIN_TRIMMED_PERCENT: usize = 60;
/// Fewest tokens in which a part is shown.
const MIN_PART_TOKENS: usize = 12;

/// A part of a tree that is shown under a label.
struct LabeledPart<'a> {
    label: String,
    node: &'a Node<'a>,
}

/// Shows trees in the style of their output. `shrink_scalar` shows long text in them, which may be anything.
pub(super) struct DocumentShrinker<'s> {
    pub(super) style: NodeStyle,
    pub(super) shrink_scalar: &'s dyn Fn(&str, OutputBudget) -> String,
}

impl DocumentShrinker<'_> {
    /// Shows documents one after another.
    pub(super) fn shrink_documents(&self, documents: &[Node<'_>], budget: OutputBudget) -> String {
        match documents {
            [document] => self.shrink_node(document, budget),
            documents => self.shrink_list(documents, budget),
        }
    }

    /// Shows a node within the budget.
    fn shrink_node(&self, node: &Node<'_>, budget: OutputBudget) -> String {
        if node.text_bytes() / 2 <= budget.bytes {
            let whole = node.to_text(self.style);
            if budget.allows(&whole) {
                return whole;
            }
        }
        // What is a little too long loses what identifies it and the ends of its long texts. If that leaves much of the budget,
        // the texts are what is too long, and each is shown by its own rule.
        if node.text_bytes() / 4 <= budget.bytes {
            for max_bytes in TRIMMED_BYTES {
                let trimmed = trim_node(node, "", *max_bytes).to_text(self.style);
                if budget.allows(&trimmed) {
                    if !budget.share(MIN_TRIMMED_PERCENT).allows(&trimmed) || !has_long_text(node) {
                        return trimmed;
                    }
                    break;
                }
            }
        }
        match node {
            Node::Scalar(text, _) => (self.shrink_scalar)(text, budget),
            Node::List(items) => self.shrink_list(items, budget),
            Node::Map(fields)
                if fields.len() >= MIN_NAMED_ITEMS && fields.iter().all(|(_, value)| value.as_map().is_some()) =>
            {
                let items: Vec<ListItem<'_>> =
                    fields.iter().map(|(key, node)| ListItem { name: key.to_string(), node }).collect();
                self.list_items(&items, "entries", budget)
            }
            Node::Map(fields) => self.shrink_map(fields, budget),
        }
    }

    fn shrink_map(&self, fields: &[(Cow<'_, str>, Node<'_>)], budget: OutputBudget) -> String {
        // Small fields stay together in their form.
        let fair_bytes = budget.tokens * BYTES_PER_TOKEN / fields.len().clamp(1, 64);
        let is_small = |node: &Node<'_>| node.text_bytes() <= fair_bytes;
        let small: Vec<_> = fields.iter().filter(|(_, value)| is_small(value)).cloned().collect();
        let for_small = if small.len() == fields.len() { budget } else { budget.share(60) };
        let mut text = BudgetedText::new(budget);
        if !small.is_empty() {
            let small = Node::Map(small);
            let whole = small.to_text(self.style);
            // Many fields can be too much although each of them is small.
            if for_small.allows(&whole) {
                text.push_line(&whole);
            } else {
                text.push_line(&select_lines(&entry_lines(&small, self.style), for_small));
            }
        }
        let large: Vec<LabeledPart<'_>> = fields
            .iter()
            .filter(|(_, value)| !is_small(value))
            .map(|(key, node)| LabeledPart { label: format!("{}:", clip_value(key, 200)), node })
            .collect();
        self.push_parts(&mut text, &large);
        text.into_text()
    }

    fn shrink_list(&self, items: &[Node<'_>], budget: OutputBudget) -> String {
        if let Some(text) = summarize_points(items, self.style, budget) {
            return text;
        }
        let is_scalars = items.iter().all(|item| matches!(item, Node::Scalar(..)));
        if is_scalars {
            let lines: Vec<&str> = items.iter().filter_map(Node::as_text).collect();
            return (self.shrink_scalar)(&lines.join("\n"), budget);
        }
        let by_kind = group_by_kind(items);
        if by_kind.len() > 1 && by_kind.len() <= MAX_KINDS {
            let groups: Vec<(String, Node<'_>)> = by_kind
                .into_iter()
                .map(|(kind, nodes)| {
                    (format!("{kind} ({}):", nodes.len()), Node::List(nodes.into_iter().cloned().collect()))
                })
                .collect();
            let parts: Vec<LabeledPart<'_>> =
                groups.iter().map(|(label, node)| LabeledPart { label: label.clone(), node }).collect();
            let mut text = BudgetedText::new(budget);
            self.push_parts(&mut text, &parts);
            return text.into_text();
        }
        let named: Vec<ListItem<'_>> = items.iter().enumerate().map(|(n, node)| ListItem::new(node, n)).collect();
        if items.len() < MIN_LIST_ITEMS {
            let parts: Vec<LabeledPart<'_>> =
                named.iter().map(|item| LabeledPart { label: format!("- {}:", item.name), node: item.node }).collect();
            let mut text = BudgetedText::new(budget);
            self.push_parts(&mut text, &parts);
            return text.into_text();
        }
        let title = items.first().and_then(|item| item.field_text("kind")).unwrap_or("items");
        self.list_items(&named, title, budget)
    }

    /// Shows a long list by the rule of its items.
    fn list_items(&self, items: &[ListItem<'_>], title: &str, budget: OutputBudget) -> String {
        list_events(items, budget).or_else(|| list_series(items, self.style, budget)).unwrap_or_else(|| {
            list_objects(items, title, self.style, budget, &|item, budget| self.shrink_node(item.node, budget))
        })
    }

    /// Adds parts under their labels. Small parts get what they need, and large ones share the rest.
    fn push_parts(&self, text: &mut BudgetedText, parts: &[LabeledPart<'_>]) {
        let labels: String = parts.iter().map(|part| part.label.as_str()).collect();
        let budget =
            text.remaining().minus(&labels).limited_to(text.remaining().tokens.saturating_sub(parts.len() * 2));
        // A part that sounds wrong gets twice the room.
        let weights: Vec<usize> = parts.iter().map(|part| 1 + usize::from(sounds_wrong(part.node))).collect();
        let mut by_size: Vec<usize> = (0..parts.len()).collect();
        by_size.sort_by_key(|at| parts[*at].node.text_bytes() / weights[*at]);
        let mut remaining = budget;
        let mut shown: Vec<String> = vec![String::new(); parts.len()];
        let mut weight_left: usize = weights.iter().sum();
        for at in by_size {
            let share = remaining.tokens * weights[at] / weight_left.max(1);
            weight_left -= weights[at];
            if share < MIN_PART_TOKENS {
                continue;
            }
            shown[at] = self.shrink_node(parts[at].node, remaining.limited_to(share));
            remaining = remaining.minus(&shown[at]);
        }
        for (part, shown) in parts.iter().zip(shown) {
            let is_inline = !shown.contains('\n') && matches!(part.node, Node::Scalar(_, ScalarKind::Literal));
            let line = match shown.as_str() {
                "" => format!("{} [left out]", part.label),
                shown if is_inline => format!("{} {shown}", part.label),
                shown => format!("{}\n{shown}", part.label),
            };
            text.push_line(&line);
        }
    }
}

/// Returns the entries of a map as lines.
fn entry_lines(node: &Node<'_>, style: NodeStyle) -> String {
    let Node::Map(fields) = node else { return node.to_text(style) };
    let lines: Vec<String> = fields
        .iter()
        .map(|entry| {
            let line = Node::Map(vec![entry.clone()]).to_text(style);
            if style == NodeStyle::Yaml { line } else { line.trim_start_matches('{').trim_end_matches('}').to_owned() }
        })
        .collect();
    lines.join("\n")
}

fn group_by_kind<'n, 'a>(items: &'n [Node<'a>]) -> Vec<(&'n str, Vec<&'n Node<'a>>)> {
    let mut groups: Vec<(&str, Vec<&Node<'_>>)> = Vec::new();
    for item in items {
        let kind = item.field_text("kind").unwrap_or("object");
        match groups.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, members)) => members.push(item),
            None => groups.push((kind, vec![item])),
        }
        if groups.len() > MAX_KINDS {
            break;
        }
    }
    groups
}

/// Returns whether a node has a text that the widest cut shortens.
fn has_long_text(node: &Node<'_>) -> bool {
    match node {
        Node::Scalar(text, _) => text.len() > TRIMMED_BYTES[0],
        Node::List(items) => items.iter().any(has_long_text),
        Node::Map(fields) => fields.iter().any(|(_, value)| has_long_text(value)),
    }
}

/// Returns whether a scalar in a node sounds wrong.
fn sounds_wrong(node: &Node<'_>) -> bool {
    match node {
        Node::Scalar(text, _) => alarm_level(text) == AlarmLevel::Fault,
        Node::List(items) => items.iter().any(sounds_wrong),
        Node::Map(fields) => fields.iter().any(|(_, value)| sounds_wrong(value)),
    }
}

/// Returns a node without fields that only identify it or are null, and with the beginnings of long texts on one line.
fn trim_node<'a>(node: &'a Node<'_>, key: &str, max_bytes: usize) -> Node<'a> {
    match node {
        Node::Scalar(text, kind) if text.len() > max_bytes && !text.contains('\n') => {
            let max_bytes = if sounds_wrong(node) { TRIMMED_BYTES[0] } else { max_bytes };
            Node::Scalar(clip_value(text, max_bytes), *kind)
        }
        Node::Scalar(text, kind) => Node::Scalar(Cow::Borrowed(text), *kind),
        Node::List(items) => Node::List(items.iter().map(|item| trim_node(item, key, max_bytes)).collect()),
        Node::Map(fields) => {
            let is_needless = |field: &str, value: &Node<'_>| {
                is_identity(field, key) || matches!(value, Node::Scalar(text, ScalarKind::Literal) if text == "null")
            };
            let kept = fields.iter().filter(|(key, value)| !is_needless(key, value));
            Node::Map(kept.map(|(key, value)| (Cow::Borrowed(&**key), trim_node(value, key, max_bytes))).collect())
        }
    }
}
