//! Opening the file of a trail.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Arc,
};

use super::{
    chain::{self, PreviousLine},
    errors::AuditError,
};

/// Bytes that are read from the end of a file to find its last record, which is far shorter.
const TAIL_BYTES: u64 = 64 * 1024;

/// A file that this process has locked for appending.
pub(super) struct OpenedTrail {
    pub(super) file: File,
    /// The hash of the last intact record, or [`chain::INITIAL_HASH`].
    pub(super) last_hash: String,
    pub(super) last_line: PreviousLine,
}

/// Opens a file for appending and locks it.
pub(super) fn open_trail_file(path: &Path) -> Result<OpenedTrail, AuditError> {
    let fault = |error: io::Error| AuditError::Open { path: path.to_owned(), source: Arc::new(error) };
    // Records name users, clusters and arguments.
    let opened = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path);
    // A pipe cannot be read: its trail starts empty.
    let mut file = opened.or_else(|_| OpenOptions::new().append(true).open(path)).map_err(fault)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(AuditError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => return Err(fault(error)),
    }
    if !file.metadata().is_ok_and(|data| data.is_file()) {
        let last_hash = chain::INITIAL_HASH.to_owned();
        return Ok(OpenedTrail { file, last_hash, last_line: PreviousLine::Whole });
    }
    let mut tail = read_tail(&mut file).map_err(fault)?;
    let mut torn = !tail.is_empty() && !tail.ends_with('\n');
    if torn && tail.lines().next_back().is_some_and(|line| chain::parse_line(line).is_some()) {
        // The record is intact and only its newline is missing.
        file.write_all(b"\n").map_err(fault)?;
        tail.push('\n');
        torn = false;
    }
    // Lines that are not records are left for `verify_trail` to report. The chain continues after the last record.
    let mut whole_lines = tail.split_inclusive('\n').filter(|line| line.ends_with('\n')).rev();
    let last = whole_lines.find_map(|line| chain::parse_line(line.trim_end()));
    Ok(OpenedTrail {
        file,
        last_hash: last.map_or_else(|| chain::INITIAL_HASH.to_owned(), |position| position.hash),
        last_line: if torn { PreviousLine::Torn } else { PreviousLine::Whole },
    })
}

fn read_tail(file: &mut File) -> io::Result<String> {
    let length = file.metadata()?.len();
    let mut tail = Vec::new();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    file.read_to_end(&mut tail)?;
    Ok(String::from_utf8_lossy(&tail).into_owned())
}

/// Whether the path still names the open file. It does not after the file was moved or deleted.
pub(super) fn is_same_file(path: &Path, file: &File) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (std::fs::metadata(path), file.metadata()) {
        (Ok(named), Ok(open)) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
        _ => false,
    }
}
