//! The format of a session's lines: its version, the checksum of a line, and why a line cannot be used.
//!
//! A line ends with the CRC-32 of what is before it: `…,"crc":"9ae0daaf"}`. The first line of a file, its checkpoints, and
//! the first line that another version writes have the version of the format, and which k8sops wrote them. Lines of
//! format 1 have neither.

use serde::{Deserialize, Serialize};

/// The format that this version writes, and the newest that it reads. It is raised when earlier versions cannot read
/// what is written.
pub(super) const FORMAT_VERSION: u32 = 2;

const CHECKSUM_START: &[u8] = b",\"crc\":\"";
const CHECKSUM_DIGITS: usize = 8;
const LINE_TAIL: &[u8] = b"\"}";
const FORMAT_START: &[u8] = b",\"format\":";
/// The smallest unit in which a disk writes.
const SECTOR_BYTES: u64 = 512;

/// The format of a line and of those after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FormatRecord {
    /// The version of the format.
    pub(super) version: u32,
    /// The version of k8sops that wrote it.
    pub(super) writer: String,
}

impl FormatRecord {
    /// The format that this process writes.
    pub(super) fn current() -> Self {
        Self { version: FORMAT_VERSION, writer: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

/// A line as far as every version understands it.
#[derive(Deserialize)]
struct LineEnvelope {
    #[serde(default)]
    format: Option<NamedFormat>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NamedFormat {
    Record(FormatRecord),
    /// In files of usage that an unreleased version wrote.
    Version(u32),
}

/// The format that a line names, even if nothing else of it is understood.
pub(super) fn named_format(line: &[u8]) -> Option<FormatRecord> {
    Some(match serde_json::from_slice::<LineEnvelope>(line).ok()?.format? {
        NamedFormat::Record(format) => format,
        NamedFormat::Version(version) => FormatRecord { version, writer: "of an unknown version".to_owned() },
    })
}

/// Why a line cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    #[error("this version does not understand it: {0}")]
    NotUnderstood(#[from] serde_json::Error),
    #[error("this version does not understand it: it is neither a commit, a command nor a checkpoint")]
    UnknownKind,
    #[error("its checksum is {found}, and not {expected} as it says: it was changed after it was written")]
    Checksum { found: String, expected: String },
    #[error("seq {seq} follows seq {last_seq}")]
    Gap { seq: u64, last_seq: u64 },
    #[error(
        "its format {found} is newer than format {FORMAT_VERSION}, the newest that this version reads; use the version that \
         wrote it, or a later one"
    )]
    NewerFormat { found: u32 },
    #[error("its line end is missing, although it is complete")]
    NoLineEnd,
    #[error(
        "{0}; the events before this checkpoint were not kept (MEMORY_SHALLOW): restore the file from a backup, or delete \
         the session"
    )]
    NotReplaceable(Box<LineError>),
}

impl LineError {
    /// Whether the line itself is damaged or not understood, and not the file as a whole.
    pub(super) fn is_of_line(&self) -> bool {
        matches!(self, Self::NotUnderstood(_) | Self::Checksum { .. })
    }
}

/// Appends the checksum to an encoded line without a line end.
pub(super) fn seal_line(mut bytes: Vec<u8>) -> Vec<u8> {
    // The closing brace comes after the checksum.
    bytes.pop();
    let checksum = checksum(&bytes);
    bytes.extend(CHECKSUM_START);
    bytes.extend(checksum.as_bytes());
    bytes.extend(LINE_TAIL);
    bytes.push(b'\n');
    bytes
}

/// Whether a line has its checksum and its line end.
pub(super) fn is_sealed(line: &[u8]) -> bool {
    let Some(at) = line.len().checked_sub(CHECKSUM_START.len() + CHECKSUM_DIGITS + LINE_TAIL.len() + 1) else {
        return false;
    };
    seal_line([&line[..at], b"}"].concat()) == line
}

/// Checks the checksum of a line without its line end, if it has one.
pub(super) fn verify_checksum(line: &[u8]) -> Result<(), LineError> {
    let Some(at) = line.len().checked_sub(CHECKSUM_START.len() + CHECKSUM_DIGITS + LINE_TAIL.len()) else {
        return Ok(());
    };
    let Some(digits) = line[at..].strip_prefix(CHECKSUM_START).and_then(|rest| rest.strip_suffix(LINE_TAIL)) else {
        return Ok(());
    };
    let found = checksum(&line[..at]);
    if found.as_bytes() == digits {
        return Ok(());
    }
    Err(LineError::Checksum { found, expected: String::from_utf8_lossy(digits).into_owned() })
}

/// Appends format, checksum and line end to an encoded JSON object, which is the content of a whole file.
pub(super) fn seal_record(mut object: Vec<u8>) -> Result<Vec<u8>, serde_json::Error> {
    object.pop();
    object.extend(FORMAT_START);
    serde_json::to_writer(&mut object, &FormatRecord::current())?;
    object.push(b'}');
    Ok(seal_line(object))
}

/// Checks checksum and format of what [`seal_record`] returned. A record of format 1 has neither.
pub(super) fn verify_record(bytes: &[u8]) -> Result<(), LineError> {
    verify_checksum(bytes.strip_suffix(b"\n").unwrap_or(bytes))?;
    match named_format(bytes) {
        Some(format) if format.version > FORMAT_VERSION => Err(LineError::NewerFormat { found: format.version }),
        _ => Ok(()),
    }
}

/// Whether a line ends with a format and a checksum, whatever its other content is.
pub(super) fn ends_with_format(line: &[u8]) -> bool {
    let Some(at) = line.len().checked_sub(CHECKSUM_START.len() + CHECKSUM_DIGITS + LINE_TAIL.len()) else {
        return false;
    };
    let Some(start) = line[..at].windows(FORMAT_START.len()).rposition(|part| part == FORMAT_START) else {
        return false;
    };
    line[at..].starts_with(CHECKSUM_START)
        && line.ends_with(LINE_TAIL)
        && serde_json::from_slice::<FormatRecord>(&line[start + FORMAT_START.len()..at]).is_ok()
}

/// The CRC-32 of some bytes, as lines have it.
pub(super) fn checksum(bytes: &[u8]) -> String {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    format!("{:08x}", crc.sum())
}

/// Whether a last line without a line end can be what an incomplete write left. A complete line that something else than
/// its line end follows was whole once.
pub(super) fn is_incomplete_write(tail: &[u8]) -> bool {
    let mut values = serde_json::Deserializer::from_slice(tail).into_iter::<serde::de::IgnoredAny>();
    match values.next() {
        Some(Ok(_)) => tail[values.byte_offset()..].iter().all(|byte| *byte == 0),
        _ => true,
    }
}

/// Whether a line that starts at this offset of its file has sectors that never reached the disk: they are zeros, which
/// no line contains. A machine that fails during a write leaves them, in front of later sectors that did.
pub(super) fn has_unwritten_sectors(line: &[u8], start: u64) -> bool {
    let is_sector_start = |at: usize| at == 0 || (start + at as u64).is_multiple_of(SECTOR_BYTES);
    let mut at = 0;
    while let Some(found) = line[at..].iter().position(|byte| *byte == 0) {
        let from = at + found;
        let to = line[from..].iter().position(|byte| *byte != 0).map_or(line.len(), |length| from + length);
        if is_sector_start(from) && is_sector_start(to) {
            return true;
        }
        at = to;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incomplete_writes_are_told_from_damage() {
        let line = seal_line(br#"{"seq":1,"commit":{"epoch":1,"events":[],"consumed":[]}}"#.to_vec());
        for length in 0..line.len() {
            assert!(is_incomplete_write(&line[..length]));
            assert!(is_incomplete_write(&[&line[..length], &[0; 20][..]].concat()));
        }
        let no_line_end = &line[..line.len() - 1];
        for other in [&b"\x0b"[..], b" {", b"{\"seq\":2}", b"\0\0x"] {
            assert!(!is_incomplete_write(&[no_line_end, other].concat()), "{other:?}");
        }
        let zeros = |before: usize, zeros: usize, after: usize| {
            [vec![b'x'; before], vec![0; zeros], vec![b'y'; after], b"\n".to_vec()].concat()
        };
        for (start, line, expected) in [
            (0, zeros(512, 512, 10), true),
            (100, zeros(412, 512, 0), true),
            (100, zeros(0, 412, 10), true),
            (100, zeros(0, 100, 10), false),
            (0, zeros(512, 511, 10), false),
            (0, zeros(10, 0, 10), false),
        ] {
            assert_eq!(has_unwritten_sectors(&line, start), expected, "{start}, {}", line.len());
        }
    }
}
