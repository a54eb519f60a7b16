//! Whole outputs of tool calls, one file each. They are written without waiting for the disk: a power failure loses nothing
//! but the output of a call. The first line of a file names its format, and what follows is the output. In format 1 the whole
//! file is the output, under a name without an extension.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::{
    disk_io,
    files::{
        Durability, REPLACEMENT_EXTENSION, create_private_folder, if_exists, replace_file, sync_parent_folder,
        unavailable,
    },
    layout::{OUTPUT_EXTENSION, StoreLayout},
    line_damage::damaged_record,
    line_format::{FORMAT_VERSION, FormatRecord, LineError, named_format},
    trash::discard_folder,
};
use crate::output_limit::{count_outputs_to_drop, truncate_output};
use k8sops_core::{OutputPart, SessionId, StoreError, ToolCallId};

/// Upper bound of a header's size.
const MAX_HEADER_BYTES: usize = 1024;

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
        let header = encode_header().map_err(|error| failed(error.into()))?;
        let mut others = Vec::new();
        for file in fs::read_dir(&folder).map_err(failed)? {
            let file = file.map_err(failed)?;
            let name = file.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.ends_with(REPLACEMENT_EXTENSION) {
                // What an interrupted write left.
                let _ = fs::remove_file(file.path());
                continue;
            }
            let output = parse_name(name, header.len() as u64);
            if let Some((_, header_bytes)) = output.filter(|(other, _)| other != call) {
                let data = file.metadata().map_err(failed)?;
                let bytes = data.len().saturating_sub(header_bytes);
                others.push((data.modified().map_err(failed)?, name.to_owned(), bytes));
            }
        }
        others.sort();
        let sizes = others.iter().map(|(_, _, size)| *size);
        let dropped = count_outputs_to_drop(sizes, saved.len() as u64, session_limit as u64);
        for (_, name, _) in &others[..dropped] {
            fs::remove_file(folder.join(name)).map_err(failed)?;
        }
        let path = self.layout.output_file(session, call);
        let bytes = [header.as_slice(), saved.as_bytes()].concat();
        replace_file(&path, &bytes, Durability::Unsynced).map_err(failed)?;
        if_exists(fs::remove_file(self.layout.old_output_file(session, call))).map_err(failed)?;
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
        let mut path = self.layout.output_file(session, call);
        let mut file = open_if_exists(&path)?;
        let is_old = file.is_none();
        if is_old {
            path = self.layout.old_output_file(session, call);
            file = open_if_exists(&path)?;
        }
        let Some(file) = file else { return Ok(None) };
        let failed = |error: io::Error| unavailable(&path, error);
        let start = if is_old { Some(0) } else { read_header(&file, &path)? };
        let total = file.metadata().map_err(failed)?.len().saturating_sub(start.unwrap_or(0));
        // No output that is saved is empty: its content was not on the disk yet when the machine failed.
        let Some(start) = start.filter(|_| total > 0) else { return Ok(None) };
        let length = total.saturating_sub(offset).min(limit as u64);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(limit)];
        file.read_exact_at(&mut bytes, start + offset.min(total)).map_err(failed)?;
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
        if let Some(key) = if_exists(disk_io::read_file(&path)).map_err(failed)? {
            let wrong_length = |_| StoreError::FileDamaged(format!("{} is not 32 bytes long", path.display()).into());
            return key.try_into().map_err(wrong_length);
        }
        let key = k8sops_core::random_key();
        replace_file(&path, &key, Durability::Synced).map_err(failed)?;
        // A key that is not on the disk must not be found by the next caller.
        sync_parent_folder(&path).inspect_err(|_| drop(fs::remove_file(&path)))?;
        Ok(key)
    }
}

/// The first line of a file.
#[derive(Serialize, Deserialize)]
struct OutputHeader {
    format: FormatRecord,
}

fn encode_header() -> Result<Vec<u8>, serde_json::Error> {
    let mut header = serde_json::to_vec(&OutputHeader { format: FormatRecord::current() })?;
    header.push(b'\n');
    Ok(header)
}

/// The size of the header of a file; `None` if it was not on the disk yet when the machine failed.
fn read_header(file: &File, path: &Path) -> Result<Option<u64>, StoreError> {
    let mut head = vec![0; MAX_HEADER_BYTES];
    let length = file.read_at(&mut head, 0).map_err(|error| unavailable(path, error))?;
    head.truncate(length);
    if head.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let end = head.iter().position(|byte| *byte == b'\n').map_or(head.len(), |at| at + 1);
    let found = match serde_json::from_slice::<OutputHeader>(&head[..end]) {
        Ok(OutputHeader { format }) if format.version <= FORMAT_VERSION => return Ok(Some(end as u64)),
        Ok(OutputHeader { format }) => LineError::NewerFormat { found: format.version },
        Err(error) => error.into(),
    };
    Err(damaged_record(path, named_format(&head[..end]).as_ref(), found))
}

/// The call whose output a file is, and the size of its header.
fn parse_name(name: &str, header_bytes: u64) -> Option<(ToolCallId, u64)> {
    match name.strip_suffix(OUTPUT_EXTENSION) {
        Some(call) => Some((call.parse().ok()?, header_bytes)),
        None => Some((name.parse().ok()?, 0)),
    }
}

fn open_if_exists(path: &Path) -> Result<Option<File>, StoreError> {
    if_exists(disk_io::open_to_read(path)).map_err(|error| unavailable(path, error))
}
