//! Finds lines in a session's file: backwards from its end, and by binary search.

use std::{fs::File, io, os::unix::fs::FileExt};

use super::log_line::{LINE_HEAD_BYTES, is_checkpoint, parse_seq};

const BLOCK_BYTES: usize = 64 * 1024;
/// A binary search ends when the range is this small; the rest is read line by line.
const SEARCH_END_BYTES: usize = 4096;

/// The beginning of the line at `offset`; shorter if the file ends at `end` before.
pub(super) fn read_line_head(file: &File, offset: u64, end: u64) -> io::Result<Vec<u8>> {
    let mut head = vec![0; LINE_HEAD_BYTES.min(usize::try_from(end - offset).unwrap_or(LINE_HEAD_BYTES))];
    file.read_exact_at(&mut head, offset)?;
    Ok(head)
}

/// The offset after the last line end before `end`; 0 if there is none.
pub(super) fn last_line_start(file: &File, end: u64) -> io::Result<u64> {
    let mut block_end = end;
    let mut block = vec![0; BLOCK_BYTES];
    while block_end > 0 {
        let block_start = block_end.saturating_sub(BLOCK_BYTES as u64);
        let block = &mut block[..usize::try_from(block_end - block_start).unwrap_or(BLOCK_BYTES)];
        file.read_exact_at(block, block_start)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(block_start + at as u64 + 1);
        }
        block_end = block_start;
    }
    Ok(0)
}

/// The offset of the newest checkpoint that begins at `from` or later, but not at 0; `None` if there is none. `from` and
/// `end` are offsets after a line end, or 0. Each block is read once.
pub(super) fn newest_checkpoint_start(file: &File, from: u64, end: u64) -> io::Result<Option<u64>> {
    // The line end before the first line.
    let from = from.saturating_sub(1);
    let mut block_end = end;
    // The beginning of the block behind, into which the beginning of a line may reach.
    let mut behind = Vec::new();
    while block_end > from {
        let block_start = block_end.saturating_sub(BLOCK_BYTES as u64).max(from);
        let length = usize::try_from(block_end - block_start).unwrap_or(BLOCK_BYTES);
        let mut block = vec![0; length];
        file.read_exact_at(&mut block, block_start)?;
        block.append(&mut behind);
        let line_ends = block[..length].iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
        for (at, _) in line_ends {
            let head = &block[at + 1..];
            if is_checkpoint(&head[..head.len().min(LINE_HEAD_BYTES)]) {
                return Ok(Some(block_start + at as u64 + 1));
            }
        }
        block.truncate(LINE_HEAD_BYTES);
        behind = block;
        block_end = block_start;
    }
    Ok(None)
}

/// The offset from which to read for events after `after`: the start of a line such that no line before it has such events,
/// and few lines after it have older ones.
pub(super) fn events_start(file: &File, after: u64, end: u64) -> io::Result<u64> {
    // `low` is the start of a line with a seq of at most `after`, or of the first line.
    let mut low = 0;
    let mut high = end;
    while high - low > SEARCH_END_BYTES as u64 {
        let middle = low + (high - low) / 2;
        match next_line_start(file, middle, high)? {
            Some(start) if parse_seq(&read_line_head(file, start, end)?).is_some_and(|seq| seq <= after) => low = start,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The offset of the first line that starts after `from` and before `until`.
fn next_line_start(file: &File, from: u64, until: u64) -> io::Result<Option<u64>> {
    let mut at = from;
    let mut block = vec![0; SEARCH_END_BYTES];
    while at < until {
        let block = &mut block[..usize::try_from(until - at).unwrap_or(usize::MAX).min(SEARCH_END_BYTES)];
        file.read_exact_at(block, at)?;
        if let Some(found) = block.iter().position(|byte| *byte == b'\n') {
            let start = at + found as u64 + 1;
            return Ok((start < until).then_some(start));
        }
        at += block.len() as u64;
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn lines_of_any_length_are_found() {
        let mut file = tempfile::tempfile().unwrap();
        let mut starts = Vec::new();
        let mut end = 0;
        for seq in 1..=400u64 {
            let filler = "x".repeat(usize::try_from(seq * 7919 % 9000).unwrap());
            let kind = if seq % 50 == 0 { "checkpoint" } else { "commit" };
            let line = format!("{{\"seq\":{seq},\"{kind}\":\"{filler}\"}}\n");
            starts.push(end);
            end += line.len() as u64;
            file.write_all(line.as_bytes()).unwrap();
        }
        for after in 0..=400u64 {
            let start = events_start(&file, after, end).unwrap();
            assert!(starts.contains(&start));
            assert!(parse_seq(&read_line_head(&file, start, end).unwrap()).unwrap() <= after.max(1));
        }
        for (from, end, expected) in [
            (0, end, Some(starts[399])),
            (starts[399], end, Some(starts[399])),
            (0, starts[399], Some(starts[349])),
            (starts[349], starts[399], Some(starts[349])),
            (starts[350], starts[399], None),
            (0, starts[49], None),
            (end, end, None),
        ] {
            assert_eq!(newest_checkpoint_start(&file, from, end).unwrap(), expected, "{from}..{end}");
        }
        assert_eq!(last_line_start(&file, end - 1).unwrap(), starts[399]);
    }
}
