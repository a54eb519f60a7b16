//! What the files of usage hold, and why one of them cannot be used.

use std::{collections::BTreeMap, path::Path};

use super::{
    line_damage::damaged_record,
    line_format::{LineError, named_format},
};
use k8sops_core::{ModelUsage, SessionId, StoreError};

/// The usage of each session.
pub(super) type SessionUsage = BTreeMap<SessionId, Vec<ModelUsage>>;

/// Why a file cannot be used.
pub(super) enum UnusableUsage {
    /// It is kept for its repair, and another one is started.
    Damaged(StoreError),
    /// A later version wrote it, or it cannot be read now: it stays where it is.
    Kept(StoreError),
}

impl UnusableUsage {
    /// The error of a file with this content.
    pub(super) fn from_line_error(path: &Path, bytes: &[u8], error: LineError) -> Self {
        let is_newer = matches!(error, LineError::NewerFormat { .. });
        let error = damaged_record(path, named_format(bytes).as_ref(), error);
        if is_newer { Self::Kept(error) } else { Self::Damaged(error) }
    }
}

impl From<UnusableUsage> for StoreError {
    fn from((UnusableUsage::Damaged(error) | UnusableUsage::Kept(error)): UnusableUsage) -> Self {
        error
    }
}
