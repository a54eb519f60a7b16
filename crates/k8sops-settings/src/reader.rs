//! Reading settings: layers, precedence, and what is reported about a wrong value.
//!
//! Every setting is looked up from the strongest layer to the weakest, read once, and recorded with its origin. A wrong value
//! does not stop the reader: it is reported, the next weaker one is tried, and reading continues, so that one start reports
//! all problems.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use k8sops_core::printable_excerpt;

use crate::{
    catalog::SettingsCatalog,
    dotenv::parse_dotenv,
    layer::{LayerNode, RawValue},
    sources::{SettingOrigin, SettingSources, expand_home},
    suggestion::{misspelled_name, nearest_name},
    yaml::{self, ParsedDocument, ReferenceValues},
};

/// A setting in effect, as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveSetting {
    /// YAML path.
    pub path: String,
    /// Value; masked if it is a secret, `-` if there is none.
    pub value: String,
    /// Where the value comes from.
    pub origin: SettingOrigin,
}

/// Everything that reading found.
#[derive(Debug)]
pub struct ReadReport {
    /// Every setting in effect.
    pub effective: Vec<EffectiveSetting>,
    /// What is odd and does not stop the start, one line each.
    pub warnings: Vec<String>,
    /// What is wrong, one line each; no secret in it.
    pub problems: Vec<String>,
}

/// Reads settings from all sources.
pub struct SettingReader {
    catalog: SettingsCatalog,
    /// Root of each document, weakest first.
    layers: Vec<LayerNode>,
    environment: BTreeMap<String, String>,
    dotenv: BTreeMap<String, String>,
    /// Words of the user's YAML, which may name variables.
    yaml_words: BTreeSet<String>,
    report: ReadReport,
}

impl SettingReader {
    /// Makes a reader of the sources. A document or a line of `.env` that cannot be read is reported like a wrong value.
    #[must_use]
    pub fn new(catalog: &SettingsCatalog, sources: SettingSources) -> Self {
        let (dotenv, mut problems) = sources.dotenv.as_deref().map(parse_dotenv).unwrap_or_default();
        let builtin = catalog.builtin_documents();
        let mut layers: Vec<_> = builtin.into_iter().map(|node| LayerNode { file: None, node }).collect();
        let mut yaml_words = BTreeSet::new();
        if let Some((path, text)) = sources.yaml {
            let variables = dotenv.clone().into_iter().chain(sources.env.clone()).collect();
            let values = ReferenceValues { variables: &variables, reserved: catalog.reserved_references() };
            let ParsedDocument { root, problems: found } = yaml::read_document(&text, catalog.sections(), Some(values));
            problems.extend(found.into_iter().map(|problem| format!("{}: {problem}", path.display())));
            layers.extend(root.map(|node| LayerNode { file: Some(path), node }));
            let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            yaml_words = words.map(str::to_owned).collect();
        }
        Self {
            catalog: catalog.clone(),
            layers,
            environment: sources.env,
            dotenv,
            yaml_words,
            report: ReadReport { effective: Vec::new(), warnings: Vec::new(), problems },
        }
    }

    /// Value of a variable. One of the environment hides one of `.env`; an empty one is not set.
    #[must_use]
    pub fn read_variable(&self, name: &str) -> Option<RawValue> {
        let (text, origin) = match (self.environment.get(name), self.dotenv.get(name)) {
            (Some(text), _) => (text, SettingOrigin::Environment(name.to_owned())),
            (None, Some(text)) => (text, SettingOrigin::Dotenv(name.to_owned())),
            (None, None) => return None,
        };
        let text = text.trim();
        (!text.is_empty()).then(|| RawValue { text: text.to_owned(), origin })
    }

    /// Expands a `~` at the beginning of a path; `None` if there is one and `HOME` is not set.
    #[must_use]
    pub fn expand_home(&self, path: &Path) -> Option<PathBuf> {
        let home = self.read_variable("HOME").map(|home| home.text);
        expand_home(path, home.as_deref())
    }

    /// Reports a problem, a line of its own.
    pub fn report_problem(&mut self, problem: impl Into<String>) {
        self.report.problems.push(problem.into());
    }

    /// Reports something odd that does not stop the start.
    pub fn report_warning(&mut self, warning: impl Into<String>) {
        self.report.warnings.push(warning.into());
    }

    /// Reports a value that is not accepted; `value` is how it may be shown.
    pub fn report_invalid(&mut self, path: &str, value: &str, origin: &SettingOrigin, allowed: &str) {
        self.report_problem(match origin {
            SettingOrigin::Default => format!("{path} is `{value}`; allowed: {allowed}"),
            SettingOrigin::Yaml { path: file, line } => {
                format!("{} line {line}: {path} is `{value}`; allowed: {allowed}", file.display())
            }
            SettingOrigin::Dotenv(name) => format!("{name} in .env is `{value}`; allowed: {allowed}"),
            SettingOrigin::Environment(name) => format!("{name} is `{value}`; allowed: {allowed}"),
        });
    }

    /// Number of problems so far.
    #[must_use]
    pub fn problem_count(&self) -> usize {
        self.report.problems.len()
    }

    /// Records a setting in effect; `value` is how it may be shown.
    pub fn record_effective(&mut self, path: impl Into<String>, value: &str, origin: &SettingOrigin) {
        let value = if value.is_empty() { "-".to_owned() } else { printable_excerpt(value) };
        self.report.effective.push(EffectiveSetting { path: path.into(), value, origin: origin.clone() });
    }

    /// Replaces the shown value of a setting that has been read: of one whose default depends on others.
    pub fn replace_shown_value(&mut self, path: &str, value: &str) {
        if let Some(setting) = self.report.effective.iter_mut().find(|setting| setting.path == path) {
            setting.value = if value.is_empty() { "-".to_owned() } else { printable_excerpt(value) };
        }
    }

    /// Origin of a setting that has been read; the default if it has not.
    #[must_use]
    pub fn origin_of(&self, path: &str) -> SettingOrigin {
        let read = self.report.effective.iter().find(|setting| setting.path == path);
        read.map_or(SettingOrigin::Default, |setting| setting.origin.clone())
    }

    /// Warns of variables that begin with `prefix`, or that are probably misspelled, and that nothing reads: no setting, and no
    /// word of the user's YAML, where references and keys of providers name variables.
    pub fn warn_of_unknown_variables(&mut self, prefix: &str) {
        let known = self.catalog.variable_names();
        let names: BTreeSet<&String> = self.environment.keys().chain(self.dotenv.keys()).collect();
        let is_read = |name: &String| known.contains(&name.as_str()) || self.yaml_words.contains(name);
        let unknown = names.into_iter().filter(|name| !is_read(name));
        let warnings = unknown.filter_map(|name| {
            let is_ours = name.starts_with(prefix);
            let find = if is_ours { nearest_name } else { misspelled_name };
            let hint = match find(name, &known) {
                Some(meant) => format!("did you mean {meant}?"),
                None if is_ours => "`k8sops config --reference` lists all variables".to_owned(),
                None => return None,
            };
            Some(format!("{name} is set and is not a variable of k8sops; {hint}"))
        });
        let warnings: Vec<String> = warnings.collect();
        self.report.warnings.extend(warnings);
    }

    /// Ends reading.
    #[must_use]
    pub fn finish(self) -> ReadReport {
        self.report
    }

    pub(crate) fn catalog(&self) -> &SettingsCatalog {
        &self.catalog
    }

    /// Root of each document, weakest first.
    pub(crate) fn layers(&self) -> &[LayerNode] {
        &self.layers
    }
}
