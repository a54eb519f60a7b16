//! Events of Kubernetes, each as a row: time, type, reason, object, count and message.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write,
};

use super::{
    budget::{BudgetedText, OutputBudget},
    list_item::ListItem,
    node::Node,
    truncate::clip_value,
    value_statistics::value_shape,
};

/// Longest messages of a normal event and of a warning in bytes, from one attempt to fit all rows to the next.
const MESSAGE_BYTES: &[(usize, usize)] =
    &[(1_000, 1_000), (160, 400), (100, 240), (60, 160), (40, 110), (24, 80), (0, 60)];

/// Most reasons that are counted in words.
const MAX_REASONS: usize = 30;
/// Longest messages if not all events fit: of the first event of a kind, and of the further ones.
const FIRST_MESSAGE_BYTES: (usize, usize) = (160, 400);
const FURTHER_MESSAGE_BYTES: (usize, usize) = (24, 110);

struct EventRow<'a> {
    time: &'a str,
    event_type: &'a str,
    reason: &'a str,
    object: String,
    namespace: &'a str,
    count: &'a str,
    message: &'a str,
}

/// Returns a list of events as rows; `None` if the items are not events.
pub(super) fn list_events(items: &[ListItem<'_>], budget: OutputBudget) -> Option<String> {
    let rows: Vec<EventRow<'_>> = items.iter().map(|item| read_event(item.node)).collect::<Option<_>>()?;
    let warnings = rows.iter().filter(|row| row.event_type != "Normal").count();
    let namespace =
        rows.first().map(|row| row.namespace).filter(|first| rows.iter().all(|row| row.namespace == *first));
    let date = rows.first().and_then(|row| row.time.get(..11)).filter(|date| date.ends_with('T'));
    let date = date.filter(|date| rows.iter().all(|row| row.time.starts_with(date)));
    let mut heading = format!("{} events: {warnings} Warning, {} Normal", rows.len(), rows.len() - warnings);
    if let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) {
        let _ = write!(heading, "; namespace {namespace}");
    }
    if let Some(date) = date {
        let _ = write!(heading, "; all on {}", date.trim_end_matches('T'));
    }
    heading.push_str("\nTIME  TYPE  REASON  OBJECT  COUNT  MESSAGE");
    let print = |row: &EventRow<'_>, (normal, warning): (usize, usize)| {
        let time = date.map_or(row.time, |date| row.time[date.len()..].trim_end_matches('Z'));
        let scope = if namespace.is_some() || row.namespace.is_empty() { "" } else { "/" };
        let scope = if scope.is_empty() { String::new() } else { format!("{}{scope}", row.namespace) };
        let max_bytes = if row.event_type == "Normal" { normal } else { warning };
        let message = clip_value(row.message, max_bytes);
        format!("{time}  {}  {}  {scope}{}  ×{}  {message}", row.event_type, row.reason, row.object, row.count)
    };
    // All rows with the longest messages that fit; else warnings first, and of normal events as many as there is room for.
    let rest = budget.minus(&heading);
    for lengths in MESSAGE_BYTES {
        let printed: Vec<String> = rows.iter().map(|row| print(row, *lengths)).collect();
        let printed = printed.join("\n");
        if rest.allows(&printed) {
            return Some(format!("{heading}\n{printed}"));
        }
    }
    let mut text = BudgetedText::new(budget);
    text.push_line(&format!("Reasons: {}\n{heading}", count_reasons(&rows)));
    let mut chosen = BudgetedText::new(text.remaining().minus("[... 100000 of 100000 events left out ...]"));
    let mut kept: Vec<Option<String>> = vec![None; rows.len()];
    for RankedEvent { at, rank, .. } in rank_events(&rows) {
        if chosen.remaining().tokens <= 12 {
            break;
        }
        let lengths = if rank == EventRank::FurtherOfMessage { FURTHER_MESSAGE_BYTES } else { FIRST_MESSAGE_BYTES };
        let printed = print(&rows[at], lengths);
        kept[at] = chosen.push_line(&printed).then_some(printed);
    }
    for row in kept.iter().flatten() {
        text.push_line(row);
    }
    let left_out = kept.iter().filter(|kept| kept.is_none()).count();
    text.push_line(&format!("[... {left_out} of {} events left out ...]", rows.len()));
    Some(text.into_text())
}

/// How much an event says that the events before it do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum EventRank {
    /// The first event of its reason.
    FirstOfReason,
    /// The first event with such a message.
    FirstOfMessage,
    FurtherOfMessage,
}

/// An event in the order in which events are shown: by rank, and the rarest first.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RankedEvent {
    rank: EventRank,
    /// Warnings come first among further events, and rare events among the first of their reason.
    is_normal: bool,
    /// How many events have this reason, and how many such a message.
    counts: (usize, usize),
    at: usize,
}

fn rank_events(rows: &[EventRow<'_>]) -> Vec<RankedEvent> {
    let message_key = |row: &EventRow<'_>| {
        let message = row.message.get(..row.message.floor_char_boundary(240)).unwrap_or_default();
        let object = row.object.rsplit('/').next().unwrap_or_default();
        let message = if object.len() > 2 { message.replace(object, "{name}") } else { message.to_owned() };
        format!("{} {}", row.reason, value_shape(&message))
    };
    let messages: Vec<String> = rows.iter().map(message_key).collect();
    let mut by_reason: HashMap<&str, usize> = HashMap::new();
    let mut by_message: HashMap<&str, usize> = HashMap::new();
    for (row, message) in rows.iter().zip(&messages) {
        *by_reason.entry(row.reason).or_default() += 1;
        *by_message.entry(message).or_default() += 1;
    }
    let mut seen_reasons: HashSet<&str> = HashSet::new();
    let mut seen_messages: HashSet<&str> = HashSet::new();
    let mut ranked: Vec<RankedEvent> = rows
        .iter()
        .zip(&messages)
        .enumerate()
        .map(|(at, (row, message))| {
            let is_first_message = seen_messages.insert(message);
            let rank = if seen_reasons.insert(row.reason) {
                EventRank::FirstOfReason
            } else if is_first_message {
                EventRank::FirstOfMessage
            } else {
                EventRank::FurtherOfMessage
            };
            let counts = (by_reason[row.reason], by_message[message.as_str()]);
            let is_normal = row.event_type == "Normal" && rank != EventRank::FirstOfReason;
            RankedEvent { rank, is_normal, counts, at }
        })
        .collect();
    ranked.sort_unstable();
    ranked
}

/// Returns how often each reason occurs, warnings first and then the rarest first.
fn count_reasons(rows: &[EventRow<'_>]) -> String {
    let mut counts: HashMap<(bool, &str), usize> = HashMap::new();
    for row in rows {
        *counts.entry((row.event_type == "Normal", row.reason)).or_default() += 1;
    }
    let mut counts: Vec<((bool, &str), usize)> = counts.into_iter().collect();
    counts.sort_by(|a, b| a.0.0.cmp(&b.0.0).then(a.1.cmp(&b.1)).then(a.0.1.cmp(b.0.1)));
    let total = counts.len();
    let mut line: Vec<String> = counts
        .iter()
        .take(MAX_REASONS)
        .map(|((_, reason), count)| format!("{} ×{count}", clip_value(reason, 60)))
        .collect();
    if total > MAX_REASONS {
        line.push(format!("and {} more", total - MAX_REASONS));
    }
    line.join(", ")
}

fn read_event<'a>(node: &'a Node<'_>) -> Option<EventRow<'a>> {
    let object = ["involvedObject", "regarding", "object"].iter().find_map(|field| node.field(field))?;
    let reason = node.field_text("reason")?;
    let message = node.field_text("message").or_else(|| node.field_text("note")).unwrap_or_default();
    let object_name = if let Some(name) = object.as_text() {
        name.to_owned()
    } else {
        let kind = object.field_text("kind").unwrap_or("object");
        let field_path = object.field_text("fieldPath").map(|path| format!(" {path}")).unwrap_or_default();
        format!("{kind}/{}{field_path}", object.field_text("name")?)
    };
    let metadata = node.field("metadata");
    let namespace = object
        .field_text("namespace")
        .or_else(|| node.field_text("namespace"))
        .or_else(|| metadata?.field_text("namespace"))
        .unwrap_or_default();
    let series = node.field("series");
    let time = ["lastTimestamp", "eventTime", "timestamp", "lastSeen", "deprecatedLastTimestamp", "firstTimestamp"]
        .iter()
        .find_map(|field| node.field_text(field))
        .or_else(|| series?.field_text("lastObservedTime"))
        .or_else(|| metadata?.field_text("creationTimestamp"))
        .unwrap_or("-");
    Some(EventRow {
        time,
        event_type: node.field_text("type").unwrap_or("-"),
        reason,
        object: object_name,
        namespace,
        count: node.field_text("count").or_else(|| series?.field_text("count")).unwrap_or("1"),
        message,
    })
}
