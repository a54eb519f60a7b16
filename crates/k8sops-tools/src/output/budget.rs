//! The limits of an output.

use k8sops_models::tokens;

/// Bytes of a token, on average over the outputs of clusters. It is a first estimate, which counting then corrects.
const BYTES_PER_TOKEN: usize = 3;

/// Most tokens and bytes of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutputBudget {
    pub(crate) tokens: usize,
    pub(crate) bytes: usize,
}

impl OutputBudget {
    /// Returns whether a text is within the budget.
    pub(super) fn allows(self, text: &str) -> bool {
        text.len() <= self.bytes && tokens::fits_within(text, self.tokens)
    }

    /// Estimates the bytes that the budget allows.
    pub(super) fn estimate_bytes(self) -> usize {
        self.bytes.min(self.tokens.saturating_mul(BYTES_PER_TOKEN))
    }
}
