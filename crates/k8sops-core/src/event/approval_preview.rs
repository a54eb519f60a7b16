//! What an approval request says about the call: the objects that it touches, what goes with them, and the form of its preview.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An object that a tool call touches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AffectedObject {
    /// The API version, such as `apps/v1`; empty if it is not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub api_version: String,
    /// The kind, such as `Deployment`.
    pub kind: String,
    /// The namespace; absent for an object of the whole cluster, or if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The name.
    pub name: String,
    /// What happens to it: `create`, `update`, `scale`, `restart`, `rollback`, `delete`, `exec`, `install`, `upgrade` or
    /// `uninstall`.
    pub verb: String,
    /// The uid of the object when the preview was made; absent if there was no such object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The resource version of the object when the preview was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

/// Objects that a tool call does not name and that go with those it names, such as the pods of a deleted Deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DependentObjects {
    /// What they are, such as `pods of Deployment shop/checkout`.
    pub what: String,
    /// How many there are.
    pub count: u64,
    /// The names of the first of them.
    pub names: Vec<String>,
}

/// How the preview of a call was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PreviewKind {
    /// A unified diff of the objects, or of the manifests and values of a release: as they are, and as they would be.
    Diff,
    /// What a dry run of the call printed.
    DryRun,
    /// The command that would run in a container.
    Command,
}

/// The form of the preview of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PreviewDetail {
    /// How the preview was made.
    pub kind: PreviewKind,
    /// Lines of the preview that `preview` leaves out. `GET /v1/sessions/{session_id}/approvals/{approval_id}/preview` returns
    /// all of them.
    pub lines_omitted: u64,
    /// Fingerprint of what the preview shows: the uids of the objects and the lines that change. The approval lapses if it is
    /// another one directly before the call. Absent if the preview cannot be compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}
