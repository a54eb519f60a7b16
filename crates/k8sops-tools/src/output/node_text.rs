//! Trees as text again: as JSON on one line, or as YAML.

use std::fmt::Write;

use super::node::{Node, ScalarKind};

/// How an output was written, so that its parts are shown in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeStyle {
    /// JSON without spaces.
    CompactJson,
    /// JSON with a space behind colons and commas.
    SpacedJson,
    Yaml,
}

impl NodeStyle {
    /// Returns the style of a text in JSON.
    pub(super) fn of_json(text: &str) -> Self {
        let beginning = &text[..text.floor_char_boundary(4_096)];
        if beginning.contains("\": ") { NodeStyle::SpacedJson } else { NodeStyle::CompactJson }
    }
}

impl Node<'_> {
    /// Returns the node as text: JSON on one line, or YAML of several lines.
    pub(super) fn to_text(&self, style: NodeStyle) -> String {
        let mut text = String::new();
        match style {
            NodeStyle::Yaml => write_yaml(self, 0, &mut text),
            _ => write_json(self, style, &mut text),
        }
        while text.ends_with('\n') {
            text.pop();
        }
        text
    }

    /// Returns the node on one line.
    pub(super) fn to_line(&self, style: NodeStyle) -> String {
        let style = if style == NodeStyle::CompactJson { style } else { NodeStyle::SpacedJson };
        self.to_text(style)
    }
}

fn write_json(node: &Node<'_>, style: NodeStyle, text: &mut String) {
    let (comma, colon) = if style == NodeStyle::CompactJson { (",", ":") } else { (", ", ": ") };
    match node {
        Node::Scalar(scalar, ScalarKind::Literal) => text.push_str(if scalar.is_empty() { "null" } else { scalar }),
        Node::Scalar(scalar, ScalarKind::Text) => write_json_text(scalar, text),
        Node::List(items) => {
            text.push('[');
            for (n, item) in items.iter().enumerate() {
                text.push_str(if n > 0 { comma } else { "" });
                write_json(item, style, text);
            }
            text.push(']');
        }
        Node::Map(fields) => {
            text.push('{');
            for (n, (key, value)) in fields.iter().enumerate() {
                text.push_str(if n > 0 { comma } else { "" });
                write_json_text(key, text);
                text.push_str(colon);
                write_json(value, style, text);
            }
            text.push('}');
        }
    }
}

fn write_json_text(scalar: &str, text: &mut String) {
    // Text can always be written as JSON.
    text.push_str(&serde_json::to_string(scalar).unwrap_or_default());
}

fn write_yaml(node: &Node<'_>, indent: usize, text: &mut String) {
    match node {
        Node::Scalar(..) => {
            write_yaml_value(node, indent, text);
        }
        Node::List(items) => {
            for item in items {
                let _ = write!(text, "{:indent$}- ", "");
                match item {
                    Node::Map(fields) if !fields.is_empty() => {
                        let mut nested = String::new();
                        write_yaml(item, indent + 2, &mut nested);
                        text.push_str(nested.trim_start_matches(' '));
                    }
                    _ => write_yaml_value(item, indent + 2, text),
                }
            }
        }
        Node::Map(fields) => {
            for (key, value) in fields {
                let _ = write!(text, "{:indent$}{}:", "", yaml_scalar(key));
                let is_nested = match value {
                    Node::List(items) => !items.is_empty(),
                    Node::Map(fields) => !fields.is_empty(),
                    Node::Scalar(..) => false,
                };
                text.push(if is_nested { '\n' } else { ' ' });
                match value {
                    Node::List(items) if !items.is_empty() => write_yaml(value, indent, text),
                    _ if is_nested => write_yaml(value, indent + 2, text),
                    _ => write_yaml_value(value, indent + 2, text),
                }
            }
        }
    }
}

/// Writes a value behind a key or a hyphen, and ends the line.
fn write_yaml_value(node: &Node<'_>, indent: usize, text: &mut String) {
    match node {
        Node::Scalar(scalar, ScalarKind::Literal) => text.push_str(scalar),
        Node::Scalar(scalar, ScalarKind::Text) if scalar.contains('\n') => {
            text.push_str(if scalar.ends_with('\n') { "|" } else { "|-" });
            for line in scalar.lines() {
                let _ = write!(text, "\n{:indent$}{line}", "");
            }
        }
        Node::Scalar(scalar, ScalarKind::Text) => text.push_str(&yaml_scalar(scalar)),
        Node::List(items) if items.is_empty() => text.push_str("[]"),
        Node::Map(fields) if fields.is_empty() => text.push_str("{}"),
        Node::List(_) | Node::Map(_) => {
            text.push('\n');
            write_yaml(node, indent, text);
            return;
        }
    }
    text.push('\n');
}

/// Returns text in quotes if YAML would read it as something else.
fn yaml_scalar(scalar: &str) -> std::borrow::Cow<'_, str> {
    let is_special = scalar.is_empty()
        || matches!(scalar, "true" | "false" | "null" | "~" | "yes" | "no")
        || scalar.parse::<f64>().is_ok()
        || scalar.starts_with(|char: char| !char.is_alphanumeric() && !matches!(char, '/' | '_' | '.' | '(' | '<'))
        || scalar.contains(": ")
        || scalar.contains(" #")
        || scalar.ends_with([':', ' ']);
    if is_special { format!("{scalar:?}").into() } else { scalar.into() }
}
