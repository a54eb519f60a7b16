//! Events of Kubernetes, each as a row: time, type, reason, object, count and message.

use std::fmt::Write;

use super::{
    budget::{BudgetedText, OutputBudget},
    list_item::ListItem,
    node::Node,
    truncate::clip_value,
};

/// Longest messages of a normal event and of a warning in bytes, from one attempt to fit all rows to the next.
const MESSAGE_BYTES: &[(usize, usize)] =
    &[(1_000, 1_000), (160, 400), (100, 240), (60, 160), (40, 110), (24, 80), (0, 60)];

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
    let mut kept = vec![false; rows.len()];
    let mut text = BudgetedText::new(budget);
    let mut chosen = BudgetedText::new(rest.minus("[... 100000 of 100000 events left out ...]"));
    for is_warning in [true, false] {
        for (at, row) in rows.iter().enumerate() {
            if (row.event_type != "Normal") == is_warning && chosen.remaining().tokens > 12 {
                kept[at] = chosen.push_line(&print(row, (24, 110)));
            }
        }
    }
    text.push_line(&heading);
    for (row, _) in rows.iter().zip(&kept).filter(|(_, kept)| **kept) {
        text.push_line(&print(row, (24, 110)));
    }
    let left_out = kept.iter().filter(|kept| !**kept).count();
    text.push_line(&format!("[... {left_out} of {} events left out ...]", rows.len()));
    Some(text.into_text())
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
