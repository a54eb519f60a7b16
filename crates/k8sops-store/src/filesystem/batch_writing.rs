//! Writes a batch of the journal.

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    disk_io,
    files::{FileIdentity, create_private_file},
    journal_format::{JournalEntry, encode_batch, encode_header},
};

/// An open file of the journal.
#[derive(Debug, Clone)]
pub(super) struct JournalHandle {
    pub(super) file: Arc<File>,
    /// Which file is at its path as long as no other program has removed or replaced it.
    identity: FileIdentity,
}

impl JournalHandle {
    fn create(path: &Path) -> io::Result<Self> {
        let file = Arc::new(create_private_file(path)?);
        Ok(Self { file, identity: FileIdentity::at_path(path)? })
    }

    /// Opens the file again: a network file system may have been mounted or started again.
    pub(super) fn reopen(&self, path: &Path) -> io::Result<Self> {
        let file = Arc::new(disk_io::open_file(path, OpenOptions::new().read(true).write(true))?);
        Ok(Self { file, identity: self.identity })
    }

    /// Whether the file is still at its path, as far as that is known.
    pub(super) fn is_at_path(&self, path: &Path) -> bool {
        match FileIdentity::at_path(path) {
            Ok(found) => found == self.identity,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }
}

/// The file of the journal that is written to.
pub(super) struct BatchWriting<'a> {
    pub(super) path: PathBuf,
    pub(super) handle: Option<JournalHandle>,
    /// Where the batch starts.
    pub(super) end: u64,
    /// What a failed write may have left there.
    pub(super) failed_bytes: usize,
    pub(super) root: &'a Path,
}

impl BatchWriting<'_> {
    /// Writes a batch, which is on the disk when this returns, or overwrites what is left of it.
    pub(super) fn write_batch(&mut self, number: u64, entries: &[JournalEntry], lines: &[u8]) -> io::Result<()> {
        let is_new = self.handle.is_none();
        let handle = match &self.handle {
            Some(handle) => handle.clone(),
            None => JournalHandle::create(&self.path)?,
        };
        let file = &handle.file;
        if let Err(error) = self.overwrite_failed(file) {
            self.handle = handle.reopen(&self.path).ok().or(Some(handle));
            return Err(error);
        }
        if entries.is_empty() {
            return Ok(());
        }
        let mut bytes = if self.end == 0 { encode_header()? } else { Vec::new() };
        bytes.extend(encode_batch(number, entries, lines)?);
        let mut written =
            disk_io::write_at(file, &self.path, &bytes, self.end).and_then(|()| disk_io::sync_file(file, &self.path));
        if is_new && written.is_ok() {
            written = disk_io::sync_folder(self.root);
        }
        match written {
            Ok(()) => {
                self.handle = Some(handle);
                self.end += bytes.len() as u64;
                Ok(())
            }
            Err(error) if is_new => {
                // Syncing the folder again could succeed without having written the entry.
                let _ = std::fs::remove_file(&self.path);
                Err(error)
            }
            Err(error) => {
                self.failed_bytes = bytes.len();
                if self.overwrite_failed(file).is_err() {
                    // The handle may be stale.
                    self.handle = handle.reopen(&self.path).ok().or(Some(handle));
                }
                Err(error)
            }
        }
    }

    fn overwrite_failed(&mut self, file: &File) -> io::Result<()> {
        if self.failed_bytes > 0 {
            disk_io::write_at(file, &self.path, &vec![0; self.failed_bytes], self.end)?;
            disk_io::sync_file(file, &self.path)?;
            self.failed_bytes = 0;
        }
        Ok(())
    }
}
