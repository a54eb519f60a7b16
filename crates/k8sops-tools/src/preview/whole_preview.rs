//! The preview of a call before it is fitted into an approval request.

use k8sops_core::{AffectedObject, DependentObjects, PreviewKind};

/// What is known of a call before it runs.
#[derive(Debug, Default)]
pub(crate) struct WholePreview {
    pub(crate) summary: String,
    pub(crate) objects: Vec<AffectedObject>,
    pub(crate) dependents: Vec<DependentObjects>,
    pub(crate) body: Option<PreviewBody>,
}

/// The text of a preview.
#[derive(Debug)]
pub(crate) struct PreviewBody {
    pub(crate) kind: PreviewKind,
    pub(crate) text: String,
    /// As [`k8sops_core::PreviewDetail::digest`].
    pub(crate) digest: Option<String>,
}
