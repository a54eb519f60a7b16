//! What is known of settings without their types: the rows of all tables.

use crate::format::ValueKind;

/// A section of the YAML, or the mapping that an item of a list is.
#[derive(Debug, Clone, Copy)]
pub struct SectionDescriptor {
    /// YAML path of the section (`memory.redis`); empty for settings at the root and for items.
    pub path: &'static str,
    /// Description of the section; the first line is the title.
    pub doc: &'static str,
    /// The settings, in their order.
    pub settings: &'static [SettingDescriptor],
}

impl SectionDescriptor {
    /// Description as one text without line breaks.
    #[must_use]
    pub fn description(&self) -> String {
        join_lines(self.doc)
    }
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct SettingDescriptor {
    /// YAML path of its section.
    pub section: &'static str,
    /// Its key in the section.
    pub key: &'static str,
    /// What stands at the key.
    pub shape: FieldShape,
    /// The values that it accepts.
    pub kind: ValueKind,
    /// Its description.
    pub doc: &'static str,
    /// Its environment variable; empty if it has none.
    pub variable: &'static str,
    /// Its default as text; empty if it has none.
    pub default: &'static str,
    /// A value for examples; empty if the default is one.
    pub example: &'static str,
    /// Whether a reload applies it.
    pub live: bool,
    /// Whether its value must never be shown.
    pub secret: bool,
}

impl SettingDescriptor {
    /// YAML path of the setting (`agent.max_steps`).
    #[must_use]
    pub fn path(&self) -> String {
        join_path(self.section, self.key)
    }

    /// Description as one text without line breaks.
    #[must_use]
    pub fn description(&self) -> String {
        join_lines(self.doc)
    }

    /// First paragraph of the description.
    #[must_use]
    pub fn summary(&self) -> String {
        join_lines(self.doc.split("\n\n").next().unwrap_or_default())
    }

    /// What it accepts, in words.
    #[must_use]
    pub fn accepted_values(&self) -> String {
        match self.shape {
            FieldShape::Value => self.kind.to_string(),
            FieldShape::Values => format!("a list, each item {}", self.kind),
            FieldShape::NamedValues => format!("a mapping of names, each value {}", self.kind),
            FieldShape::Section(_) => "a mapping".to_owned(),
            FieldShape::Sections(_) => "a list of mappings".to_owned(),
            FieldShape::NamedSections(_) => "a mapping of names to mappings".to_owned(),
        }
    }
}

/// What stands at a key of the YAML.
#[derive(Debug, Clone, Copy)]
pub enum FieldShape {
    /// A single value.
    Value,
    /// A list of values.
    Values,
    /// A mapping of any names to values.
    NamedValues,
    /// A mapping with known keys.
    Section(&'static SectionDescriptor),
    /// A list of mappings with known keys.
    Sections(&'static SectionDescriptor),
    /// A mapping of any names to mappings with known keys.
    NamedSections(&'static SectionDescriptor),
}

impl FieldShape {
    /// The mapping with known keys that stands at the key, or in its items.
    #[must_use]
    pub fn section(&self) -> Option<&'static SectionDescriptor> {
        match self {
            Self::Value | Self::Values | Self::NamedValues => None,
            Self::Section(section) | Self::Sections(section) | Self::NamedSections(section) => Some(section),
        }
    }
}

/// Path of `key` in the mapping at `section`.
pub(crate) fn join_path(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

fn join_lines(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}
