//! The files of the journal: a first line that names the format, and batches of lines of sessions' files.
//!
//! ```text
//! {"format":{"version":2,"writer":"0.2.0"},"crc":"…"}
//! {"batch":7,"lines_crc":"…","lines":[{"user":"anna","session":"0190…","offset":512,"bytes":300,"follows":"…"}],"crc":"…"}
//! the lines, one after the other
//! ```
//!
//! Behind the last batch are zeros, or what is left of older batches, whose numbers are smaller.

use serde::{Deserialize, Serialize};

use super::line_format::{FORMAT_VERSION, FormatRecord, LineError, checksum, is_sealed, seal_line};
use k8sops_core::{SessionId, UserId};

/// How many bytes before a line are compared when it is written again.
pub(super) const FOLLOWED_BYTES: usize = 64;

/// Where lines of a batch belong.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct JournalEntry {
    pub(super) user: UserId,
    pub(super) session: SessionId,
    /// Where they start in the session's file.
    pub(super) offset: u64,
    /// Their size.
    pub(super) bytes: usize,
    /// The checksum of the bytes before them, at most [`FOLLOWED_BYTES`]. A file with other bytes is not the one that they
    /// were written to.
    pub(super) follows: String,
}

/// A batch that was read.
#[derive(Debug)]
pub(super) struct JournalBatch<'a> {
    pub(super) number: u64,
    pub(super) entries: Vec<(JournalEntry, &'a [u8])>,
}

#[derive(Serialize, Deserialize)]
struct JournalHeader {
    format: FormatRecord,
}

#[derive(Serialize, Deserialize)]
struct BatchHeader<L> {
    batch: u64,
    lines_crc: String,
    lines: L,
}

/// The first line of a file.
pub(super) fn encode_header() -> Result<Vec<u8>, serde_json::Error> {
    Ok(seal_line(serde_json::to_vec(&JournalHeader { format: FormatRecord::current() })?))
}

/// A batch of lines, as it is written.
pub(super) fn encode_batch(batch: u64, entries: &[JournalEntry], lines: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let header = BatchHeader { batch, lines_crc: checksum(lines), lines: entries };
    let mut bytes = seal_line(serde_json::to_vec(&header)?);
    bytes.extend(lines);
    Ok(bytes)
}

/// The batches of a file that are whole, in their order.
///
/// # Errors
/// `NewerFormat`, with the version that wrote the file.
pub(super) fn decode_batches(bytes: &[u8]) -> Result<Vec<JournalBatch<'_>>, (FormatRecord, LineError)> {
    let mut batches: Vec<JournalBatch<'_>> = Vec::new();
    let Some((header, mut rest)) = split_line::<JournalHeader>(bytes) else { return Ok(batches) };
    if header.format.version > FORMAT_VERSION {
        let found = header.format.version;
        return Err((header.format, LineError::NewerFormat { found }));
    }
    while let Some((BatchHeader { batch, lines_crc, lines }, after)) =
        split_line::<BatchHeader<Vec<JournalEntry>>>(rest)
    {
        let length = lines.iter().map(|entry| entry.bytes).sum();
        let Some((mut content, after)) = after.split_at_checked(length) else { break };
        if checksum(content) != lines_crc || batches.last().is_some_and(|last| last.number >= batch) {
            break;
        }
        let entries = lines.into_iter().map(|entry| {
            let lines;
            (lines, content) = content.split_at(entry.bytes);
            (entry, lines)
        });
        batches.push(JournalBatch { number: batch, entries: entries.collect() });
        rest = after;
    }
    Ok(batches)
}

fn split_line<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<(T, &'a [u8])> {
    let end = bytes.iter().take_while(|byte| **byte != 0).position(|byte| *byte == b'\n')?;
    let (line, rest) = bytes.split_at(end + 1);
    if !is_sealed(line) {
        return None;
    }
    Some((serde_json::from_slice(line).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(bytes: usize) -> JournalEntry {
        let user = "anna".parse().expect("a valid id");
        JournalEntry { user, session: SessionId::new(), offset: 7, bytes, follows: checksum(b"before") }
    }

    fn numbers(bytes: &[u8]) -> Vec<u64> {
        decode_batches(bytes).unwrap().iter().map(|batch| batch.number).collect()
    }

    #[test]
    fn whole_batches_are_read_and_torn_or_older_ones_are_not() {
        let header = encode_header().unwrap();
        let first = encode_batch(1, &[entry(3), entry(2)], b"abcde").unwrap();
        let second = encode_batch(2, &[entry(4)], b"line").unwrap();
        let all = [&header[..], &first, &second].concat();
        assert_eq!(numbers(&all), [1, 2]);
        let batches = decode_batches(&all).unwrap();
        let lines: Vec<_> = batches[0].entries.iter().map(|(_, lines)| *lines).collect();
        assert_eq!(lines, [&b"abc"[..], b"de"]);
        for length in 0..all.len() {
            let whole = usize::from(length >= header.len() + first.len());
            assert_eq!(numbers(&all[..length]).len(), whole, "cut at {length}");
            let zeros = [&all[..length], &vec![0; all.len() - length]].concat();
            assert_eq!(numbers(&zeros).len(), whole, "zeros from {length}");
        }
        for at in header.len()..all.len() {
            let mut changed = all.clone();
            changed[at] ^= 1;
            assert!(numbers(&changed).len() < 2, "changed at {at}");
        }
        let older = [&header[..], &second, &first].concat();
        assert_eq!(numbers(&older), [2], "what is left of an older batch");
        assert_eq!(numbers(&[0; 600]), [0; 0]);
    }

    #[test]
    fn newer_format_is_refused() {
        let newer = seal_line(br#"{"format":{"version":3,"writer":"0.9.0"}}"#.to_vec());
        let (format, error) = decode_batches(&newer).unwrap_err();
        assert_eq!(format.writer, "0.9.0");
        assert!(matches!(error, LineError::NewerFormat { found: 3 }));
    }
}
