//! One mapping of the YAML, over all layers that have it, and the variables of its keys.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::{
    descriptor::{SectionDescriptor, join_path},
    format::ValueFormat,
    layer::{LayerNode, RawValue},
    reader::SettingReader,
    sources::SettingOrigin,
};

/// A struct of settings that [`options!`](crate::options) declared.
pub trait SettingsSection: Sized {
    /// The section with its settings.
    const SECTION: SectionDescriptor;

    /// Reads all fields. Problems are reported to the reader, and a default stands in for a value that is wrong.
    fn read_from(scope: &mut SettingScope<'_>) -> Self;
}

/// Which settings of a scope are recorded as effective.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListingMode {
    /// All, those without a value too.
    All,
    /// Those that are set, and those that a variable can set.
    Set,
    /// None.
    Nothing,
}

/// Reads the keys of one mapping.
pub struct SettingScope<'r> {
    reader: &'r mut SettingReader,
    path: String,
    /// The mapping in each layer that has it, weakest first.
    nodes: Vec<LayerNode>,
    listing: ListingMode,
    /// Variables of this item, by key. Those of a section are in its declarations.
    item_variables: Vec<(&'static str, String)>,
}

impl SettingReader {
    /// Reads a section with all its settings.
    pub fn read_section<S: SettingsSection>(&mut self) -> S {
        let path = S::SECTION.path;
        let keys = path.split('.').filter(|key| !key.is_empty());
        let at_path = |layer: &LayerNode| keys.clone().try_fold(layer.clone(), |layer, key| layer.child(key));
        let nodes = self.layers().iter().filter_map(at_path).collect();
        S::read_from(&mut SettingScope::new(self, path.to_owned(), nodes, ListingMode::All))
    }
}

impl<'r> SettingScope<'r> {
    pub(crate) fn new(
        reader: &'r mut SettingReader,
        path: String,
        nodes: Vec<LayerNode>,
        listing: ListingMode,
    ) -> Self {
        let item_variables = reader.catalog().variables_of_item(&path);
        Self { reader, path, nodes, listing, item_variables }
    }

    /// YAML path of the mapping.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// YAML path of a key.
    #[must_use]
    pub fn path_of(&self, key: &str) -> String {
        join_path(&self.path, key)
    }

    /// The reader, to report to.
    pub fn reader(&mut self) -> &mut SettingReader {
        self.reader
    }

    /// Where the mapping stands in the strongest layer that has it.
    #[must_use]
    pub fn origin(&self) -> SettingOrigin {
        self.nodes.last().map_or(SettingOrigin::Default, LayerNode::origin)
    }

    /// Sets which settings are recorded as effective.
    pub fn set_listing(&mut self, listing: ListingMode) {
        self.listing = listing;
    }

    /// Sets the variable of a key, for one that depends on other keys.
    pub fn set_variable(&mut self, key: &'static str, variable: String) {
        self.item_variables.retain(|(known, _)| *known != key);
        self.item_variables.push((key, variable));
    }

    /// Expands a `~` at the beginning of a path; `None` if there is one and `HOME` is not set.
    #[must_use]
    pub fn expand_home(&self, path: &Path) -> Option<PathBuf> {
        self.reader.expand_home(path)
    }

    /// Text of a key from its strongest source, before any format reads it.
    #[must_use]
    pub fn find_raw(&self, key: &str) -> Option<RawValue> {
        self.candidates(key, "").pop()
    }

    /// Where the effective value of a key that has been read comes from.
    #[must_use]
    pub fn origin_of(&self, key: &str) -> SettingOrigin {
        self.reader.origin_of(&self.path_of(key))
    }

    /// Text of the variable of a key.
    #[must_use]
    pub fn find_variable(&self, key: &str) -> Option<RawValue> {
        self.read_variable(key, "")
    }

    /// Reports a value of a key that is not accepted; `value` is how it may be shown.
    pub fn report_invalid(&mut self, key: &str, value: &str, origin: &SettingOrigin, allowed: &str) {
        let path = self.path_of(key);
        self.reader.report_invalid(&path, value, origin, allowed);
    }

    /// Records a key in effect.
    pub fn record_effective(&mut self, key: &str, value: &str, origin: &SettingOrigin) {
        if self.listing != ListingMode::Nothing {
            let path = self.path_of(key);
            self.reader.record_effective(path, value, origin);
        }
    }

    /// Reads a single value: the strongest that the format accepts, then the default.
    pub(crate) fn read_value<V>(
        &mut self,
        format: &ValueFormat<V>,
        key: &'static str,
        variable: &str,
        default: &str,
    ) -> Option<V> {
        let mut candidates = self.candidates(key, variable);
        while let Some(RawValue { text, origin }) = candidates.pop() {
            let shown = format.mask(&text);
            if let Some(value) = format.parse(&text) {
                self.record_effective(key, &shown, &origin);
                return Some(value);
            }
            self.report_invalid(key, &shown, &origin, &format.kind().to_string());
        }
        let has_variable = !variable.is_empty() || self.item_variables.iter().any(|(k, _)| *k == key);
        if self.listing == ListingMode::All || has_variable {
            let shown = if default.is_empty() { String::new() } else { format.mask(default) };
            self.record_effective(key, &shown, &SettingOrigin::Default);
        }
        format.parse(default).filter(|_| !default.is_empty())
    }

    /// Reads the items of a list of the strongest layer that has one. An empty item counts.
    pub fn read_list<V>(&mut self, format: &ValueFormat<V>, key: &'static str) -> Vec<V> {
        let mut values = Vec::new();
        for item in self.strongest_list(key) {
            let text = item_text(&item, format);
            match format.parse(text) {
                Some(value) => values.push(value),
                None => self.report_invalid(key, &format.mask(text), &item.origin(), &format.kind().to_string()),
            }
        }
        values
    }

    /// Reads the entries of a mapping of the strongest layer that has one. An empty value counts.
    pub fn read_map<V>(&mut self, format: &ValueFormat<V>, key: &'static str) -> BTreeMap<String, V> {
        let mut values = BTreeMap::new();
        let Some(strongest) = self.nodes.iter().rev().find_map(|node| node.child(key)) else { return values };
        for (name, node) in strongest.node.entries() {
            let entry = strongest.with_node(node);
            let key = format!("{key}.{name}");
            let text = item_text(&entry, format);
            match format.parse(text) {
                Some(value) => {
                    self.record_effective(&key, &format.mask(text), &entry.origin());
                    values.insert(name.clone(), value);
                }
                None => self.report_invalid(&key, &format.mask(text), &entry.origin(), &format.kind().to_string()),
            }
        }
        values
    }

    /// Reads the mapping at a key, if any layer has it. Layers are merged key by key.
    pub fn read_nested<S: SettingsSection>(&mut self, key: &str) -> Option<S> {
        let nodes: Vec<_> = self.nodes.iter().filter_map(|node| node.child(key)).collect();
        if nodes.is_empty() {
            return None;
        }
        let path = self.path_of(key);
        let listing = self.listing;
        Some(S::read_from(&mut SettingScope::new(self.reader, path, nodes, listing)))
    }

    /// Calls `read` with a scope for each item of the list at a key, of the strongest layer that has a list with items.
    pub fn read_items<T>(&mut self, key: &str, mut read: impl FnMut(&mut SettingScope<'_>) -> T) -> Vec<T> {
        let path = self.path_of(key);
        let items = self.strongest_list(key).into_iter().enumerate();
        items
            .map(|(n, item)| {
                read(&mut SettingScope::new(self.reader, format!("{path}[{n}]"), vec![item], ListingMode::Set))
            })
            .collect()
    }

    /// Calls `read` with a scope for each item of the lists at a key, of all layers, weakest first.
    pub fn read_items_of_all_layers<T>(
        &mut self,
        key: &str,
        mut read: impl FnMut(&mut SettingScope<'_>) -> T,
    ) -> Vec<T> {
        let path = format!("{}[]", self.path_of(key));
        let lists: Vec<_> = self.nodes.iter().filter_map(|node| node.child(key)).collect();
        let items = lists.iter().flat_map(|layer| layer.node.items().iter().map(|node| layer.with_node(node)));
        items
            .map(|item| read(&mut SettingScope::new(self.reader, path.clone(), vec![item], ListingMode::Nothing)))
            .collect()
    }

    /// Calls `read` with the name and a scope for each entry of the mapping at a key. Layers are merged key by key.
    pub fn read_named_items<T>(&mut self, key: &str, mut read: impl FnMut(&str, &mut SettingScope<'_>) -> T) -> Vec<T> {
        let maps: Vec<_> = self.nodes.iter().filter_map(|node| node.child(key)).collect();
        let mut names: Vec<&String> = Vec::new();
        for (name, _) in maps.iter().flat_map(|map| map.node.entries()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let items = names.into_iter().map(|name| {
            let nodes: Vec<_> = maps.iter().filter_map(|map| map.child(name)).collect();
            let path = format!("{}.{name}", self.path_of(key));
            read(name, &mut SettingScope::new(self.reader, path, nodes, ListingMode::Set))
        });
        items.collect()
    }

    /// Calls `read` with a scope for an item at a path of its own: one of `nodes` if there are any, else of no layer.
    pub fn read_item_at<T>(
        &mut self,
        path: &str,
        item: Option<ItemNode>,
        read: impl FnOnce(&mut SettingScope<'_>) -> T,
    ) -> T {
        let nodes = item.map(|item| item.0).into_iter().collect();
        read(&mut SettingScope::new(self.reader, path.to_owned(), nodes, ListingMode::Set))
    }

    /// The items of the list at a key, of the strongest layer that has a list with items.
    #[must_use]
    pub fn find_items(&self, key: &str) -> Vec<ItemNode> {
        self.strongest_list(key).into_iter().map(ItemNode).collect()
    }

    fn strongest_list(&self, key: &str) -> Vec<LayerNode> {
        let lists = self.nodes.iter().rev().filter_map(|node| node.child(key));
        let mut with_items = lists.filter(|list| !list.node.items().is_empty());
        let Some(list) = with_items.next() else { return Vec::new() };
        list.node.items().iter().map(|node| list.with_node(node)).collect()
    }

    /// Values of a key from all sources, weakest first.
    fn candidates(&self, key: &str, variable: &str) -> Vec<RawValue> {
        let in_yaml = self.nodes.iter().filter_map(|node| node.child(key)?.raw_value());
        in_yaml.chain(self.read_variable(key, variable)).collect()
    }

    fn read_variable(&self, key: &str, declared: &str) -> Option<RawValue> {
        let of_item = self.item_variables.iter().find(|(known, _)| *known == key).map(|(_, name)| name.as_str());
        let name = of_item.unwrap_or(declared);
        if name.is_empty() { None } else { self.reader.read_variable(name) }
    }
}

fn item_text<'n, V>(item: &'n LayerNode, format: &ValueFormat<V>) -> &'n str {
    let text = if format.keeps_space() { item.node.scalar() } else { item.node.text() };
    text.unwrap_or_default()
}

/// An item of a list in the YAML.
#[derive(Debug, Clone)]
pub struct ItemNode(LayerNode);

impl ItemNode {
    /// Text at a key of the item.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<String> {
        self.0.child(key)?.raw_value().map(|value| value.text)
    }

    /// Text of an item that is a single value, as it was written.
    #[must_use]
    pub fn scalar(&self) -> &str {
        self.0.node.scalar().unwrap_or_default()
    }

    /// Where the item stands.
    #[must_use]
    pub fn origin(&self) -> SettingOrigin {
        self.0.origin()
    }
}
