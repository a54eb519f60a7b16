//! Whole outputs of tool calls: `ROOT/outputs/SESSION_ID/TOOL_CALL_ID`, each as it came. Written without waiting for the
//! disk: an output that a power cut takes is one that can be asked for again.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use async_trait::async_trait;

use super::{FilesystemStore, Shared, blocking, log_file::unavailable};
use crate::outputs::{beginning, dropped};
use k8sops_core::{OutputPart, OutputStore, SessionId, StoreError, ToolCallId};

impl Shared {
    pub(super) fn drop_outputs(&self, session: SessionId) {
        let folder = self.root.join("outputs").join(session.to_string());
        if let Err(error) = fs::remove_dir_all(&folder)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %folder.display(), %error, "outputs of a deleted session are left");
        }
    }

    fn keep(&self, session: SessionId, call: &ToolCallId, output: &str, room: usize) -> Result<u64, StoreError> {
        // Under the session's lock, so that a deletion in between leaves nothing behind.
        self.with(session, |shared, _| {
            let folder = shared.root.join("outputs").join(session.to_string());
            let failed = |error: io::Error| unavailable(&folder, error);
            DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed)?;
            let kept = beginning(output, room);
            let mut others = Vec::new();
            for file in fs::read_dir(&folder).map_err(failed)? {
                let file = file.map_err(failed)?;
                if file.file_name() != call.as_str() {
                    let data = file.metadata().map_err(failed)?;
                    others.push((data.modified().map_err(failed)?, file.file_name(), data.len()));
                }
            }
            others.sort();
            let gone = dropped(others.iter().map(|(_, _, size)| *size), kept.len() as u64, room as u64);
            for (_, name, _) in &others[..gone] {
                fs::remove_file(folder.join(name)).map_err(failed)?;
            }
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            let written = options.open(folder.join(call.as_str())).and_then(|mut file| file.write_all(kept.as_bytes()));
            written.map_err(failed)?;
            Ok(kept.len() as u64)
        })
    }

    fn part(
        &self,
        session: SessionId,
        call: &ToolCallId,
        offset: u64,
        limit: usize,
    ) -> Result<Option<OutputPart>, StoreError> {
        let path = self.root.join("outputs").join(session.to_string()).join(call.as_str());
        let failed = |error: io::Error| unavailable(&path, error);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(failed)?,
        };
        let total = file.metadata().map_err(failed)?.len();
        let length = total.saturating_sub(offset).min(limit as u64);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(limit)];
        file.read_exact_at(&mut bytes, offset.min(total)).map_err(failed)?;
        Ok(Some(OutputPart { bytes, total }))
    }

    fn key(&self) -> Result<[u8; 32], StoreError> {
        let path = self.root.join("key");
        let failed = |error: io::Error| unavailable(&path, error);
        match fs::read(&path) {
            Ok(key) => key
                .try_into()
                .map_err(|_| StoreError::Corrupt(format!("{} is not 32 bytes long", path.display()).into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = k8sops_core::random_key();
                let new = path.with_extension("new");
                let mut file = OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(0o600)
                    .open(&new)
                    .map_err(failed)?;
                file.write_all(&key).and_then(|()| file.sync_all()).map_err(failed)?;
                fs::rename(&new, &path).map_err(failed)?;
                super::sync_folder_of(&path)?;
                Ok(key)
            }
            Err(error) => Err(failed(error)),
        }
    }
}

/// Clears away the outputs of sessions that are not there.
pub(super) fn clear_strays<T>(root: &Path, known: &HashMap<SessionId, T>) -> io::Result<()> {
    let folder = root.join("outputs");
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let session = entry.file_name().to_str().and_then(|name| name.parse::<SessionId>().ok());
        if session.is_some_and(|session| !known.contains_key(&session)) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

#[async_trait]
impl OutputStore for FilesystemStore {
    async fn deployment_key(&self) -> Result<[u8; 32], StoreError> {
        let shared = self.0.clone();
        blocking(move || {
            // One at a time: the first makes it.
            let _one = shared.index();
            shared.key()
        })
        .await
    }

    async fn save_output(
        &self,
        session: SessionId,
        call: &ToolCallId,
        output: Arc<str>,
        room: usize,
    ) -> Result<u64, StoreError> {
        let (shared, call) = (self.0.clone(), call.clone());
        blocking(move || shared.keep(session, &call, &output, room)).await
    }

    async fn read_output(
        &self,
        session: SessionId,
        call: &ToolCallId,
        offset: u64,
        limit: usize,
    ) -> Result<Option<OutputPart>, StoreError> {
        let (shared, call) = (self.0.clone(), call.clone());
        blocking(move || shared.part(session, &call, offset, limit)).await
    }
}
