//! What a server says about a tool.

use serde_json::{Map, Value};

/// What a server says about a tool. All of it is untrusted text: it decides how the arguments are read, never whether a
/// command is harmless.
#[derive(Debug, Clone, Copy)]
pub struct ToolDescription<'a> {
    /// Name of the tool on its server.
    pub name: &'a str,
    /// Title for a person, if the server gives one.
    pub title: Option<&'a str>,
    /// What the tool does; may be empty.
    pub description: &'a str,
    /// JSON Schema of the arguments, if known.
    pub input_schema: Option<&'a Map<String, Value>>,
}

impl<'a> ToolDescription<'a> {
    /// Describes a tool of which only the name is known.
    #[must_use]
    pub fn named(name: &'a str) -> Self {
        Self { name, title: None, description: "", input_schema: None }
    }
}

/// Splits a name or a text into its words in lower case: `runKubectl`, `run-kubectl` and `run_kubectl` have the same words.
pub(crate) fn split_name(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut previous = ' ';
    for char in name.chars() {
        if char.is_ascii_alphanumeric() {
            let starts_word =
                !previous.is_ascii_alphanumeric() || (char.is_ascii_uppercase() && previous.is_ascii_lowercase());
            if starts_word {
                words.push(String::new());
            }
            if let Some(word) = words.last_mut() {
                word.push(char.to_ascii_lowercase());
            }
        }
        previous = char;
    }
    words
}
