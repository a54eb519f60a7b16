//! The result of a classification.

use std::fmt;

/// Effect of a command or call on the cluster, from the most harmless to the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EffectClass {
    /// It changes nothing.
    Read,
    /// It changes something, and doing it twice has the same effect as doing it once.
    Idempotent,
    /// It may change anything. This is the class of everything that is not known to be harmless.
    Mutating,
}

impl fmt::Display for EffectClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Idempotent => "idempotent",
            Self::Mutating => "mutating",
        })
    }
}

/// How an output may contain secret values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SensitiveOutput {
    /// It may contain Secret objects or a kubeconfig, as YAML, JSON or a description: names around the values show where
    /// they are.
    Objects,
    /// It may consist of bare secret values, with nothing around them that shows what they are.
    Values,
}

/// What is known about a command or call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classification {
    /// Effect on the cluster.
    pub effect: EffectClass,
    /// How the output may contain secret values; `None` if nothing suggests that it does.
    pub sensitive_output: Option<SensitiveOutput>,
    /// Why, for a person to read.
    pub reason: String,
}

impl Classification {
    pub(crate) fn new(effect: EffectClass, reason: impl Into<String>) -> Self {
        Self { effect, sensitive_output: None, reason: reason.into() }
    }

    pub(crate) fn read(reason: impl Into<String>) -> Self {
        Self::new(EffectClass::Read, reason)
    }

    pub(crate) fn mutating(reason: impl Into<String>) -> Self {
        Self::new(EffectClass::Mutating, reason)
    }

    /// Adds what the output may contain. The more sensitive of both counts.
    pub(crate) fn with_sensitive_output(mut self, sensitive: Option<SensitiveOutput>) -> Self {
        self.sensitive_output = self.sensitive_output.max(sensitive);
        self
    }

    /// Combines two commands that both run: the worse effect with its reason, and the more sensitive output.
    pub(crate) fn combine(self, other: Self) -> Self {
        let sensitive_output = self.sensitive_output.max(other.sensitive_output);
        let worse = if other.effect > self.effect { other } else { self };
        Self { sensitive_output, ..worse }
    }
}

/// What is known about one command of a line.
#[derive(Debug)]
pub(crate) struct CommandClass {
    pub(crate) classification: Classification,
    /// It is harmless only because of a `--dry-run`.
    pub(crate) is_dry_run: bool,
    /// The output is a table without values, also after a filter.
    pub(crate) is_table: bool,
}

impl From<Classification> for CommandClass {
    fn from(classification: Classification) -> Self {
        Self { classification, is_dry_run: false, is_table: false }
    }
}
