//! The nodes of a YAML document.

/// A node with its line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct YamlNode {
    /// Line, from 1 on.
    pub(crate) line: u64,
    /// What the node is.
    pub(crate) value: YamlValue,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum YamlValue {
    /// Text, or nothing at all.
    Scalar(Option<String>),
    /// A list.
    List(Vec<YamlNode>),
    /// A mapping, in its order.
    Map(Vec<(String, YamlNode)>),
}

impl YamlNode {
    /// Entries of a mapping; none for anything else.
    pub(crate) fn entries(&self) -> &[(String, YamlNode)] {
        if let YamlValue::Map(entries) = &self.value { entries } else { &[] }
    }

    /// Value of a mapping at `key`.
    pub(crate) fn get(&self, key: &str) -> Option<&YamlNode> {
        self.entries().iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    /// Items of a list; none for anything else.
    pub(crate) fn items(&self) -> &[YamlNode] {
        if let YamlValue::List(items) = &self.value { items } else { &[] }
    }

    /// Text of a scalar as it was written, if there is any.
    pub(crate) fn scalar(&self) -> Option<&str> {
        if let YamlValue::Scalar(text) = &self.value { text.as_deref() } else { None }
    }

    /// Text of a scalar without white space around it, if it is not empty.
    pub(crate) fn text(&self) -> Option<&str> {
        self.scalar().map(str::trim).filter(|text| !text.is_empty())
    }
}
