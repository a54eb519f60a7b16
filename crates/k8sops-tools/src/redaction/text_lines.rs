//! Lines of a text by their positions.

use std::ops::Range;

/// Returns the start of the line at a position.
pub(super) fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |newline| newline + 1)
}

/// Returns the end of the line at a position, without its line feed.
pub(super) fn line_end(text: &str, at: usize) -> usize {
    let end = text[at..].find('\n').map_or(text.len(), |length| at + length);
    end - usize::from(end > at && text.as_bytes()[end - 1] == b'\r')
}

/// Returns the columns before the first letter of the line that begins at a position. The sign of a list item counts as
/// indentation, because the names in the item are behind it.
pub(super) fn indent_of(text: &str, line_start: usize) -> usize {
    text[line_start..].bytes().take_while(|byte| *byte == b' ').count()
}

/// Returns the lines from a position on, without their line feeds: first the rest of the line at the position.
pub(super) fn lines_from(text: &str, at: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    let mut next = at;
    text[at..].split_inclusive('\n').map(move |line| {
        let start = next;
        next += line.len();
        start..start + line.trim_end_matches(['\n', '\r']).len()
    })
}

/// Splits a range of a text at a separator.
pub(super) fn split_ranges(text: &str, range: Range<usize>, separator: char) -> impl Iterator<Item = Range<usize>> {
    let mut at = range.start;
    text[range].split(separator).map(move |part| {
        let start = at;
        at += part.len() + separator.len_utf8();
        start..start + part.len()
    })
}
