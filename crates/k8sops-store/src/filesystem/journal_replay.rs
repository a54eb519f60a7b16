//! Writes the lines of the journal to the sessions' files, as after a power failure.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::{
    disk_io,
    files::{if_exists, sync_folder, unavailable},
    journal_format::{FOLLOWED_BYTES, JournalEntry, decode_batches},
    layout::StoreLayout,
    line_damage::damaged_record,
    line_format::checksum,
};
use k8sops_core::StoreError;

/// Brings the sessions' files to where the journal of an earlier process is, and removes the journal.
///
/// # Errors
/// `Unavailable` if a file cannot be read or written, and `FileDamaged` if a newer version wrote the journal.
pub(super) fn replay_journal(layout: &StoreLayout) -> Result<(), StoreError> {
    let mut contents = Vec::new();
    for path in layout.journal_files() {
        let bytes = if_exists(disk_io::read_file(&path)).map_err(|error| unavailable(&path, error))?;
        contents.extend(bytes.map(|bytes| (path, bytes)));
    }
    let mut batches = Vec::new();
    for (path, bytes) in &contents {
        let decoded = decode_batches(bytes).map_err(|(format, error)| damaged_record(path, Some(&format), error))?;
        batches.extend(decoded);
    }
    batches.sort_by_key(|batch| batch.number);
    let mut replay = JournalReplay::new(layout);
    for (entry, lines) in batches.iter().flat_map(|batch| &batch.entries) {
        replay.write_lines(entry, lines)?;
    }
    replay.sync_files()?;
    for (path, _) in &contents {
        disk_io::remove_file(path).map_err(|error| unavailable(path, error))?;
    }
    if contents.is_empty() { Ok(()) } else { sync_folder(layout.root()) }
}

/// Lines that are written to the sessions' files.
pub(super) struct JournalReplay<'a> {
    layout: &'a StoreLayout,
    /// `None` for a session that was deleted.
    files: BTreeMap<PathBuf, Option<File>>,
}

impl<'a> JournalReplay<'a> {
    pub(super) fn new(layout: &'a StoreLayout) -> Self {
        Self { layout, files: BTreeMap::new() }
    }

    /// Writes lines to their session's file, also if it has them: that may be so in the memory of the kernel alone. A file
    /// that is not the one that they were written to is left as it is.
    pub(super) fn write_lines(&mut self, entry: &JournalEntry, lines: &[u8]) -> Result<(), StoreError> {
        let path = self.layout.session_file(&entry.user, entry.session);
        let failed = |error: io::Error| unavailable(&path, error);
        let file = match self.files.entry(path.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                let options = OpenOptions::new().read(true).write(true).clone();
                new.insert(if_exists(disk_io::open_file(&path, &options)).map_err(failed)?)
            }
        };
        let Some(file) = file else { return Ok(()) };
        if !follows(file, entry).map_err(failed)? {
            tracing::info!(path = %path.display(), offset = entry.offset, "file was replaced, lines of the journal left out");
            return Ok(());
        }
        disk_io::write_at(file, &path, lines, entry.offset).map_err(failed)
    }

    /// Waits until the files are on the disk.
    pub(super) fn sync_files(self) -> Result<(), StoreError> {
        for (path, file) in self.files {
            if let Some(file) = file {
                disk_io::sync_file(&file, &path).map_err(|error| unavailable(&path, error))?;
            }
        }
        Ok(())
    }
}

/// Whether a file has before the lines what it had when they were written.
fn follows(file: &File, entry: &JournalEntry) -> io::Result<bool> {
    Ok(file.metadata()?.len() >= entry.offset && checksum_before(file, entry.offset)? == entry.follows)
}

/// The checksum of the bytes before an offset, see [`JournalEntry::follows`].
pub(super) fn checksum_before(file: &File, offset: u64) -> io::Result<String> {
    let length = usize::try_from(offset).unwrap_or(usize::MAX).min(FOLLOWED_BYTES);
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset - length as u64)?;
    Ok(checksum(&bytes))
}

/// Writes the lines of one file of the journal again.
pub(super) fn replay_journal_file(layout: &StoreLayout, path: &Path) -> Result<(), StoreError> {
    let bytes = disk_io::read_file(path).map_err(|error| unavailable(path, error))?;
    let batches = decode_batches(&bytes).map_err(|(format, error)| damaged_record(path, Some(&format), error))?;
    let mut replay = JournalReplay::new(layout);
    for (entry, lines) in batches.iter().flat_map(|batch| &batch.entries) {
        replay.write_lines(entry, lines)?;
    }
    replay.sync_files()
}
