//! Nodes of the YAML documents, which are layers over each other.

use std::path::PathBuf;

use crate::{sources::SettingOrigin, yaml::YamlNode};

/// A value that was found, as text.
#[derive(Debug, Clone)]
pub struct RawValue {
    /// The text, without white space around it; never empty.
    pub text: String,
    /// Where it was found.
    pub origin: SettingOrigin,
}

/// A node of one layer.
#[derive(Debug, Clone)]
pub(crate) struct LayerNode {
    /// The file of the layer; `None` for YAML that is compiled in.
    pub(crate) file: Option<PathBuf>,
    pub(crate) node: YamlNode,
}

impl LayerNode {
    pub(crate) fn child(&self, key: &str) -> Option<Self> {
        self.node.get(key).map(|node| self.with_node(node))
    }

    pub(crate) fn with_node(&self, node: &YamlNode) -> Self {
        Self { file: self.file.clone(), node: node.clone() }
    }

    pub(crate) fn origin(&self) -> SettingOrigin {
        match &self.file {
            None => SettingOrigin::Default,
            Some(path) => SettingOrigin::Yaml { path: path.clone(), line: self.node.line },
        }
    }

    pub(crate) fn raw_value(&self) -> Option<RawValue> {
        self.node.text().map(|text| RawValue { text: text.to_owned(), origin: self.origin() })
    }
}
