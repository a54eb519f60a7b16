//! Finding lines in a file by position: backwards from the end, and by binary search.

use std::{fs::File, io, os::unix::fs::FileExt};

use super::record::{HEAD, is_checkpoint, seq_of};

const BLOCK: usize = 64 * 1024;
/// A binary search goes on by steps from here.
const NEAR: usize = 4096;

/// The beginning of the line at `offset`; shorter when the file's `end` comes first.
pub(super) fn head(file: &File, offset: u64, end: u64) -> io::Result<Vec<u8>> {
    let mut head = vec![0; HEAD.min(usize::try_from(end - offset).unwrap_or(HEAD))];
    file.read_exact_at(&mut head, offset)?;
    Ok(head)
}

/// The place behind the last line end before `end`; 0 when there is none.
pub(super) fn start_of_last(file: &File, end: u64) -> io::Result<u64> {
    let mut until = end;
    let mut block = vec![0; BLOCK];
    while until > 0 {
        let from = until.saturating_sub(BLOCK as u64);
        let block = &mut block[..usize::try_from(until - from).unwrap_or(BLOCK)];
        file.read_exact_at(block, from)?;
        if let Some(at) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(from + at as u64 + 1);
        }
        until = from;
    }
    Ok(0)
}

/// Where the newest checkpoint's line begins; 0 when there is none. `end` is behind a line end, or 0.
pub(super) fn newest_checkpoint(file: &File, end: u64) -> io::Result<u64> {
    let mut line_end = end;
    while line_end > 0 {
        let start = start_of_last(file, line_end - 1)?;
        if is_checkpoint(&head(file, start, end)?) {
            return Ok(start);
        }
        line_end = start;
    }
    Ok(0)
}

/// Where to begin to read for events after `after`: the start of a line, none of whose predecessors has such events, and
/// few of whose successors come before them.
pub(super) fn place_of(file: &File, after: u64, end: u64) -> io::Result<u64> {
    // `low` is the start of a line with a seq of at most `after`, or of the first line.
    let (mut low, mut high) = (0, end);
    while high - low > NEAR as u64 {
        let middle = low + (high - low) / 2;
        match next_line(file, middle, high)? {
            Some(start) if seq_of(&head(file, start, end)?).is_some_and(|seq| seq <= after) => low = start,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// The first line start after `from` and before `until`.
fn next_line(file: &File, from: u64, until: u64) -> io::Result<Option<u64>> {
    let mut at = from;
    let mut block = vec![0; NEAR];
    while at < until {
        let block = &mut block[..usize::try_from(until - at).unwrap_or(usize::MAX).min(NEAR)];
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
    fn every_place_is_found_whatever_the_lines_are_like() {
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
            let place = place_of(&file, after, end).unwrap();
            assert!(starts.contains(&place));
            assert!(seq_of(&head(&file, place, end).unwrap()).unwrap() <= after.max(1));
        }
        assert_eq!(newest_checkpoint(&file, end).unwrap(), starts[399]);
        assert_eq!(newest_checkpoint(&file, starts[399]).unwrap(), starts[349]);
        assert_eq!(newest_checkpoint(&file, starts[49]).unwrap(), 0);
        assert_eq!(start_of_last(&file, end - 1).unwrap(), starts[399]);
    }
}
