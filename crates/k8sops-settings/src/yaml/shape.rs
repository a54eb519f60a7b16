//! What may stand at a place of the YAML, from the catalog.

use crate::descriptor::{FieldShape, SectionDescriptor};

/// What may stand at a place.
#[derive(Clone, Copy)]
pub(super) enum NodeShape<'a> {
    /// The mapping at a path that sections of the catalog begin with.
    Branch { sections: &'a [&'static SectionDescriptor], path: &'static str },
    /// An item with known keys.
    Item(&'static SectionDescriptor),
    /// The value of a setting.
    Field(FieldShape),
}

/// The form of a node, whatever its keys are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NodeForm {
    Scalar,
    List,
    Mapping,
}

impl NodeForm {
    /// The form in words.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Scalar => "a single value",
            Self::List => "a list",
            Self::Mapping => "a mapping",
        }
    }
}

impl<'a> NodeShape<'a> {
    pub(super) fn form(self) -> NodeForm {
        match self {
            Self::Branch { .. } | Self::Item(_) => NodeForm::Mapping,
            Self::Field(FieldShape::Value) => NodeForm::Scalar,
            Self::Field(FieldShape::Values | FieldShape::Sections(_)) => NodeForm::List,
            Self::Field(FieldShape::NamedValues | FieldShape::Section(_) | FieldShape::NamedSections(_)) => {
                NodeForm::Mapping
            }
        }
    }

    /// The known keys of a mapping and what stands at them; `None` if any key is accepted.
    pub(super) fn known_keys(self) -> Option<Vec<(&'static str, NodeShape<'a>)>> {
        match self {
            Self::Branch { sections, path } => Some(branch_keys(sections, path)),
            Self::Item(section) | Self::Field(FieldShape::Section(section)) => {
                let settings = section.settings.iter();
                Some(settings.map(|setting| (setting.key, Self::Field(setting.shape))).collect())
            }
            Self::Field(_) => None,
        }
    }

    /// What an item of a list is, or the value at any key of a mapping.
    pub(super) fn element(self) -> NodeShape<'a> {
        match self {
            Self::Field(FieldShape::Sections(section) | FieldShape::NamedSections(section)) => Self::Item(section),
            _ => Self::Field(FieldShape::Value),
        }
    }
}

/// Settings of the sections at `path`, and the next keys on the way to sections below it.
fn branch_keys<'a>(
    sections: &'a [&'static SectionDescriptor],
    path: &'static str,
) -> Vec<(&'static str, NodeShape<'a>)> {
    let mut keys: Vec<(&'static str, NodeShape<'a>)> = Vec::new();
    for section in sections {
        if section.path == path {
            keys.extend(section.settings.iter().map(|setting| (setting.key, NodeShape::Field(setting.shape))));
            continue;
        }
        let below = if path.is_empty() {
            Some(section.path)
        } else {
            section.path.strip_prefix(path).and_then(|rest| rest.strip_prefix('.'))
        };
        let Some(below) = below else { continue };
        let key = below.split('.').next().unwrap_or(below);
        let branch = &section.path[..section.path.len() - below.len() + key.len()];
        if keys.iter().all(|(known, _)| *known != key) {
            keys.push((key, NodeShape::Branch { sections, path: branch }));
        }
    }
    keys
}
