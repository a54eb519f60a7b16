//! A change that waits for a decision, in words: what it does, to what, and with which arguments.

use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::Value;

use super::terminal::{LineStyle, ScreenUpdate, indented_yaml, note_line, reveal_text, sanitize_text};

/// How many objects are named.
const MAX_OBJECTS: usize = 20;

/// Returns what a person reads before the decision. The arguments are shown in full, because what is not visible must not be
/// approved.
pub(super) fn render_approval(approval: &Value) -> Vec<ScreenUpdate> {
    let mut card = format!("{}\n{}", approval_headline(approval), indented_yaml(&approval["arguments"]));
    for line in affected_objects(approval).into_iter().chain(causes(approval)) {
        let _ = write!(card, "\n  {line}");
    }
    let mut updates = vec![ScreenUpdate::Line(LineStyle::Question, card)];
    if let Some(preview) = approval["preview"].as_str().filter(|preview| !preview.trim().is_empty()) {
        let style = if approval["preview_detail"]["kind"] == "diff" { LineStyle::Diff } else { LineStyle::Plain };
        updates.push(ScreenUpdate::Line(style, reveal_text(preview.trim_end())));
        if let Some(omitted) = approval["preview_detail"]["lines_omitted"].as_u64().filter(|omitted| *omitted > 0) {
            updates.push(note_line(format!("{omitted} more lines: k8sops approvals show")));
        }
    }
    updates
}

/// Returns one line: `deployment_scale changes the cluster: shop/checkout, replicas 2 → 3`.
pub(super) fn approval_headline(approval: &Value) -> String {
    let text = |key: &str| reveal_text(approval[key].as_str().unwrap_or_default());
    let verb = if approval["effect"] == "read" { "reads from" } else { "changes" };
    let cluster = match text("cluster") {
        cluster if cluster.is_empty() => "the cluster".to_owned(),
        cluster => format!("the cluster {cluster}"),
    };
    let summary = match text("summary").replacen(": ", ", ", 1) {
        summary if summary.is_empty() => String::new(),
        summary => format!(": {summary}"),
    };
    format!("{} {verb} {cluster}{summary}", text("name"))
}

/// Returns how long the decision may take: `59 min left`.
pub(super) fn time_left(approval: &Value, now: Timestamp) -> Option<String> {
    let expires: Timestamp = approval["expires_at"].as_str()?.parse().ok()?;
    let seconds = expires.as_second() - now.as_second();
    Some(match seconds {
        ..=0 => "expired".to_owned(),
        1..=119 => format!("{seconds} s left"),
        120..=7199 => format!("{} min left", seconds / 60),
        _ => format!("{} h left", seconds / 3600),
    })
}

/// The objects, where the summary does not name the only one, and what goes with them.
fn affected_objects(approval: &Value) -> Vec<String> {
    let empty = Vec::new();
    let objects = approval["objects"].as_array().unwrap_or(&empty);
    let text = |value: &Value, key: &str| reveal_text(value[key].as_str().unwrap_or_default());
    let mut lines = Vec::new();
    for object in objects.iter().take(MAX_OBJECTS) {
        let namespace = object["namespace"].as_str().map(|namespace| format!("{}/", reveal_text(namespace)));
        lines.push(format!(
            "{} {} {}{}",
            text(object, "verb"),
            text(object, "kind"),
            namespace.unwrap_or_default(),
            text(object, "name")
        ));
    }
    if objects.len() > MAX_OBJECTS {
        lines.push(format!("and {} more objects", objects.len() - MAX_OBJECTS));
    }
    for dependents in approval["dependents"].as_array().unwrap_or(&empty) {
        let names: Vec<String> =
            dependents["names"].as_array().into_iter().flatten().filter_map(Value::as_str).map(reveal_text).collect();
        let count = dependents["count"].as_u64().unwrap_or_default();
        lines.push(format!("with it: {count} {} ({})", text(dependents, "what"), names.join(", ")));
    }
    if lines.is_empty() {
        return lines;
    }
    let mut listed = vec!["affected:".to_owned()];
    listed.extend(lines.into_iter().map(|line| format!("  {line}")));
    listed
}

/// Why the call waits, as far as that is more than the class of its tool.
fn causes(approval: &Value) -> Option<String> {
    let reason = approval["reason"].as_str().unwrap_or_default();
    let causes: Vec<&str> =
        reason.split("; ").filter(|cause| !cause.is_empty() && !cause.contains("annotat")).collect();
    (!causes.is_empty()).then(|| format!("why it is asked: {}", sanitize_text(&causes.join("; "))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn headline_says_what_changes() {
        let scale =
            json!({"name": "deployment_scale", "effect": "idempotent", "summary": "shop/checkout: replicas 2 → 3"});
        assert_eq!(approval_headline(&scale), "deployment_scale changes the cluster: shop/checkout, replicas 2 → 3");
        let exec = json!({"name": "pods_exec", "effect": "mutating", "cluster": "prod\u{202e}eu"});
        assert_eq!(approval_headline(&exec), "pods_exec changes the cluster prod⟨U+202E⟩eu");
    }

    #[test]
    fn card_names_what_is_affected_and_no_protocol() {
        let approval = json!({"name": "delete", "effect": "mutating", "arguments": {"name": "web"},
            "reason": "annotated destructiveHint by server k; \"web\" in its arguments comes from [2]",
            "objects": [{"kind": "Deployment", "namespace": "shop", "name": "web", "verb": "delete"}],
            "dependents": [{"what": "pods of Deployment shop/web", "count": 2, "names": ["web-1", "web-2"]}],
            "preview": "-kind: Deployment\n", "preview_detail": {"kind": "diff", "lines_omitted": 3}});
        let lines: Vec<String> = render_approval(&approval)
            .into_iter()
            .map(|update| if let ScreenUpdate::Line(_, line) = update { line } else { String::new() })
            .collect();
        assert_eq!(
            lines,
            [
                "delete changes the cluster\n  name: web\n  affected:\n    delete Deployment shop/web\n    with it: 2 pods of \
                 Deployment shop/web (web-1, web-2)\n  why it is asked: \"web\" in its arguments comes from [2]",
                "-kind: Deployment",
                "3 more lines: k8sops approvals show"
            ]
        );
    }

    #[test]
    fn time_left_is_rounded_down() {
        let approval = json!({"expires_at": "2026-11-30T10:00:00Z"});
        let at = |text: &str| time_left(&approval, text.parse().unwrap());
        assert_eq!(at("2026-11-30T09:58:30Z").as_deref(), Some("90 s left"));
        assert_eq!(at("2026-11-30T09:00:01Z").as_deref(), Some("59 min left"));
        assert_eq!(at("2026-11-30T10:00:01Z").as_deref(), Some("expired"));
        assert_eq!(time_left(&json!({}), Timestamp::UNIX_EPOCH), None);
    }
}
