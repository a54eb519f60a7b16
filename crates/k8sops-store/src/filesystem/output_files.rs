//! Whole outputs of tool calls, one file each. They are written without waiting for the disk: a power failure loses nothing
//! but the output of a call.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
};

use parking_lot::Mutex;

use super::{
    files::{Durability, create_private_folder, if_exists, replace_file, sync_parent_folder, unavailable},
    layout::StoreLayout,
    trash::discard_folder,
};
use crate::output_limit::{count_outputs_to_drop, truncate_output};
use k8sops_core::{OutputPart, SessionId, StoreError, ToolCallId};

/// The files of tool outputs, and the deployment key. All methods block.
#[derive(Debug)]
pub(super) struct OutputFiles {
    layout: StoreLayout,
    /// Held while the deployment key is read or created, so that it is created once.
    key_lock: Mutex<()>,
}

impl OutputFiles {
    pub(super) fn new(layout: StoreLayout) -> Self {
        Self { layout, key_lock: Mutex::default() }
    }

    /// Saves the output of a call. The caller holds the session's lock, so that a concurrent deletion of the session leaves
    /// no output behind.
    pub(super) fn save_output(
        &self,
        session: SessionId,
        call: &ToolCallId,
        output: &str,
        session_limit: usize,
    ) -> Result<u64, StoreError> {
        let folder = self.layout.session_outputs(session);
        let failed = |error: io::Error| unavailable(&folder, error);
        create_private_folder(&folder).map_err(failed)?;
        let saved = truncate_output(output, session_limit);
        let mut others = Vec::new();
        for file in fs::read_dir(&folder).map_err(failed)? {
            let file = file.map_err(failed)?;
            let is_output = file.file_name().to_str().is_some_and(|name| name.parse::<ToolCallId>().is_ok());
            if !is_output {
                // What an interrupted write left.
                let _ = fs::remove_file(file.path());
            } else if file.file_name() != call.as_str() {
                let data = file.metadata().map_err(failed)?;
                others.push((data.modified().map_err(failed)?, file.file_name(), data.len()));
            }
        }
        others.sort();
        let sizes = others.iter().map(|(_, _, size)| *size);
        let dropped = count_outputs_to_drop(sizes, saved.len() as u64, session_limit as u64);
        for (_, name, _) in &others[..dropped] {
            fs::remove_file(folder.join(name)).map_err(failed)?;
        }
        let path = self.layout.output_file(session, call);
        replace_file(&path, saved.as_bytes(), Durability::Unsynced).map_err(failed)?;
        Ok(saved.len() as u64)
    }

    /// Reads at most `limit` bytes of an output from `offset` on.
    pub(super) fn read_output(
        &self,
        session: SessionId,
        call: &ToolCallId,
        offset: u64,
        limit: usize,
    ) -> Result<Option<OutputPart>, StoreError> {
        let path = self.layout.output_file(session, call);
        let failed = |error: io::Error| unavailable(&path, error);
        let Some(file) = if_exists(File::open(&path)).map_err(failed)? else { return Ok(None) };
        let total = file.metadata().map_err(failed)?.len();
        if total == 0 {
            // No output that is saved is empty: its content was not on the disk yet when the machine failed.
            return Ok(None);
        }
        let length = total.saturating_sub(offset).min(limit as u64);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(limit)];
        file.read_exact_at(&mut bytes, offset.min(total)).map_err(failed)?;
        Ok(Some(OutputPart { bytes, total }))
    }

    /// Deletes the outputs of a deleted session.
    pub(super) fn delete_session_outputs(&self, session: SessionId) {
        let folder = self.layout.session_outputs(session);
        if let Err(error) = discard_folder(&self.layout, &folder) {
            tracing::warn!(path = %folder.display(), %error, "cannot delete the outputs of a deleted session");
        }
    }

    /// Deletes the outputs of sessions that do not exist.
    pub(super) fn delete_stray_outputs(&self, sessions: &HashSet<SessionId>) {
        let folder = self.layout.outputs();
        let entries = if_exists(fs::read_dir(&folder)).unwrap_or_else(|error| {
            tracing::warn!(path = %folder.display(), %error, "outputs of deleted sessions cannot be listed");
            None
        });
        for entry in entries.into_iter().flatten().flatten() {
            let session = entry.file_name().to_str().and_then(|name| name.parse::<SessionId>().ok());
            if let Some(session) = session.filter(|session| !sessions.contains(session)) {
                self.delete_session_outputs(session);
            }
        }
    }

    /// The deployment key, which is created on the first call.
    pub(super) fn deployment_key(&self) -> Result<[u8; 32], StoreError> {
        let _guard = self.key_lock.lock();
        let path = self.layout.key_file();
        let failed = |error: io::Error| unavailable(&path, error);
        if let Some(key) = if_exists(fs::read(&path)).map_err(failed)? {
            let wrong_length = |_| StoreError::FileDamaged(format!("{} is not 32 bytes long", path.display()).into());
            return key.try_into().map_err(wrong_length);
        }
        let key = k8sops_core::random_key();
        replace_file(&path, &key, Durability::Synced).map_err(failed)?;
        sync_parent_folder(&path)?;
        Ok(key)
    }
}
