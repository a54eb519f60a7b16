//! The texts of a tool as models read them. They are part of every request, so what says nothing is left out: that an argument
//! is optional (the schema says it), addresses of documentation, and descriptions that repeat names.
//!
//! The texts of tools that change something stay whole otherwise. Those of tools that only read are shortened to their first
//! sentences: a look that fails can be repeated.

use std::{collections::BTreeSet, sync::LazyLock};

use k8sops_core::ToolEffect;
use k8sops_models::ToolSpec;
use regex::Regex;
use serde_json::{Map, Value};

use crate::tool_search::split_words;

/// How much of the texts models read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TextDetail {
    /// All that says something.
    Whole,
    /// The first sentences.
    Brief,
}

impl From<ToolEffect> for TextDetail {
    fn from(effect: ToolEffect) -> Self {
        match effect {
            ToolEffect::Read => Self::Brief,
            ToolEffect::Idempotent | ToolEffect::Mutating => Self::Whole,
        }
    }
}

/// Longest brief description of a tool and of an argument, in bytes.
const MAX_BRIEF_DESCRIPTION_BYTES: usize = 300;
const MAX_BRIEF_ARGUMENT_BYTES: usize = 140;
/// Characters of a word that are compared: `deletion` repeats `delete`.
const STEM_CHARS: usize = 5;

/// Words that say nothing about an argument, as they are compared: without a plural's `s`.
const EMPTY_WORDS: &[&str] = &[
    "a",
    "an",
    "and",
    "any",
    "be",
    "by",
    "current",
    "for",
    "from",
    "get",
    "given",
    "in",
    "is",
    "it",
    "kubernete",
    "of",
    "on",
    "optional",
    "or",
    "provided",
    "retrieve",
    "return",
    "run",
    "set",
    "specified",
    "that",
    "the",
    "thi",
    "to",
    "use",
    "used",
    "value",
    "where",
    "which",
    "will",
    "with",
];

static DOCUMENTATION_LINK: LazyLock<Regex> = LazyLock::new(|| {
    compile(r"(?i)\s*\(?\b(?:see|docs?:|documentation:|reference:)\s+(?:also\s+)?https?://[^\s)]+\)?\.?")
});
static OPTIONAL_MARK: LazyLock<Regex> =
    LazyLock::new(|| compile(r"(?i)\s*\((?:optional|required)\)|^optional[:.]?\s+"));
static OPTIONAL_REMARK: LazyLock<Regex> = LazyLock::new(|| compile(r"(?i)\(optional[,;:]\s+"));

fn compile(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern is valid")
}

/// Shortens the texts of a tool.
pub(crate) fn shorten_tool_texts(spec: &mut ToolSpec, detail: TextDetail) {
    let description = DOCUMENTATION_LINK.replace_all(&spec.description, "");
    let description = match detail {
        TextDetail::Whole => description.trim().to_owned(),
        TextDetail::Brief => cut_text(description.trim(), MAX_BRIEF_DESCRIPTION_BYTES),
    };
    let known = stems(&spec.name);
    spec.description = description;
    shorten_properties(&mut spec.input_schema, &known, detail);
}

fn shorten_properties(schema: &mut Map<String, Value>, known: &BTreeSet<String>, detail: TextDetail) {
    for (key, property) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        let mut known = known.clone();
        known.extend(stems(key));
        shorten_value(property, &known, detail);
    }
}

fn shorten_value(schema: &mut Value, known: &BTreeSet<String>, detail: TextDetail) {
    let Some(fields) = schema.as_object_mut() else { return };
    if let Some(text) = fields.get("description").and_then(Value::as_str) {
        let shorter = shorten_argument(text, known, detail);
        if shorter.is_empty() {
            fields.remove("description");
        } else {
            fields.insert("description".to_owned(), shorter.into());
        }
    }
    shorten_properties(fields, known, detail);
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(key) {
            shorten_value(inner, known, detail);
        }
    }
    for branch in fields.get_mut("anyOf").and_then(Value::as_array_mut).into_iter().flatten() {
        shorten_value(branch, known, detail);
    }
}

/// Returns the description of an argument; empty if it only repeats the names of the argument and of its tool.
fn shorten_argument(text: &str, known: &BTreeSet<String>, detail: TextDetail) -> String {
    // A renamed argument is described by the name that its server knows.
    if text.starts_with('`') {
        return text.to_owned();
    }
    let text = DOCUMENTATION_LINK.replace_all(text, "");
    let text = OPTIONAL_MARK.replace_all(&text, "");
    let text = OPTIONAL_REMARK.replace_all(&text, "(");
    let text = text.trim();
    if stems(text).iter().all(|word| known.contains(word)) {
        return String::new();
    }
    match detail {
        TextDetail::Whole => text.to_owned(),
        TextDetail::Brief => cut_text(text, MAX_BRIEF_ARGUMENT_BYTES),
    }
}

/// Returns the beginnings of the words of a text, without those that say nothing.
fn stems(text: &str) -> BTreeSet<String> {
    let words = split_words(text).into_iter().filter(|word| !EMPTY_WORDS.contains(&word.as_str()));
    words.map(|word| word.chars().take(STEM_CHARS).collect()).collect()
}

/// Returns a text of at most `max_bytes`, cut after a sentence, a clause or a word.
fn cut_text(text: &str, max_bytes: usize) -> String {
    if text.len() <= max_bytes {
        return text.to_owned();
    }
    let kept = &text[..text.floor_char_boundary(max_bytes.saturating_sub('…'.len_utf8()))];
    let after = |ends: &[&str]| ends.iter().filter_map(|end| kept.rfind(end)).max().filter(|end| *end > max_bytes / 3);
    if let Some(end) = after(&[". ", ".\n"]) {
        return kept[..=end].to_owned();
    }
    let end = after(&["\n", "; ", ", ", " ("]).or_else(|| kept.rfind(' ')).unwrap_or(kept.len());
    format!("{}…", kept[..end].trim_end())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn argument(tool: &str, key: &str, text: &str, detail: TextDetail) -> String {
        let schema = json!({"type": "object", "properties": {key: {"type": "string", "description": text}}});
        let input_schema = schema.as_object().cloned().unwrap();
        let mut spec = ToolSpec { name: tool.to_owned(), description: String::new(), input_schema };
        shorten_tool_texts(&mut spec, detail);
        spec.input_schema["properties"][key]["description"].as_str().unwrap_or_default().to_owned()
    }

    /// Each row: tool, argument, its description, and what models read of it.
    #[test]
    fn what_says_nothing_is_left_out() {
        let rows = [
            ("pods_log", "name", "Name of the Pod to get the logs from", ""),
            ("pods_delete", "namespace", "Optional Namespace to delete the Pod from", ""),
            ("resources_get", "apiVersion", "API version", ""),
            ("pods_log", "container", "The container (Optional)", ""),
            ("wait", "timeout", "Timeout in seconds", "Timeout in seconds"),
            ("wait", "timeout", "In ms", "In ms"),
            (
                "pods_run",
                "name",
                "Name of the Pod (Optional, random name if not provided)",
                "Name of the Pod (random name if not provided)",
            ),
            ("list", "selector", "A selector. See https://kubernetes.io/docs/selectors/.", ""),
            ("list", "q", "PromQL (see https://prometheus.io/docs)", "PromQL"),
            ("list", "format", "json or yaml", "json or yaml"),
            ("list", "filter", "`$filter`", "`$filter`"),
            ("scale", "replicas", "0 stops all", "0 stops all"),
        ];
        for (tool, key, text, expected) in rows {
            assert_eq!(argument(tool, key, text, TextDetail::Whole), expected, "{text}");
        }
    }

    #[test]
    fn only_reading_tools_have_brief_texts() {
        let long = "Deletes at once if it is zero. The default is the grace period of the kind. ".repeat(4);
        assert_eq!(argument("resources_delete", "grace", &long, TextDetail::Whole), long.trim());
        let brief = argument("resources_list", "grace", &long, TextDetail::Brief);
        assert!(brief.len() <= MAX_BRIEF_ARGUMENT_BYTES && brief.ends_with('.') && brief.len() > 50, "{brief}");
        let words = argument("list", "q", &"wörter ".repeat(60), TextDetail::Brief);
        assert!(words.len() <= MAX_BRIEF_ARGUMENT_BYTES && words.ends_with("wörter…"), "{words}");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_cut_within_its_limit(text: String, max in 3_usize..200) {
            proptest::prop_assert!(cut_text(&text, max).len() <= max);
        }
    }
}
