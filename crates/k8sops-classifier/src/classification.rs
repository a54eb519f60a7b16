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

/// What a command or call reaches apart from the objects of the cluster, from the most harmless to the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerReach {
    /// Nothing.
    Cluster,
    /// A chart below the working directory of the tool, and values files that belong to it.
    Chart,
    /// Manifests, charts or values files anywhere on the machine of the tool.
    Manifests,
    /// Any file of the machine of the tool, as it is: a key, a token, the environment of a process.
    ServerFiles,
    /// The state of the server's process: which cluster, context or identity the calls after it use, also those of others.
    ServerState,
}

/// What is known about a command or call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classification {
    /// Effect on the cluster.
    pub effect: EffectClass,
    /// How the output may contain secret values; `None` if nothing suggests that it does.
    pub sensitive_output: Option<SensitiveOutput>,
    /// What it reaches apart from the cluster. A call that reaches further than [`ServerReach::Chart`] is
    /// [`EffectClass::Mutating`], even if it changes nothing.
    pub reach: ServerReach,
    /// Why, for a person to read.
    pub reason: String,
}

impl Classification {
    pub(crate) fn new(effect: EffectClass, reason: impl Into<String>) -> Self {
        Self { effect, sensitive_output: None, reach: ServerReach::Cluster, reason: reason.into() }
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

    /// Adds what the call reaches. The reason is only used for a reach that is greater than before.
    pub(crate) fn with_reach(mut self, reach: ServerReach, reason: impl FnOnce() -> String) -> Self {
        if reach > self.reach {
            self.reach = reach;
            if self.effect == EffectClass::Read {
                self.reason = reason();
            }
        }
        self
    }

    /// Combines two commands that both run: the worse effect with its reason, and the greater reach and the more sensitive
    /// output of both.
    pub(crate) fn combine(self, other: Self) -> Self {
        let sensitive_output = self.sensitive_output.max(other.sensitive_output);
        let reach = self.reach.max(other.reach);
        let worse = if (other.effect, other.reach) > (self.effect, self.reach) { other } else { self };
        Self { sensitive_output, reach, ..worse }
    }

    /// Whether nothing speaks against running the call without a question, if it may read what `most` names.
    pub(crate) fn is_read_within(&self, most: ServerReach) -> bool {
        self.effect == EffectClass::Read && self.reach <= most
    }

    /// Makes a call that reaches beyond the cluster a mutating one: the tool's machine is not read unasked.
    pub(crate) fn with_reach_in_effect(mut self) -> Self {
        if self.reach > ServerReach::Chart {
            self.effect = EffectClass::Mutating;
        }
        self
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
