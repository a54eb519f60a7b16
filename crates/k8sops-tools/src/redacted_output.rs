//! The answer of a server as one text for the model: without secrets, without hidden characters, and with the structured content if
//! that says more than the text.

use std::{borrow::Cow, collections::HashSet};

use serde_json::Value;

use k8sops_core::ToolStatus;
use k8sops_mcp::CallOutput;

use crate::{
    redaction::{ContentHint, RedactionVault},
    sanitize::{remove_hidden_chars, remove_hidden_in_json},
};

/// The answer of a server without the secrets in it.
pub(crate) struct RedactedOutput {
    pub(crate) status: ToolStatus,
    /// The whole text.
    pub(crate) text: String,
    pub(crate) structured: Option<Value>,
}

/// Returns the output of a call without its secrets and without hidden characters, as one text.
pub(crate) fn redact_output(vault: &RedactionVault, output: CallOutput, hint: ContentHint) -> RedactedOutput {
    let CallOutput { text, mut structured, is_error } = output;
    // Hidden characters could split a secret, or carry words that a person who reads the output does not see.
    let text = match remove_hidden_chars(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(visible) => visible,
    };
    // The text of a failure is a message and not a bare value.
    let hint = if is_error && hint == ContentHint::Values { ContentHint::Any } else { hint };
    if let Some(structured) = &mut structured {
        remove_hidden_in_json(structured);
        vault.redact_json(structured, hint);
    }
    let text = match vault.redact_text(&text, hint) {
        Cow::Borrowed(_) => text,
        Cow::Owned(redacted) => redacted,
    };
    let text = match &structured {
        Some(structured) if text.is_empty() => structured.to_string(),
        Some(structured) if !says_the_same(&text, structured) => format!("{text}\n\nstructured content:\n{structured}"),
        None if text.is_empty() => "(no output)".to_owned(),
        _ => text,
    };
    RedactedOutput { status: if is_error { ToolStatus::Error } else { ToolStatus::Ok }, text, structured }
}

/// Returns whether a text has all words of the structured content: most servers send the same content in both forms.
fn says_the_same(text: &str, structured: &Value) -> bool {
    let split = |text: &str| -> Vec<String> {
        let words = text.split(|char: char| !char.is_alphanumeric()).filter(|word| !word.is_empty());
        words.map(str::to_owned).collect()
    };
    // Escapes of JSON in the text would be a part of a word.
    let words: HashSet<String> = split(&text.replace("\\n", " ").replace("\\t", " ")).into_iter().collect();
    let mut open = vec![structured];
    while let Some(value) = open.pop() {
        let is_said = match value {
            Value::Array(items) => {
                open.extend(items);
                true
            }
            Value::Object(fields) => {
                open.extend(fields.values());
                true
            }
            Value::String(text) => split(text).iter().all(|word| words.contains(word)),
            Value::Number(number) => split(&number.to_string()).iter().all(|word| words.contains(word)),
            // What a flag says cannot be told from its word.
            Value::Bool(_) | Value::Null => true,
        };
        if !is_said {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn structured_content_is_shown_if_the_text_does_not_say_it() {
        let vault = RedactionVault::new(&[0; 32], "s");
        let shown = |text: &str, structured: Value| {
            let output = CallOutput { text: text.to_owned(), structured: Some(structured), is_error: false };
            redact_output(&vault, output, ContentHint::Any).text
        };
        for (text, structured) in [
            ("{\"pods\": 3, \"odd\": [\"web-1\"]}", json!({"pods": 3, "odd": ["web-1"]})),
            ("web-1 runs\nweb-2 waits", json!({"result": "web-1 runs\nweb-2 waits"})),
            ("{\"log\": \"a\\nb\"}", json!({"log": "a\nb"})),
            ("ready", json!({"result": "ready", "ok": true, "next": null})),
            ("plain", json!({})),
        ] {
            assert_eq!(shown(text, structured), text);
        }
        for text in ["see structured content", "{\"zebra\": \"other\"}"] {
            let shown = shown(text, json!({"zebra": "stripe 7"}));
            assert_eq!(shown, format!("{text}\n\nstructured content:\n{{\"zebra\":\"stripe 7\"}}"));
        }
        assert_eq!(shown("", json!({"a": 1})), "{\"a\":1}");
    }

    #[test]
    fn hidden_characters_do_not_reach_the_model() {
        let vault = RedactionVault::new(&[0; 32], "s");
        let text = "a\0b \u{202e}c\u{200b}\u{e0041}d\te\u{1b}[31mf\r\n👩\u{200d}💻 ünï".to_owned();
        let structured = Some(json!({"k\u{202e}": ["x\0\u{e0041}y"]}));
        let output = redact_output(&vault, CallOutput { text, structured, is_error: false }, ContentHint::Any);
        assert!(output.text.starts_with("ab cd\te\u{1b}[31mf\r\n👩\u{200d}💻 ünï"), "{:?}", output.text);
        assert_eq!(output.structured, Some(json!({"k": ["xy"]})));
    }
}
