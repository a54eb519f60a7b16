//! Long lists of objects: counts of their values, the objects that are unlike the others with what makes them so, the names of
//! the others, and then as many whole objects as the budget allows.

use std::{collections::HashMap, fmt::Write};

use super::{
    budget::{BudgetedText, OutputBudget},
    list_item::ListItem,
    node_text::NodeStyle,
    truncate::clip_value,
    value_statistics::{UnusualFact, ValueStatistics, combine_weights, value_shape},
};

/// Average size in bytes up to which an object is shown as one line instead of its name.
const MAX_LINE_ITEM_BYTES: usize = 240;
/// Least weight of a fact that makes an object unusual.
pub(super) const MIN_WEIGHT: f64 = 0.35;
/// Most unusual values that are shown of an object.
const MAX_FACTS: usize = 8;
/// Most paths that are named as missing in an object: why they are missing is in the values.
const MAX_MISSING: usize = 3;
/// Longest value in bytes that is shown as a fact.
const MAX_FACT_BYTES: usize = 400;
/// Most names of a group of unusual objects that are shown at once.
const MAX_GROUP_NAMES: usize = 6;
/// Paths that are tried to group the usual objects, and most that are used.
const MAX_CANDIDATE_COLUMNS: usize = 6;
const MAX_GROUP_COLUMNS: usize = 3;
/// Fewest tokens in which an object that does not fit as a whole is worth showing.
const MIN_PARTIAL_TOKENS: usize = 300;

/// What is unusual about an object.
#[derive(Debug, Default)]
struct JudgedItem {
    facts: Vec<UnusualFact>,
    score: f64,
}

/// Shows a list within the budget. `title` says what the objects are; `shrink_object` shows one of them.
pub(super) fn list_objects(
    items: &[ListItem<'_>],
    title: &str,
    style: NodeStyle,
    budget: OutputBudget,
    shrink_object: &dyn Fn(&ListItem<'_>, OutputBudget) -> String,
) -> String {
    let statistics = count_facts(items);
    let judged: Vec<JudgedItem> = items.iter().map(|item| judge_item(item, &statistics)).collect();
    let mut by_score: Vec<usize> = (0..items.len()).collect();
    by_score.sort_by(|a, b| judged[*b].score.total_cmp(&judged[*a].score));

    let mut text = BudgetedText::new(budget);
    text.push_line(&format!("{} {title}", items.len()));
    push_counts(&mut text, &statistics, items, budget.share(22));
    push_unusual(&mut text, items, &judged, budget.share(55));
    let average_bytes = items.iter().map(|item| item.node.text_bytes()).sum::<usize>() / items.len().max(1);
    if average_bytes <= MAX_LINE_ITEM_BYTES {
        push_lines(&mut text, items, &by_score, style);
    } else {
        push_usual(&mut text, items, &judged, &statistics);
        push_whole_objects(&mut text, items, &by_score, style, shrink_object);
    }
    text.into_text()
}

fn count_facts(items: &[ListItem<'_>]) -> ValueStatistics {
    let mut statistics = ValueStatistics::default();
    for item in items {
        statistics.begin_item();
        item.visit_facts(&mut |path, value| statistics.add_fact(path, value));
    }
    statistics.finish();
    statistics
}

fn judge_item(item: &ListItem<'_>, statistics: &ValueStatistics) -> JudgedItem {
    let mut facts: Vec<UnusualFact> = Vec::new();
    let mut has_path = vec![false; statistics.paths().len()];
    item.visit_facts(&mut |path, value| {
        if let Some(index) = statistics.path_index(path) {
            has_path[index] = true;
        }
        if let Some(fact) = statistics.judge_fact(path, value)
            && !facts.iter().any(|known| known.path == fact.path && known.value == fact.value)
        {
            facts.push(fact);
        }
    });
    for (index, usual) in statistics.usual_paths() {
        if !has_path[index] {
            let missing = missing_prefix(&usual.path, item);
            if !facts.iter().any(|fact| fact.value.is_none() && fact.path == missing) {
                facts.push(UnusualFact { path: missing.to_owned(), value: None, weight: 0.8 * usual.weight() });
            }
        }
    }
    facts.retain(|fact| fact.weight >= MIN_WEIGHT);
    facts.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    let score = combine_weights(facts.iter().map(|fact| fact.weight));
    let (mut shown, mut missing): (Vec<_>, Vec<_>) = facts.into_iter().partition(|fact| fact.value.is_some());
    shown.truncate(MAX_FACTS);
    missing.truncate(MAX_MISSING);
    shown.append(&mut missing);
    JudgedItem { facts: shown, score }
}

/// Returns the shortest beginning of a path that no path of an item has.
fn missing_prefix<'a>(path: &'a str, item: &ListItem<'_>) -> &'a str {
    let mut paths: Vec<String> = Vec::new();
    item.visit_facts(&mut |path, _| paths.push(path.to_owned()));
    let ends = path.match_indices(['.', '[', '{', '#']).map(|(at, _)| at).filter(|at| *at > 0).chain([path.len()]);
    let is_missing = |prefix: &&str| {
        let continues = |rest: &str| rest.is_empty() || rest.starts_with(['.', '[', '{', '#']);
        !paths.iter().any(|other| other.strip_prefix(*prefix).is_some_and(continues))
    };
    ends.map(|end| &path[..end]).find(is_missing).unwrap_or(path)
}

/// Adds how often the values occur, and the range of the numbers.
fn push_counts(text: &mut BudgetedText, statistics: &ValueStatistics, items: &[ListItem<'_>], budget: OutputBudget) {
    let mut lines = BudgetedText::new(budget);
    let mut paths: Vec<_> = statistics.paths().iter().filter(|path| path.present * 4 > items.len()).collect();
    paths.sort_by(|a, b| b.weight().total_cmp(&a.weight()).then(a.distinct().cmp(&b.distinct())));
    for path in paths {
        let is_listed = path.weight() >= 0.8 && path.is_categorical() && (2..=10).contains(&path.distinct());
        let is_range = path.is_numeric() && path.distinct() > 3 && (path.weight() >= 0.8 || path.has_times());
        if is_listed {
            let values: Vec<String> =
                path.values().iter().map(|(value, count)| format!("{} ×{count}", clip_value(value, 80))).collect();
            lines.push_line(&format!("{}: {}", path.path, values.join(", ")));
        } else if is_range && let (Some(smallest), Some(_)) = (&path.smallest, path.median()) {
            let name = |item: usize| items.get(item).map_or("?", |item| item.name.as_str());
            let mut line = format!("{}: {} ({})", path.path, smallest.text, name(smallest.item));
            let largest: Vec<String> =
                path.largest.iter().map(|extreme| format!("{} ({})", extreme.text, name(extreme.item))).collect();
            let _ = write!(line, " to {}", largest.join(", "));
            lines.push_line(&line);
        }
    }
    push_section(text, "Values:", lines);
}

/// Adds the unusual objects, with what makes them unusual. Objects that are unusual in the same way are one line.
fn push_unusual(text: &mut BudgetedText, items: &[ListItem<'_>], judged: &[JudgedItem], budget: OutputBudget) {
    let mut groups: Vec<(f64, Vec<usize>)> = Vec::new();
    let mut by_key: HashMap<String, usize> = HashMap::new();
    for (at, item) in judged.iter().enumerate().filter(|(_, item)| !item.facts.is_empty()) {
        let mut key = String::new();
        for fact in &item.facts {
            let _ = write!(key, "{}={};", fact.path, fact.value.as_deref().map_or_else(String::new, value_shape));
        }
        let group = *by_key.entry(key).or_insert_with(|| {
            groups.push((item.score, Vec::new()));
            groups.len() - 1
        });
        groups[group].1.push(at);
    }
    groups.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.len().cmp(&b.1.len())));
    let mut lines = BudgetedText::new(budget);
    let total = groups.len();
    let mut shown = 0;
    for (_, members) in &groups {
        let names: Vec<&str> = members.iter().take(MAX_GROUP_NAMES).map(|at| items[*at].name.as_str()).collect();
        let more = members.len() - names.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let Some(first) = members.first() else { continue };
        let facts: Vec<String> = judged[*first].facts.iter().map(describe_fact).collect();
        if lines.push_line(&format!("- {}{more}: {}", names.join(", "), facts.join("; "))) {
            shown += 1;
        } else if lines.remaining().tokens < 40 {
            break;
        }
    }
    let heading = match total - shown {
        0 => "Unlike the others:".to_owned(),
        left => format!("Unlike the others ({left} more kinds are not shown):"),
    };
    push_section(text, &heading, lines);
}

fn describe_fact(fact: &UnusualFact) -> String {
    match &fact.value {
        Some(value) => format!("{}={}", fact.path, clip_value(value, MAX_FACT_BYTES)),
        None => format!("no {}", fact.path),
    }
}

fn push_section(text: &mut BudgetedText, heading: &str, lines: BudgetedText) {
    if !lines.is_empty() {
        text.push_line(&format!("{heading}\n{}", lines.into_text()));
    }
}

/// Adds the objects as lines, unusual ones first.
fn push_lines(text: &mut BudgetedText, items: &[ListItem<'_>], by_score: &[usize], style: NodeStyle) {
    let mut chosen = BudgetedText::new(text.remaining());
    let mut kept = vec![false; items.len()];
    let lines: HashMap<usize, String> = by_score
        .iter()
        .map_while(|at| {
            let line = items[*at].node.to_line(style);
            kept[*at] = chosen.push_line(&line);
            (kept[*at] || chosen.remaining().tokens > 20).then_some((*at, line))
        })
        .collect();
    for at in (0..items.len()).filter(|at| kept[*at]) {
        if let Some(line) = lines.get(&at) {
            text.push_line(line);
        }
    }
}

/// Adds the names of the other objects, grouped by the values that they share.
fn push_usual(text: &mut BudgetedText, items: &[ListItem<'_>], judged: &[JudgedItem], statistics: &ValueStatistics) {
    let mut candidates: Vec<_> = statistics
        .paths()
        .iter()
        .filter(|path| {
            path.weight() >= 0.8 && path.is_categorical() && path.present * 2 > items.len() && path.distinct() > 1
        })
        .collect();
    candidates.sort_by(|a, b| b.weight().total_cmp(&a.weight()).then(a.distinct().cmp(&b.distinct())));
    candidates.truncate(MAX_CANDIDATE_COLUMNS);
    let candidates: Vec<&str> = candidates.iter().map(|path| path.path.as_str()).collect();
    let cells: Vec<Vec<String>> = items.iter().map(|item| read_columns(item, &candidates)).collect();
    let mut columns: Vec<usize> = Vec::new();
    let mut groups = group_by_columns(&cells, &columns);
    for candidate in 0..candidates.len() {
        columns.push(candidate);
        let split = group_by_columns(&cells, &columns);
        if split.len() > (items.len() / 20).clamp(3, 12) {
            columns.pop();
        } else {
            groups = split;
        }
        if columns.len() >= MAX_GROUP_COLUMNS {
            break;
        }
    }
    let mut groups: Vec<(Vec<&str>, Vec<usize>)> = groups.into_iter().collect();
    groups.sort_by(|a, b| a.1.len().cmp(&b.1.len()).then(a.0.cmp(&b.0)));
    let count = groups.len();
    for (n, (values, members)) in groups.iter().enumerate() {
        let usual: Vec<&str> =
            members.iter().filter(|at| judged[**at].facts.is_empty()).map(|at| items[*at].name.as_str()).collect();
        if usual.is_empty() {
            continue;
        }
        let facts: Vec<String> = columns
            .iter()
            .zip(values)
            .map(|(column, value)| format!("{}={}", candidates[*column], clip_value(value, 80)))
            .collect();
        let prefix = if facts.is_empty() {
            format!("The other {}: ", usual.len())
        } else {
            format!("The {} with {}: ", usual.len(), facts.join(", "))
        };
        // Each group gets its part of what is left, so that a long one does not displace the others.
        let mut line = BudgetedText::new(text.remaining().share(100 / (count - n)));
        line.push_list(&prefix, usual.into_iter());
        if !line.is_empty() {
            text.push_line(&line.into_text());
        }
    }
}

/// Returns the values of some paths in an item, each as one text.
fn read_columns(item: &ListItem<'_>, columns: &[&str]) -> Vec<String> {
    let mut values = vec![String::new(); columns.len()];
    item.visit_facts(&mut |path, value| {
        if let Some(column) = columns.iter().position(|column| *column == path)
            && !values[column].split('+').any(|known| known == value)
        {
            let separator = if values[column].is_empty() { "" } else { "+" };
            let _ = write!(values[column], "{separator}{value}");
        }
    });
    values
}

fn group_by_columns<'c>(cells: &'c [Vec<String>], columns: &[usize]) -> HashMap<Vec<&'c str>, Vec<usize>> {
    let mut groups: HashMap<Vec<&str>, Vec<usize>> = HashMap::new();
    for (at, values) in cells.iter().enumerate() {
        let key = columns.iter().map(|column| values[*column].as_str()).collect();
        groups.entry(key).or_default().push(at);
    }
    groups
}

/// Adds whole objects, unusual ones first. The first that does not fit is shortened.
fn push_whole_objects(
    text: &mut BudgetedText,
    items: &[ListItem<'_>],
    by_score: &[usize],
    style: NodeStyle,
    shrink_object: &dyn Fn(&ListItem<'_>, OutputBudget) -> String,
) {
    let mut has_heading = false;
    for at in by_score {
        let remaining = text.remaining();
        if remaining.tokens < MIN_PARTIAL_TOKENS {
            break;
        }
        let heading = if has_heading { "" } else { "Whole objects:\n" };
        let separator = if style == NodeStyle::Yaml { "---\n" } else { "" };
        let budget = remaining.minus(heading).minus(separator);
        let object = shrink_object(&items[*at], budget);
        if !text.push_line(&format!("{heading}{separator}{object}")) {
            break;
        }
        has_heading = true;
    }
}
