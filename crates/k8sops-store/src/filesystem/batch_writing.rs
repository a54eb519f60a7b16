//! Writes a batch of the journal.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    disk_io,
    files::{create_private_file, sync_folder},
    journal_format::{JournalEntry, encode_batch, encode_header},
};

/// The file of the journal that is written to.
pub(super) struct BatchWriting<'a> {
    pub(super) path: PathBuf,
    pub(super) file: Option<Arc<File>>,
    /// Where the batch starts.
    pub(super) end: u64,
    /// What a failed write may have left there.
    pub(super) failed_bytes: usize,
    pub(super) root: &'a Path,
}

impl BatchWriting<'_> {
    /// Writes a batch, which is on the disk when this returns, or overwrites what is left of it.
    pub(super) fn write_batch(&mut self, number: u64, entries: &[JournalEntry], lines: &[u8]) -> io::Result<()> {
        let is_new = self.file.is_none();
        let file = match &self.file {
            Some(file) => file.clone(),
            None => Arc::new(create_private_file(&self.path)?),
        };
        self.overwrite_failed(&file)?;
        if entries.is_empty() {
            return Ok(());
        }
        let mut bytes = if self.end == 0 { encode_header()? } else { Vec::new() };
        bytes.extend(encode_batch(number, entries, lines)?);
        let mut written =
            disk_io::write_at(&file, &self.path, &bytes, self.end).and_then(|()| disk_io::sync_file(&file, &self.path));
        if is_new && written.is_ok() {
            written = sync_folder(self.root).map_err(|error| io::Error::other(error.to_string()));
        }
        match written {
            Ok(()) => {
                self.file = Some(file);
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
                let _ = self.overwrite_failed(&file);
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
