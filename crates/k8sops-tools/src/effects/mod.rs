//! What a tool call does to the world, by what is known here of kubectl, helm and argocd and of the servers that wrap
//! them.
//!
//! This is a gate: what is judged [`ToolEffect::Read`] runs without anybody's approval. So everything in here lists what is
//! known to be harmless and takes the rest as mutating: a verb, a flag, a shell construct, an argument that is not in a
//! table never makes a `Read`.
//!
//! ```text
//! tool + arguments ─┬─ servers   tools with typed arguments (mcp-server-kubernetes, argocd-mcp, …)
//!                   └─ carriers  tools that carry a command line: a string, or an argv
//!                         └─ lexer → line ─┬─ kubectl, helm, argocd   (flags: how their command lines are read)
//!                                          └─ filters                 what may stand behind a pipe
//! ```
//!
//! A line is not always read by a shell: some servers split it at spaces, or in the manner of `shlex`. Where the
//! readings could differ in what is run (a verb or `--dry-run` in quotes), the line is mutating.

mod argocd;
mod carriers;
mod filters;
mod flags;
mod helm;
mod kubectl;
mod lexer;
mod line;
mod preview;
mod secrets;
mod servers;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value};

use k8sops_core::ToolEffect;

/// What is known of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judged {
    /// What it does.
    pub effect: ToolEffect,
    /// Whether and how its output holds secret values.
    pub sensitive: Option<Sensitive>,
    /// Why, in words for a person.
    pub reason: String,
}

/// How an output holds secret values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sensitive {
    /// It holds Secret objects, or a kubeconfig: YAML, JSON, a description.
    Objects,
    /// It is made of bare secret values, with nothing around them that tells.
    Values,
}

impl Judged {
    fn new(effect: ToolEffect, reason: impl Into<String>) -> Self {
        Self { effect, sensitive: None, reason: reason.into() }
    }

    fn read(reason: impl Into<String>) -> Self {
        Self::new(ToolEffect::Read, reason)
    }

    fn mutating(reason: impl Into<String>) -> Self {
        Self::new(ToolEffect::Mutating, reason)
    }

    fn with(mut self, sensitive: Option<Sensitive>) -> Self {
        self.sensitive = self.sensitive.max(sensitive);
        self
    }

    /// Both happen: the worse effect, with its reason, and the worse of what the outputs hold.
    fn and(self, other: Self) -> Self {
        let sensitive = self.sensitive.max(other.sensitive);
        let worse = if rank(other.effect) > rank(self.effect) { other } else { self };
        Self { sensitive, ..worse }
    }
}

/// A call that only shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Preview {
    /// The tool, of the same server.
    pub tool: String,
    /// Its arguments.
    pub arguments: Map<String, Value>,
}

fn rank(effect: ToolEffect) -> u8 {
    match effect {
        ToolEffect::Read => 0,
        ToolEffect::Idempotent => 1,
        ToolEffect::Mutating => 2,
    }
}

/// Judges a call by the name of its tool and its arguments. `None`: nothing is known of such a tool, and whoever else
/// knows may decide. Names are known exactly: one that merely starts alike is not known.
pub(super) fn judge(tool: &str, arguments: &Map<String, Value>) -> Option<Judged> {
    servers::judge(tool, arguments).or_else(|| carriers::judge(tool, arguments))
}

/// The call that shows what this one would do: the same with a dry run, or a diff. It is itself judged to only read.
/// `None`: there is none, or nothing to show.
pub(super) fn preview(tool: &str, arguments: &Map<String, Value>) -> Option<Preview> {
    preview::of(tool, arguments)
}
