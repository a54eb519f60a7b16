//! Texts of a server in our error messages and logs.

/// Longest text of a server that is quoted, in bytes.
const MAX_QUOTE_BYTES: usize = 400;

/// Returns a text of a server as one line of bounded length.
pub(crate) fn quote_server_text(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() <= MAX_QUOTE_BYTES {
        return line;
    }
    let mut start = line[..line.floor_char_boundary(MAX_QUOTE_BYTES)].to_owned();
    start.push('…');
    start
}
