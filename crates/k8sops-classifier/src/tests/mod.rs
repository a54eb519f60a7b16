//! Tables of lines and calls with their expected classes.

mod command_tools;
mod evasion;
mod mutating_lines;
mod read_only_lines;
mod scripts;
mod server_tools;

use serde_json::{Map, Value, json};

use crate::{Classification, EffectClass, SensitiveOutput, ToolDescription, classify_tool_call};

/// Arguments, as a JSON object.
fn arguments(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("{other} is not an object"),
    }
}

/// Classifies a line of a shell tool.
fn classify_line(text: &str) -> Classification {
    classify_tool_call(&ToolDescription::named("bash"), &arguments(json!({ "command": text }))).unwrap()
}

/// Checks lines, each behind its expected effect (`R`ead, `I`dempotent, `M`utating) and its expected sensitive output (`-`
/// none, `O`bjects, `V`alues). `⏎` stands for a line feed.
fn assert_classes(table: &str) {
    let rows = table.lines().map(str::trim).filter(|row| !row.is_empty());
    let wrong: Vec<String> = rows
        .filter_map(|row| {
            let (expected, text) = row.split_once(' ').unwrap();
            let classification = classify_line(&text.replace('⏎', "\n"));
            let effect = match classification.effect {
                EffectClass::Read => 'R',
                EffectClass::Idempotent => 'I',
                EffectClass::Mutating => 'M',
            };
            let sensitive = match classification.sensitive_output {
                None => '-',
                Some(SensitiveOutput::Objects) => 'O',
                Some(SensitiveOutput::Values) => 'V',
            };
            let found = format!("{effect}{sensitive}");
            (found != expected).then(|| format!("{row}\n    is {found}: {}", classification.reason))
        })
        .collect();
    assert!(wrong.is_empty(), "{} lines have another class:\n{}", wrong.len(), wrong.join("\n"));
}

/// Checks lines, each behind its expected effect (`R`ead or `M`utating).
fn assert_effects(table: &str) {
    for row in table.lines().map(str::trim).filter(|row| !row.is_empty()) {
        let (expected, text) = row.split_once(' ').unwrap();
        let classification = classify_line(&text.replace('⏎', "\n"));
        let is_read = classification.effect == EffectClass::Read;
        assert_eq!(is_read, expected == "R", "{row}\n    {}", classification.reason);
    }
}
