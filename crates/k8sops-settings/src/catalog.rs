//! All settings of a program.

use crate::{
    descriptor::{FieldShape, SectionDescriptor, SettingDescriptor, join_path},
    format::ValueKind,
    yaml::{self, YamlNode},
};

/// All settings of a program, with what is known of them outside of their declarations.
#[derive(Debug, Clone, Default)]
pub struct SettingsCatalog {
    sections: Vec<&'static SectionDescriptor>,
    item_variables: Vec<ItemVariable>,
    standalone_variables: Vec<StandaloneVariable>,
    builtin_yaml: Vec<&'static str>,
    reserved_references: Vec<&'static str>,
}

/// A variable that sets one key of one item of a list or mapping (`providers.openai.base_url`).
#[derive(Debug, Clone, Copy)]
pub struct ItemVariable {
    /// YAML path of the item (`providers.openai`, `mcp.servers.default`).
    pub item: &'static str,
    /// The key in it.
    pub key: &'static str,
    /// The variable.
    pub variable: &'static str,
    /// What the variable accepts, where that differs from the key.
    pub accepts: Option<&'static str>,
    /// A value for examples; empty if the default is one.
    pub example: &'static str,
    /// Its description.
    pub doc: &'static str,
}

/// A variable of the program that has no place in the YAML.
#[derive(Debug, Clone, Copy)]
pub struct StandaloneVariable {
    /// The variable.
    pub variable: &'static str,
    /// What it accepts.
    pub accepts: &'static str,
    /// A value for examples.
    pub example: &'static str,
    /// Its description.
    pub doc: &'static str,
}

/// A setting with its full path.
#[derive(Debug, Clone)]
pub struct CatalogEntry {
    /// Its YAML path.
    pub path: String,
    /// Everything else. For the variable of an item, `default` is empty: see [`SettingsCatalog::default_of`].
    pub descriptor: SettingDescriptor,
}

impl SettingsCatalog {
    /// A catalog of sections, in the order of the documentation.
    #[must_use]
    pub fn new(sections: &[&'static SectionDescriptor]) -> Self {
        Self { sections: sections.to_vec(), ..Self::default() }
    }

    /// Adds variables that set single keys of items.
    #[must_use]
    pub fn with_item_variables(mut self, variables: &[ItemVariable]) -> Self {
        self.item_variables.extend(variables);
        self
    }

    /// Adds variables that have no place in the YAML.
    #[must_use]
    pub fn with_standalone_variables(mut self, variables: &[StandaloneVariable]) -> Self {
        self.standalone_variables.extend(variables);
        self
    }

    /// Adds a YAML document that is compiled in, weaker than everything a user sets.
    #[must_use]
    pub fn with_builtin_yaml(mut self, text: &'static str) -> Self {
        self.builtin_yaml.push(text);
        self
    }

    /// Adds a reference like `${user.token}` that the YAML reader leaves as it is.
    #[must_use]
    pub fn with_reserved_reference(mut self, reference: &'static str) -> Self {
        self.reserved_references.push(reference);
        self
    }

    /// The sections.
    #[must_use]
    pub fn sections(&self) -> &[&'static SectionDescriptor] {
        &self.sections
    }

    /// The variables that have no place in the YAML.
    #[must_use]
    pub fn standalone_variables(&self) -> &[StandaloneVariable] {
        &self.standalone_variables
    }

    /// Every setting, in the order of the sections. The variables of items follow the setting that their item is part of.
    #[must_use]
    pub fn entries(&self) -> Vec<CatalogEntry> {
        let mut entries = Vec::new();
        for descriptor in self.sections.iter().flat_map(|section| section.settings) {
            let path = descriptor.path();
            let items = self.item_variables.iter().filter(|variable| is_within(variable.item, &path));
            let items: Vec<_> = items.filter_map(|variable| describe_item_variable(variable, descriptor)).collect();
            entries.push(CatalogEntry { path, descriptor: *descriptor });
            entries.extend(items);
        }
        entries
    }

    /// Every entry that has an environment variable.
    #[must_use]
    pub fn entries_with_variable(&self) -> Vec<CatalogEntry> {
        self.entries().into_iter().filter(|entry| !entry.descriptor.variable.is_empty()).collect()
    }

    /// Whether a reload applies the setting at a path; what is inside of a live setting is live too.
    #[must_use]
    pub fn is_live(&self, path: &str) -> bool {
        let settings = self.sections.iter().flat_map(|section| section.settings);
        settings.filter(|descriptor| descriptor.live).any(|descriptor| is_within(path, &descriptor.path()))
    }

    /// Default of an entry as text, from its declaration or from the YAML that is compiled in; empty if there is none.
    #[must_use]
    pub fn default_of(&self, entry: &CatalogEntry) -> String {
        if !entry.descriptor.default.is_empty() {
            return entry.descriptor.default.to_owned();
        }
        let keys: Vec<&str> = entry.path.split('.').collect();
        let in_document = |root: &YamlNode| {
            let node = keys.iter().try_fold(root, |node, key| node.get(key))?;
            node.text().map(str::to_owned)
        };
        self.builtin_documents().iter().find_map(in_document).unwrap_or_default()
    }

    /// The variables that set keys of the item at a path.
    pub(crate) fn variables_of_item(&self, item: &str) -> Vec<(&'static str, String)> {
        let variables = self.item_variables.iter().filter(|variable| variable.item == item);
        variables.map(|variable| (variable.key, variable.variable.to_owned())).collect()
    }

    /// Every variable that the program reads.
    pub(crate) fn variable_names(&self) -> Vec<&'static str> {
        let settings = self.sections.iter().flat_map(|section| section.settings).map(|setting| setting.variable);
        let items = self.item_variables.iter().map(|variable| variable.variable);
        let standalone = self.standalone_variables.iter().map(|variable| variable.variable);
        settings.chain(items).chain(standalone).filter(|name| !name.is_empty()).collect()
    }

    /// The YAML that is compiled in, weakest first.
    pub(crate) fn builtin_documents(&self) -> Vec<YamlNode> {
        let parse = |text: &&str| {
            let document = yaml::read_document(text, &self.sections, None);
            document.root.filter(|_| document.problems.is_empty()).expect("the YAML that is compiled in is valid")
        };
        self.builtin_yaml.iter().map(parse).collect()
    }

    pub(crate) fn reserved_references(&self) -> &[&'static str] {
        &self.reserved_references
    }
}

/// Whether `path` is `ancestor` or something inside of it.
pub(crate) fn is_within(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn describe_item_variable(variable: &ItemVariable, collection: &SettingDescriptor) -> Option<CatalogEntry> {
    let field = collection.shape.section()?.settings.iter().find(|field| field.key == variable.key)?;
    let descriptor = SettingDescriptor {
        section: variable.item,
        shape: FieldShape::Value,
        kind: variable.accepts.map_or(field.kind, ValueKind::Described),
        doc: variable.doc,
        variable: variable.variable,
        default: "",
        example: variable.example,
        live: collection.live,
        ..*field
    };
    Some(CatalogEntry { path: join_path(variable.item, variable.key), descriptor })
}
