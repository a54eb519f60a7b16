//! References to variables in the YAML: `${NAME}`, `${NAME:-default}`; `$${` stands for `${`.
//!
//! They are replaced here and not by the parser, whose own interpolation skips quoted text, where they are wanted most
//! (`"Bearer ${TOKEN}"`). They are replaced after parsing, so that the value of a variable is never read as YAML.

use std::collections::BTreeMap;

use k8sops_core::printable_excerpt;

use super::node::{YamlNode, YamlValue};

/// What references are replaced with.
#[derive(Clone, Copy)]
pub(crate) struct ReferenceValues<'a> {
    /// Variables by name.
    pub(crate) variables: &'a BTreeMap<String, String>,
    /// References that stay as they are.
    pub(crate) reserved: &'a [&'static str],
}

/// Replaces the references in all scalars. Adds a problem for each that cannot be replaced, and leaves its scalar empty.
pub(super) fn replace_references(node: &mut YamlNode, values: ReferenceValues<'_>, problems: &mut Vec<String>) {
    match &mut node.value {
        YamlValue::Scalar(scalar) => {
            let expanded = scalar.as_deref().map(|text| expand_text(text, values)).transpose();
            *scalar = expanded.unwrap_or_else(|problem| {
                problems.push(format!("line {}: {problem}", node.line));
                None
            });
        }
        YamlValue::List(items) => {
            for item in items {
                replace_references(item, values, problems);
            }
        }
        YamlValue::Map(entries) => {
            for (_, entry) in entries {
                replace_references(entry, values, problems);
            }
        }
    }
}

fn expand_text(text: &str, values: ReferenceValues<'_>) -> Result<String, String> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let before = &rest[..at];
        let reference = &rest[at + 2..];
        if let Some(before) = before.strip_suffix('$') {
            expanded.extend([before, "${"]);
            rest = reference;
            continue;
        }
        if let Some(reserved) = values.reserved.iter().find(|reserved| rest[at..].starts_with(**reserved)) {
            expanded.extend([before, reserved]);
            rest = &rest[at + reserved.len()..];
            continue;
        }
        let end = reference.find('}').ok_or("`${` without `}`; write `$${` for `${` itself")?;
        let name = &reference[..end];
        let (name, default) = name.split_once(":-").map_or((name, None), |(name, default)| (name, Some(default)));
        let value = values.variables.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let value = value.or(default).ok_or_else(|| {
            format!("the variable `{}` is not set; set it, or write `${{{0}:-}}` for nothing", printable_excerpt(name))
        })?;
        expanded.extend([before, value]);
        rest = &reference[end + 1..];
    }
    expanded.push_str(rest);
    Ok(expanded)
}
