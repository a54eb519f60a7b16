//! What is known about a text before it is read.

/// What a text is expected to contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ContentHint {
    /// Nothing is known.
    Any,
    /// Secret objects or a kubeconfig. A `data` mapping counts as that of a Secret even if its `kind` is cut off.
    Objects,
    /// Bare secret values and nothing else.
    Values,
}
