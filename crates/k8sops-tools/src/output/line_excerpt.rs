//! Parts of one long line: its beginning, its end, and what sounds wrong between them.

use std::{borrow::Cow, collections::HashMap, fmt::Write};

use super::{
    alarm_words::{AlarmLevel, alarm_level},
    value_statistics::value_shape,
};

/// Bytes of a part that sounds wrong.
const PART_BYTES: usize = 240;
/// Shortest excerpt in bytes that has such parts.
const MIN_PARTS_BYTES: usize = 600;
/// Bytes of a mark that says how much is left out.
const MARK_BYTES: usize = 24;
/// Longest line in bytes that is searched for such parts.
const MAX_SEARCHED_BYTES: usize = 4 << 20;

/// Returns a line with about `max_bytes`: its beginning, its end, and the parts between them that sound wrong, those first that are
/// unlike the others. Each gap says how many bytes are left out.
pub(super) fn excerpt_line(line: &str, max_bytes: usize) -> Cow<'_, str> {
    if line.len() <= max_bytes {
        return line.into();
    }
    let parts = if max_bytes >= MIN_PARTS_BYTES { find_alarming_parts(line) } else { Vec::new() };
    let for_parts = if parts.is_empty() { 0 } else { max_bytes * 2 / 5 };
    let for_ends = (max_bytes - for_parts).saturating_sub(MARK_BYTES);
    let head = line.floor_char_boundary(for_ends * 3 / 5);
    let tail = line.ceil_char_boundary(line.len() - for_ends * 2 / 5);
    let mut shown = vec![(0, head), (tail, line.len())];
    let inner = parts.into_iter().filter(|(from, to)| *from >= head && *to <= tail);
    shown.extend(inner.take(for_parts / (PART_BYTES + MARK_BYTES)));
    shown.sort_unstable();
    let mut text = String::with_capacity(max_bytes + 64);
    let mut end = 0;
    for (from, to) in shown {
        if from > end {
            let _ = write!(text, "…[{} bytes]…", from - end);
        }
        text.push_str(line.get(from.max(end)..to).unwrap_or_default());
        end = end.max(to);
    }
    text.into()
}

/// Returns the parts of a line that sound wrong, as positions: those of a rare shape first.
fn find_alarming_parts(line: &str) -> Vec<(usize, usize)> {
    let end = line.floor_char_boundary(MAX_SEARCHED_BYTES);
    let mut parts: Vec<(usize, usize, String)> = Vec::new();
    let mut at = 0;
    while at < end {
        let to = line.ceil_char_boundary((at + PART_BYTES).min(end));
        let part = &line[at..to];
        if alarm_level(part) == AlarmLevel::Fault {
            parts.push((at, to, alarming_words(part)));
        }
        at = to;
    }
    let mut counts: HashMap<String, usize> = HashMap::new();
    for (.., shape) in &parts {
        *counts.entry(shape.clone()).or_default() += 1;
    }
    // The second part of a shape says less than the first one of any other.
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut ranked: Vec<((usize, usize), (usize, usize))> = parts
        .into_iter()
        .map(|(from, to, shape)| {
            let count = counts.get(&shape).copied().unwrap_or_default();
            let earlier = seen.entry(shape).or_default();
            *earlier += 1;
            ((*earlier - 1, count), (from, to))
        })
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().map(|(_, part)| part).collect()
}

/// Returns the words of a part that sound wrong, without what differs between two parts of one kind.
fn alarming_words(part: &str) -> String {
    let words = part.split(|char: char| char.is_whitespace() || matches!(char, '"' | ',' | '{' | '}' | '[' | ']'));
    let wrong: Vec<String> = words.filter(|word| alarm_level(word) == AlarmLevel::Fault).map(value_shape).collect();
    wrong.join(" ")
}
