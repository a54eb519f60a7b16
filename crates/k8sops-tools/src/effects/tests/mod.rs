//! Tests of what is taken for harmless, and above all of what is not.

mod reading;
mod servers;
mod tricks;
mod writing;

use serde_json::{Map, Value, json};

use super::{Judged, Sensitive, judge};
use k8sops_core::ToolEffect;

/// Arguments, as a JSON object.
fn arguments(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is no object"),
    }
}

/// What is known of a line that a shell runs.
fn line(text: &str) -> Judged {
    judge("bash", &arguments(json!({ "command": text }))).unwrap()
}

/// Checks lines, each behind its class (`R`ead, `I`dempotent, `M`utating) and what it holds (`-`, `O`bjects, `V`alues).
fn check(table: &str) -> usize {
    let rows: Vec<&str> = table.lines().map(str::trim).filter(|row| !row.is_empty()).collect();
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            let (expected, text) = row.split_once(' ').unwrap();
            let judged = line(&text.replace("⏎", "\n"));
            let effect = match judged.effect {
                ToolEffect::Read => 'R',
                ToolEffect::Idempotent => 'I',
                ToolEffect::Mutating => 'M',
            };
            let held = match judged.sensitive {
                None => '-',
                Some(Sensitive::Objects) => 'O',
                Some(Sensitive::Values) => 'V',
            };
            let found = format!("{effect}{held}");
            (found != expected).then(|| format!("{row}\n    is {found}: {}", judged.reason))
        })
        .collect();
    assert!(wrong.is_empty(), "{} lines are judged wrong:\n{}", wrong.len(), wrong.join("\n"));
    rows.len()
}
