//! The notes of a day's usage: a line per record, of which the last one of a session counts.
//!
//! ```text
//! {"format":{"version":2,"writer":"0.2.0"},"crc":"…"}
//! {"session":"0190…","models":[…],"crc":"…"}
//! ```

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    disk_io,
    files::{FileStamp, create_private_folder, if_exists, unavailable},
    line_format::{FORMAT_VERSION, FormatRecord, LineError, seal_line, verify_checksum},
    usage_record::{SessionUsage, UnusableUsage},
};
use k8sops_core::{ModelUsage, SessionId, StoreError};

/// The notes of a day. All methods block.
#[derive(Debug)]
pub(super) struct UsageNotes {
    path: PathBuf,
    /// Open for writing once a note was written.
    file: Option<File>,
    /// The file, if it exists.
    stamp: Option<FileStamp>,
    /// The size of the lines that are whole. What is behind them is overwritten.
    end: u64,
    count: usize,
}

/// The first line.
#[derive(Serialize, Deserialize)]
struct NotesHeader {
    format: FormatRecord,
}

/// A record of a session's usage.
#[derive(Serialize, Deserialize)]
struct UsageNote<M> {
    session: SessionId,
    models: M,
}

/// A line as it was read.
#[derive(Deserialize)]
#[serde(untagged)]
enum NotesLine {
    Note(UsageNote<Vec<ModelUsage>>),
    Header(NotesHeader),
}

impl UsageNotes {
    /// Reads the notes of a file into `sessions`. Lines that were not on the disk when the machine failed are left out.
    pub(super) fn read(path: &Path, sessions: &mut SessionUsage) -> Result<Self, UnusableUsage> {
        let failed = |error: io::Error| UnusableUsage::Kept(unavailable(path, error));
        let mut notes = Self { path: path.to_owned(), file: None, stamp: None, end: 0, count: 0 };
        let Some(bytes) = if_exists(disk_io::read_file(path)).map_err(failed)? else { return Ok(notes) };
        let mut at = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            at += line.len();
            if !line.ends_with(b"\n") {
                break;
            }
            notes.end = at as u64;
            if line.contains(&0) {
                continue;
            }
            match parse_line(line).map_err(|error| UnusableUsage::from_line_error(path, line, error))? {
                NotesLine::Note(UsageNote { session, models }) => {
                    sessions.insert(session, models);
                    notes.count += 1;
                }
                NotesLine::Header(_) => {}
            }
        }
        notes.stamp = FileStamp::at_path(path).map_err(failed)?;
        Ok(notes)
    }

    /// The number of notes.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Whether the file is as it was read or written last.
    pub(super) fn is_current(&self) -> bool {
        FileStamp::at_path(&self.path).is_ok_and(|stamp| stamp == self.stamp)
    }

    /// Appends a note, without waiting for the disk. After an error the notes have to be read again.
    pub(super) fn append(&mut self, session: SessionId, models: &[ModelUsage]) -> Result<(), StoreError> {
        self.append_line(session, models).map_err(|error| unavailable(&self.path, error))
    }

    fn append_line(&mut self, session: SessionId, models: &[ModelUsage]) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(open_notes(&self.path, self.end)?),
        };
        let mut bytes = Vec::new();
        if self.end == 0 {
            bytes = seal_line(serde_json::to_vec(&NotesHeader { format: FormatRecord::current() })?);
        }
        bytes.extend(seal_line(serde_json::to_vec(&UsageNote { session, models })?));
        disk_io::write_at(file, &self.path, &bytes, self.end)?;
        self.end += bytes.len() as u64;
        self.count += 1;
        self.stamp = Some(FileStamp::from_metadata(&file.metadata()?));
        Ok(())
    }

    /// Removes the file.
    pub(super) fn remove(&mut self) -> Result<(), StoreError> {
        if_exists(fs::remove_file(&self.path)).map_err(|error| unavailable(&self.path, error))?;
        *self = Self { path: std::mem::take(&mut self.path), file: None, stamp: None, end: 0, count: 0 };
        Ok(())
    }
}

/// Opens a file for writing behind its first `end` bytes, and cuts off the rest.
fn open_notes(path: &Path, end: u64) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        create_private_folder(folder)?;
    }
    let options = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).clone();
    let file = disk_io::open_file(path, &options)?;
    file.set_len(end)?;
    Ok(file)
}

fn parse_line(line: &[u8]) -> Result<NotesLine, LineError> {
    verify_checksum(line.strip_suffix(b"\n").unwrap_or(line))?;
    let line = serde_json::from_slice::<NotesLine>(line)?;
    match &line {
        NotesLine::Header(header) if header.format.version > FORMAT_VERSION => {
            Err(LineError::NewerFormat { found: header.format.version })
        }
        _ => Ok(line),
    }
}
