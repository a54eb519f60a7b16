//! The error of a line or a record that cannot be used: where it is, and which version wrote it.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use super::line_format::{FormatRecord, LineError, named_format};
use k8sops_core::{BackendError, StoreError};

const BLOCK_BYTES: usize = 64 * 1024;
/// How a line that names its format contains it.
const FORMAT_NAME: &[u8] = b"\"format\":{";

/// The error of a line that starts at the offset `start` and cannot be used. The file is read up to this line.
pub(super) fn damaged_line(file: &File, path: &Path, start: u64, error: LineError) -> StoreError {
    StoreError::Corrupt(describe_damage(file, path, start, error))
}

/// Says which line cannot be used, where it is, and which version wrote it.
pub(super) fn describe_damage(file: &File, path: &Path, start: u64, error: LineError) -> BackendError {
    let (line, writer) = match locate_line(file, start) {
        Ok(LineLocation { number, format }) => (number.to_string(), describe_writer(format.as_ref())),
        Err(_) => ("?".to_owned(), "an unknown version".to_owned()),
    };
    BackendError::caused_by(format!("{} line {line} at byte {start}, written by {writer}", path.display()), error)
}

/// The error of a file that is one record and cannot be used. `format` is the one that it names.
pub(super) fn damaged_record(path: &Path, format: Option<&FormatRecord>, error: LineError) -> StoreError {
    let place = format!("{}, written by {}", path.display(), describe_writer(format));
    StoreError::FileDamaged(BackendError::caused_by(place, error))
}

fn describe_writer(format: Option<&FormatRecord>) -> String {
    match format {
        Some(format) => format!("k8sops {} in format {}", format.writer, format.version),
        None => "an earlier k8sops in format 1".to_owned(),
    }
}

struct LineLocation {
    /// The number of the line, from 1 on.
    number: u64,
    /// The format that the line, or the nearest line before it, names.
    format: Option<FormatRecord>,
}

fn locate_line(file: &File, start: u64) -> io::Result<LineLocation> {
    let mut number = 1;
    let mut format = None;
    let mut line = Vec::new();
    let mut block = vec![0; BLOCK_BYTES];
    let mut at = 0;
    loop {
        let length = file.read_at(&mut block, at)?;
        for (index, byte) in block[..length].iter().enumerate() {
            if *byte != b'\n' {
                line.push(*byte);
                continue;
            }
            format = line_format(&line).or(format);
            line.clear();
            if at + index as u64 >= start {
                return Ok(LineLocation { number, format });
            }
            number += 1;
        }
        at += length as u64;
        if length == 0 {
            return Ok(LineLocation { number, format: line_format(&line).or(format) });
        }
    }
}

fn line_format(line: &[u8]) -> Option<FormatRecord> {
    let is_named = line.windows(FORMAT_NAME.len()).any(|part| part == FORMAT_NAME);
    is_named.then(|| named_format(line)).flatten()
}
