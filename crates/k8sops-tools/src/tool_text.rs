//! The texts of a tool as models read them. They are part of every request, so what says nothing is left out: that an argument
//! is optional (the schema says it), defaults that stand for nothing, addresses of documentation, and descriptions that repeat
//! names.
//!
//! The texts of tools that change something stay whole otherwise. Those of tools that only read are shortened to their first
//! sentences, and of an argument that every user of Kubernetes knows, only what is special at this tool is left: a look that
//! fails can be repeated.

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

/// Arguments that mean the same at every tool for Kubernetes, in lower case and without separators.
const WELL_KNOWN_ARGUMENTS: &[&str] = &[
    "namespace",
    "allnamespaces",
    "name",
    "kind",
    "apiversion",
    "resourcetype",
    "labelselector",
    "fieldselector",
    "container",
    "context",
];

/// Words in which such an argument is described at every tool, as they are compared.
const ORDINARY_WORDS: &[&str] = &[
    "across",
    "api",
    "apply",
    "cluster",
    "command",
    "config",
    "deployment",
    "field",
    "filter",
    "if",
    "kubeconfig",
    "label",
    "limit",
    "list",
    "log",
    "name",
    "namespace",
    "narrow",
    "object",
    "operate",
    "option",
    "pod",
    "query",
    "read",
    "resource",
    "restrict",
    "scope",
    "search",
    "select",
    "show",
    "target",
    "true",
    "type",
    "version",
    "want",
    "whose",
    "you",
];

/// Words that make a clause special, although the description of the tool may have them as well.
const LIMITING_WORDS: &[&str] = &["all", "except", "instead", "must", "not", "only", "unless", "without"];

/// Beginnings of a clause that gives examples.
const EXAMPLE_BEGINNINGS: &[&str] = &["e.g.", "eg.", "example", "for example", "such as"];

static EXAMPLE_LIST: LazyLock<Regex> =
    LazyLock::new(|| compile(r"(?i)\s*\((?:common|e\.g\.|examples?|for example|such as)\b[^()]{24,}\)"));
static DEFAULT_REMARK: LazyLock<Regex> =
    LazyLock::new(|| compile(r"(?i)\s*\(?\b(?:the )?defaults?(?: is|:| to) [^\s()]+\)|\s*\(defaults? to null\)"));
static DOCUMENTATION_LINK: LazyLock<Regex> = LazyLock::new(|| {
    compile(r"(?i)\s*\(?\b(?:see|docs?:|documentation:|reference:)\s+(?:also\s+)?https?://[^\s)]+\)?\.?")
});
static OPTIONAL_MARK: LazyLock<Regex> =
    LazyLock::new(|| compile(r"(?i)\s*\((?:optional|required)\)|^optional[:.]?\s+"));
static OPTIONAL_REMARK: LazyLock<Regex> = LazyLock::new(|| compile(r"(?i)\(optional(?:[,;:]|\s+-)\s+"));

fn compile(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a constant pattern is valid")
}

/// How the texts of one tool are shortened.
struct TextRules {
    detail: TextDetail,
    /// Beginnings of words that say nothing of a well-known argument of this tool.
    ordinary: BTreeSet<String>,
}

impl TextRules {
    fn new(description: &str, detail: TextDetail) -> Self {
        let mut ordinary = stems(description);
        ordinary.extend(stems(&ORDINARY_WORDS.join(" ")));
        for word in LIMITING_WORDS {
            ordinary.remove(&word.chars().take(STEM_CHARS).collect::<String>());
        }
        Self { detail, ordinary }
    }
}

/// Shortens the texts of a tool.
pub(crate) fn shorten_tool_texts(spec: &mut ToolSpec, detail: TextDetail) {
    let description = DOCUMENTATION_LINK.replace_all(&spec.description, "");
    let description = match detail {
        TextDetail::Whole => description.trim().to_owned(),
        TextDetail::Brief => {
            let without_lists = EXAMPLE_LIST.replace_all(&description, "");
            cut_text(without_lists.trim(), MAX_BRIEF_DESCRIPTION_BYTES)
        }
    };
    let known = stems(&spec.name);
    let rules = TextRules::new(&spec.description, detail);
    spec.description = description;
    shorten_properties(&mut spec.input_schema, &known, &rules);
}

fn shorten_properties(schema: &mut Map<String, Value>, known: &BTreeSet<String>, rules: &TextRules) {
    for (key, property) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        let mut known = known.clone();
        known.extend(stems(key));
        shorten_value(property, key, &known, rules);
    }
}

fn shorten_value(schema: &mut Value, key: &str, known: &BTreeSet<String>, rules: &TextRules) {
    let Some(fields) = schema.as_object_mut() else { return };
    if fields.get("default").is_some_and(is_empty_default) {
        fields.remove("default");
    }
    if rules.detail == TextDetail::Brief
        && fields.get("minimum").and_then(Value::as_i64).is_some_and(|least| least <= 1)
    {
        fields.remove("minimum");
    }
    if let Some(text) = fields.get("description").and_then(Value::as_str) {
        let has_default = fields.contains_key("default");
        let shorter = shorten_argument(text, key, has_default, known, rules);
        if shorter.is_empty() {
            fields.remove("description");
        } else {
            fields.insert("description".to_owned(), shorter.into());
        }
    }
    shorten_properties(fields, known, rules);
    for inner_key in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(inner_key) {
            shorten_value(inner, "", known, rules);
        }
    }
    for branch in fields.get_mut("anyOf").and_then(Value::as_array_mut).into_iter().flatten() {
        shorten_value(branch, "", known, rules);
    }
}

/// Whether a default is what everybody expects of an argument that is not given.
fn is_empty_default(default: &Value) -> bool {
    matches!(default, Value::Null | Value::Bool(false)) || default.as_str().is_some_and(str::is_empty)
}

/// Returns the description of an argument; empty if it only repeats the names of the argument and of its tool.
fn shorten_argument(text: &str, key: &str, has_default: bool, known: &BTreeSet<String>, rules: &TextRules) -> String {
    // A renamed argument is described by the name that its server knows.
    if text.starts_with('`') {
        return text.to_owned();
    }
    let text = DOCUMENTATION_LINK.replace_all(text, "");
    let text = OPTIONAL_MARK.replace_all(&text, "");
    let mut text = OPTIONAL_REMARK.replace_all(&text, "(").into_owned();
    if rules.detail == TextDetail::Brief {
        if has_default || text.contains("null)") {
            text = DEFAULT_REMARK.replace_all(&text, "").into_owned();
        }
        let plain_key: String = key.chars().filter(|char| char.is_alphanumeric()).collect();
        if WELL_KNOWN_ARGUMENTS.contains(&plain_key.to_lowercase().as_str()) {
            text = keep_special_clauses(&text, known, rules);
        }
    }
    let text = text.trim();
    if stems(text).iter().all(|word| known.contains(word)) {
        return String::new();
    }
    match rules.detail {
        TextDetail::Whole => text.to_owned(),
        TextDetail::Brief => cut_text(text, MAX_BRIEF_ARGUMENT_BYTES),
    }
}

/// Returns the clauses of a description that say what is special about a well-known argument: those that are no examples, and
/// have a word that is neither ordinary nor part of the tool's own texts.
fn keep_special_clauses(text: &str, known: &BTreeSet<String>, rules: &TextRules) -> String {
    let clauses = split_clauses(text);
    let mut kept: Vec<&str> = Vec::new();
    let mut keeps_previous = false;
    for clause in &clauses {
        let lower = clause.to_lowercase();
        let words = stems(clause);
        let is_special = !EXAMPLE_BEGINNINGS.iter().any(|beginning| lower.starts_with(beginning))
            && words.iter().any(|word| !known.contains(word) && !rules.ordinary.contains(word));
        // A clause of signs only belongs to the one before it.
        keeps_previous = if words.is_empty() { keeps_previous } else { is_special };
        if keeps_previous {
            kept.push(clause);
        }
    }
    if kept.len() == clauses.len() { text.to_owned() } else { kept.join("; ") }
}

/// Splits a text at the ends of its sentences and at its outer brackets.
fn split_clauses(text: &str) -> Vec<&str> {
    let mut clauses = Vec::new();
    let (mut start, mut depth) = (0, 0_usize);
    for (at, char) in text.char_indices() {
        let next = text[at + char.len_utf8()..].chars().next();
        let is_end = match char {
            '(' => {
                depth += 1;
                depth == 1
            }
            ')' => {
                let was_inside = depth == 1;
                depth = depth.saturating_sub(1);
                was_inside
            }
            '.' | ';' => {
                let is_abbreviation = ["e.g", "i.e", "E.g", "I.e"].iter().any(|short| text[..at].ends_with(short));
                depth == 0 && next.is_none_or(char::is_whitespace) && !is_abbreviation
            }
            '\n' => depth == 0,
            ',' => depth == 0 && text[at..].to_lowercase().starts_with(", e.g"),
            _ => false,
        };
        if is_end {
            clauses.push(&text[start..at]);
            start = at + char.len_utf8();
        }
    }
    clauses.push(&text[start..]);
    let trimmed = clauses
        .into_iter()
        .map(|clause| clause.trim_matches(|char: char| char.is_whitespace() || ",.;:".contains(char)));
    trimmed.filter(|clause| !clause.is_empty()).collect()
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

    /// Each row: argument of a tool that only reads, its description, and what models read of it.
    #[test]
    fn only_what_is_special_is_said_of_well_known_arguments() {
        let rows = [
            (
                "labelSelector",
                "Kubernetes label selector (e.g. 'app=a' or 'app in (a,b)'), use this to filter the pods by label",
                "",
            ),
            ("field_selector", "Field selector (e.g. 'status.phase=Running').", ""),
            (
                "namespace",
                "Namespace to list from. If not provided, lists all namespaces",
                "If not provided, lists all namespaces",
            ),
            (
                "namespace",
                "Namespace to read from (ignored in case of cluster scoped resources)",
                "ignored in case of cluster scoped resources",
            ),
            ("container", "Container name (required when the pod has several)", "required when the pod has several"),
            ("name", "Name of the pod (all pods if not provided)", "all pods if not provided"),
            ("apiVersion", "apiVersion of the resources (examples of valid apiVersion are: v1, apps/v1)", ""),
            ("context", "Kubeconfig Context to use for the command (optional - defaults to null)", ""),
            (
                "kind",
                "Kind. Must be in the singular form; plural forms are not accepted",
                "Must be in the singular form; plural forms are not accepted",
            ),
            ("allNamespaces", "If true, list resources across all namespaces", ""),
            ("namespace", "Namespace; use '*' for all", "use '*' for all"),
            ("namespace", "Comma-separated list of namespaces", "Comma-separated list of namespaces"),
            ("name", "Name or name prefix of the pod", "Name or name prefix of the pod"),
            (
                "name",
                "Name of the resource; cannot be combined with labelSelector",
                "cannot be combined with labelSelector",
            ),
            ("kind", "Kind, e.g. Deployment", ""),
            ("kind", "One of Pod, Deployment, StatefulSet", "One of Pod, Deployment, StatefulSet"),
            ("label_selector", "Only equality (=) is allowed", "Only equality (=) is allowed"),
            ("context", "Number of lines around a match", "Number of lines around a match"),
            // Any other argument keeps its examples.
            ("query", "PromQL (e.g. 'up == 0')", "PromQL (e.g. 'up == 0')"),
            ("sinceTime", "RFC3339 (optional - now by default)", "RFC3339 (now by default)"),
        ];
        for (key, text, expected) in rows {
            assert_eq!(argument("show", key, text, TextDetail::Brief), expected, "{key}: {text}");
            assert!(
                !argument("change", key, text, TextDetail::Whole).is_empty(),
                "{key} of a tool that changes something"
            );
        }
    }

    #[test]
    fn defaults_that_stand_for_nothing_are_left_out() {
        let schema = json!({"type": "object", "properties": {
            "tail": {"type": "integer", "default": 100, "minimum": 0, "description": "Lines from the end (default: 100)"},
            "follow": {"type": "boolean", "default": false},
            "all": {"type": "boolean", "default": true},
            "prefix": {"type": "string", "default": "", "enum": ["", "a"]},
            "depth": {"type": "integer", "minimum": 3, "description": "Levels (default: as many as there are)"},
        }});
        let shorten = |detail| {
            let input_schema = schema.as_object().cloned().unwrap();
            let description = "Shows logs.\n(common kinds include: v1 Pod, v1 Service, apps/v1 Deployment)".to_owned();
            let mut spec = ToolSpec { name: "show".to_owned(), description, input_schema };
            shorten_tool_texts(&mut spec, detail);
            spec
        };
        let brief = shorten(TextDetail::Brief);
        assert_eq!(brief.description, "Shows logs.");
        let expected = json!({
            "tail": {"type": "integer", "default": 100, "description": "Lines from the end"},
            "follow": {"type": "boolean"},
            "all": {"type": "boolean", "default": true},
            "prefix": {"type": "string", "enum": ["", "a"]},
            "depth": {"type": "integer", "minimum": 3, "description": "Levels (default: as many as there are)"},
        });
        assert_eq!(brief.input_schema["properties"], expected);
        let whole = shorten(TextDetail::Whole);
        assert!(whole.description.ends_with("apps/v1 Deployment)"), "{}", whole.description);
        assert_eq!(whole.input_schema["properties"]["tail"], schema["properties"]["tail"]);
        assert_eq!(whole.input_schema["properties"]["follow"], json!({"type": "boolean"}));
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
