//! What calls do to objects.

use crate::{preview::PreviewCall, release_commands::ReleaseCommand};

/// What a call does to objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObjectCommands {
    /// What is known, in the order in which it happens.
    pub known: Vec<ObjectCommand>,
    /// Commands of which it is not known what they change, as people read them.
    pub unknown: Vec<String>,
    /// A `||` of the line decides which of the commands run.
    pub has_alternatives: bool,
}

/// What one command does to objects. The calls in it only read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectCommand {
    /// A server-side dry run of the line prints the objects as they would be, as YAML.
    DryRunPrints {
        /// The dry run.
        dry_run: PreviewCall,
        /// What the line does: `apply`, `patch`, `set image`.
        verb: String,
    },
    /// Another line prints the objects that this one names, as they are, as YAML.
    ReadPrints {
        /// The line that reads.
        read: PreviewCall,
        /// What happens to each of the objects.
        change: ObjectCommandChange,
    },
    /// The command gets manifests as its input.
    Manifests {
        /// Where they come from.
        source: ManifestSource,
        /// What happens to the objects.
        verb: ManifestVerb,
        /// The namespace of objects whose manifest names none, if the line says it.
        namespace: Option<String>,
    },
    /// A program runs in a container.
    Exec {
        /// The namespace, if the line names it.
        namespace: Option<String>,
        /// The pod, or what selects one: `deploy/web`.
        pod: String,
        /// The program with its arguments.
        command: String,
    },
    /// A Helm release changes.
    Release(ReleaseCommand),
}

/// What a command line does to each of the objects that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectCommandChange {
    /// They are deleted, and what depends on them.
    Delete,
    /// They are deleted. What depends on them stays.
    DeleteAlone,
    /// They get this number of replicas.
    SetReplicas(i64),
    /// Their pods are replaced.
    Restart,
    /// They get the pod template of an earlier revision: of this one, or of the one before the current.
    RollBack(Option<i64>),
    /// Their rollout stops.
    Pause,
    /// Their rollout goes on.
    Resume,
    /// No new pods are scheduled on these nodes.
    Cordon,
    /// New pods are scheduled on these nodes again.
    Uncordon,
    /// No new pods are scheduled on these nodes, and their pods are evicted.
    Drain,
}

/// Where manifests come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestSource {
    /// The line holds them.
    Text(String),
    /// A line that only reads prints them.
    Printed(PreviewCall),
}

/// What a command does with manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestVerb {
    /// Objects are created, or merged with what the manifest says.
    Apply,
    /// The API server creates objects or merges them with what the manifest says, and removes what the same manager had set before.
    ApplyOnServer {
        /// The name under which the fields are set.
        field_manager: String,
    },
    /// Objects are created.
    Create,
    /// Objects become what the manifest says.
    Replace,
    /// Objects are deleted.
    Delete,
}
