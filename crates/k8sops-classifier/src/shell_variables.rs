//! Variables that the line itself sets: `ns=prod; kubectl get pods -n $ns`, the variable of a loop, and what `read` reads.
//!
//! Only names that no program and no shell reads are accepted: an assignment changes the environment of the programs if the
//! shell got a variable of that name.

use std::collections::BTreeMap;

use crate::shell_word::{TextKind, WordCount};

/// Variables in lower case that have a meaning to a shell or to programs.
const SPECIAL_NAMES: &[&str] = &[
    "path",
    "cdpath",
    "fpath",
    "manpath",
    "mailpath",
    "module_path",
    "fignore",
    "psvar",
    "watch",
    "prompt",
    "histchars",
    "signals",
    "argv",
    "commands",
    "functions",
    "aliases",
    "options",
    "status",
    "pipestatus",
    "dirstack",
    "history",
    "galiases",
    "saliases",
    "parameters",
    "modules",
    "nameddirs",
    "userdirs",
    "usergroups",
    "jobstates",
    "jobdirs",
    "jobtexts",
    "dis_functions",
    "reswords",
    "builtins",
    "zsh_eval_context",
    "keymaps",
    "widgets",
];

/// Words of which names in upper case consist: `NS`, `POD_NAME`.
const UPPER_CASE_WORDS: &[&str] = &[
    "A",
    "ACTUAL",
    "AGE",
    "ALL",
    "API",
    "APP",
    "C",
    "CHART",
    "CLUSTER",
    "CM",
    "CONTAINER",
    "CONTEXT",
    "COUNT",
    "CPU",
    "CTX",
    "CURRENT",
    "D",
    "DAEMONSET",
    "DATE",
    "DEP",
    "DEPLOY",
    "DEPLOYMENT",
    "DESIRED",
    "DS",
    "END",
    "EP",
    "ERR",
    "ERRORS",
    "EVENTS",
    "FAILED",
    "FIRST",
    "HPA",
    "I",
    "IMAGE",
    "ING",
    "INGRESS",
    "IP",
    "ITEM",
    "JOB",
    "JSON",
    "K",
    "KIND",
    "LABEL",
    "LAST",
    "LATEST",
    "LIMIT",
    "LINE",
    "LOG",
    "LOGS",
    "MAX",
    "MEM",
    "MEMORY",
    "MIN",
    "N",
    "NAME",
    "NAMES",
    "NAMESPACE",
    "NAMESPACES",
    "NEW",
    "NODE",
    "NODES",
    "NOW",
    "NS",
    "OLD",
    "OUT",
    "OUTPUT",
    "P",
    "PENDING",
    "PERCENT",
    "PHASE",
    "POD",
    "PODS",
    "PV",
    "PVC",
    "R",
    "READY",
    "REASON",
    "REL",
    "RELEASE",
    "REPLICAS",
    "RES",
    "RESOURCE",
    "RESTARTS",
    "RESULT",
    "REV",
    "REVISION",
    "RS",
    "RUNNING",
    "S",
    "SA",
    "SEL",
    "SELECTOR",
    "SERVICE",
    "SINCE",
    "START",
    "STATE",
    "STATUS",
    "STS",
    "SVC",
    "T",
    "TARGET",
    "TEST",
    "TOTAL",
    "TS",
    "TYPE",
    "VERSION",
    "WORKLOAD",
    "X",
    "Y",
    "YAML",
];

/// Returns whether a name is that of a variable that only the line uses.
pub(crate) fn is_variable_name(name: &str) -> bool {
    let is_upper_case =
        name.split('_').all(|word| UPPER_CASE_WORDS.contains(&word.trim_end_matches(|c: char| c.is_ascii_digit())));
    let starts_lower = name.starts_with(|char: char| char.is_ascii_lowercase());
    let is_lower_case =
        starts_lower && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    is_upper_case || (is_lower_case && !SPECIAL_NAMES.contains(&name) && !name.ends_with("_proxy"))
}

/// Returns the least kind of a text that the line gives.
pub(crate) fn kind_of_text(text: &str) -> TextKind {
    let is_number = !text.is_empty() && text.len() < 10 && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/@-".contains(&byte);
    let starts_plain = text.starts_with(|char: char| char.is_ascii_alphanumeric());
    match text {
        _ if is_number => TextKind::Number,
        _ if starts_plain && text.bytes().all(is_plain) && !has_flag_behind_separator(text) => TextKind::Name,
        _ => TextKind::Text,
    }
}

/// Returns whether what is left of a text becomes a flag when a filter cuts it at a separator.
pub(crate) fn has_flag_behind_separator(text: &str) -> bool {
    ["/-", ":-", "@-", ".-", "_-", ",-"].iter().any(|cut| text.contains(cut))
}

/// What is known about the value of a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VariableValue {
    Known(String),
    Unknown {
        kind: TextKind,
        /// How many words an unquoted expansion becomes.
        count: WordCount,
    },
}

impl VariableValue {
    fn join(&self, other: &Self) -> Self {
        if self == other {
            return self.clone();
        }
        let (kind, count) = self.kind_and_count();
        let (other_kind, other_count) = other.kind_and_count();
        Self::Unknown { kind: kind.max(other_kind), count: count.max(other_count) }
    }

    fn kind_and_count(&self) -> (TextKind, WordCount) {
        match self {
            Self::Unknown { kind, count } => (*kind, *count),
            Self::Known(text) if text.is_empty() => (TextKind::Name, WordCount::Any),
            Self::Known(text) => match kind_of_text(text) {
                TextKind::Text => (TextKind::Text, WordCount::Any),
                kind => (kind, WordCount::One),
            },
        }
    }

    pub(crate) fn kind(&self) -> TextKind {
        self.kind_and_count().0
    }
}

/// The variables at a place of the line. A variable that is missing may have any value of the environment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ShellVariables {
    values: BTreeMap<String, VariableValue>,
}

impl ShellVariables {
    pub(crate) fn value(&self, name: &str) -> Option<&VariableValue> {
        self.values.get(name)
    }

    /// Sets a variable, or a positional parameter.
    pub(crate) fn assign(&mut self, name: &str, value: VariableValue) {
        self.values.insert(name.to_owned(), value);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.values.remove(name);
    }

    /// Keeps what is true of both.
    pub(crate) fn join(&self, other: &Self) -> Self {
        let both = self.values.iter().filter_map(|(name, value)| {
            other.values.get(name).map(|other_value| (name.clone(), value.join(other_value)))
        });
        Self { values: both.collect() }
    }
}
