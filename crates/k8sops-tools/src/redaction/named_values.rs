//! Values behind a name and a `:` or `=`: YAML, JSON, variables, properties, headers, debug output of programs.
//!
//! Every `:` and `=` of the text is looked at once: the name is read backward from it and the value forward.

use std::{ops::Range, sync::LazyLock};

use regex::Regex;

use super::{
    found_secret::{FoundSecret, SecretReach},
    placeholder::is_placeholder_at,
    secret_names::{MAX_NAME_LEN, SecretNameLevel, rate_secret_name},
    secret_values::{PairContext, is_plain_value, is_secret_value, looks_random},
    text_lines::{indent_of, line_end, line_start, lines_from},
    token_formats::include_wrapped_lines,
    value_fields::{is_value_field, rate_value_field},
};

/// Most blanks between a name and its separator, as in aligned columns.
const MAX_ALIGNMENT: usize = 40;
/// Longest value without quotes, in bytes.
const MAX_BARE_LEN: usize = 16 << 10;
/// Longest HTTP header, in bytes.
const MAX_HEADER_LEN: usize = 8 << 10;
/// Most lines of a value of several lines.
const MAX_VALUE_LINES: usize = 2_000;

/// A name in front of a separator.
struct PairName<'a> {
    text: &'a str,
    start: usize,
    /// The quote around it.
    quote: Option<u8>,
}

/// A value behind a separator.
struct PairValue {
    range: Range<usize>,
    is_quoted: bool,
}

/// Adds the values whose names sound like a secret to `found`.
pub(super) fn find_named_values(text: &str, found: &mut Vec<FoundSecret>) {
    let mut read_up_to = 0;
    let has_sealed_values = text.contains("encryptedData");
    for (at, separator) in text.bytes().enumerate().filter(|(_, byte)| matches!(byte, b':' | b'=')) {
        if at < read_up_to {
            continue;
        }
        let Some(name) = read_name(text, at) else { continue };
        let level = match name.text {
            field if is_value_field(field) => rate_value_field(text, name.start),
            _ => (rate_secret_name(name.text), name.text),
        };
        let (level, key) = match level {
            (SecretNameLevel::Unlikely, _) => match read_phrase(text, &name) {
                Some(phrase) if phrase.1 > SecretNameLevel::Unlikely => (phrase.1, phrase.0),
                _ => continue,
            },
            rated => rated,
        };
        let is_first = is_first_in_line(text, name.start);
        let count = found.len();
        NamedPair { text, key, level, is_first, has_sealed_values, found }.read_value(&name, at, separator);
        // A value is read once, not again for each name in it.
        read_up_to = found[count..].iter().map(|secret| secret.range.end).max().unwrap_or_default();
    }
}

/// The name of a value that is read.
struct NamedPair<'a> {
    text: &'a str,
    key: &'a str,
    level: SecretNameLevel,
    /// Whether nothing but indentation and signs of a list or a diff is before the name in its line.
    is_first: bool,
    /// Whether the text has a SealedSecret. Its values begin with `Ag`, and only its controller can decrypt them.
    has_sealed_values: bool,
    found: &'a mut Vec<FoundSecret>,
}

impl NamedPair<'_> {
    fn read_value(&mut self, name: &PairName<'_>, at: usize, separator: u8) {
        let text = self.text;
        let bytes = text.as_bytes();
        let mut start = at + 1;
        if separator == b'=' && bytes.get(start) == Some(&b'>') {
            start += 1;
        }
        let is_spaced = matches!(bytes.get(start), Some(b' ' | b'\t'));
        start += bytes[start..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let Some(first) = bytes.get(start) else { return };
        if is_header(self.key) {
            return self.read_header(start);
        }
        // Rust and Python print the type of the value around it.
        let wrapper =
            ["Some(", "Secret(", "SecretString(", "SecretStr("].into_iter().find(|w| text[start..].starts_with(w));
        if let Some(wrapper) = wrapper {
            if let Some(value) = read_quoted(text, start + wrapper.len()) {
                self.add_value(value, PairContext::Assignment);
            }
            return;
        }
        match first {
            b'\n' | b'\r' if separator == b':' => self.read_next_lines(name, start),
            b'|' | b'>' if separator == b':' && is_block_sign(text, start) => self.read_block(name, start),
            b'[' if !text[start..].starts_with("[secret:") => self.read_list(start),
            b'{' | b'\n' | b'\r' => {}
            _ if text[start..].starts_with("\"\"\"") || text[start..].starts_with("'''") => {
                self.read_triple_quoted(start);
            }
            _ => {
                let is_line = self.is_first && name.quote.is_none() && (separator == b'=' || is_spaced);
                let value = match read_quoted(text, start).or_else(|| read_rest_of_quoted(text, name, separator, start))
                {
                    Some(value) => value,
                    None if is_line && separator == b':' => read_line_value(text, start),
                    None => read_bare_value(text, start, is_line),
                };
                let is_sentence =
                    separator == b':' && is_spaced && !self.is_first && name.quote.is_none() && !value.is_quoted;
                let in_flow = text[..name.start].trim_end().ends_with(['{', ',', '(', '[']);
                let context = if is_sentence && !in_flow { PairContext::Sentence } else { PairContext::Assignment };
                // A plan of changes writes `"old" -> "new"`.
                let behind = value.range.end + usize::from(value.is_quoted);
                let arrow = text.get(behind..).and_then(|rest| rest.trim_start().strip_prefix("->"));
                let changed = arrow.and_then(|rest| read_quoted(text, text.len() - rest.trim_start().len()));
                self.add_value(value, context);
                if let Some(changed) = changed {
                    self.add_value(changed, context);
                }
            }
        }
    }

    fn add_value(&mut self, value: PairValue, context: PairContext) {
        let text = self.text;
        let written = &text[value.range.clone()];
        if self.has_sealed_values && written.starts_with("Ag") {
            return;
        }
        if is_secret_value(self.level, written, context) {
            let range = if value.is_quoted { value.range } else { include_wrapped_lines(text, value.range) };
            return self.push(range);
        }
        // The first word of a line may be the secret, with an explanation behind it.
        if let Some(word) =
            written.split_whitespace().next().filter(|word| word.len() < written.len() && !value.is_quoted)
        {
            let bare = word.trim_end_matches([',', ';', '.']);
            if self.level > SecretNameLevel::Possible
                && is_secret_value(SecretNameLevel::Likely, bare, PairContext::Sentence)
            {
                self.push(value.range.start..value.range.start + bare.len());
            }
        }
    }

    fn push(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        let is_random = looks_random(self.text[range.clone()].trim());
        let reach = if is_random { SecretReach::Session } else { SecretReach::InPlace };
        self.found.push(FoundSecret::plain(range, self.key, reach));
    }

    /// Reads the value below a name: a plain scalar of YAML, a list, or what `kubectl describe configmap` prints below
    /// `----`.
    fn read_next_lines(&mut self, name: &PairName<'_>, line_end: usize) {
        let text = self.text;
        let indent = indent_of(text, line_start(text, name.start));
        let mut lines = lines_from(text, line_end).skip(1).peekable();
        let Some(first) = lines.peek().cloned() else { return };
        let content = text[first.clone()].trim();
        if content.len() >= 3 && content.bytes().all(|byte| byte == b'-') && self.is_first {
            let values: Vec<Range<usize>> =
                lines.skip(1).take_while(|line| !text[line.clone()].trim().is_empty()).take(MAX_VALUE_LINES).collect();
            return self.add_lines(&values);
        }
        if content.starts_with("- ") {
            let items = lines.take_while(|line| {
                indent_of(text, line.start) >= indent && text[line.clone()].trim_start().starts_with("- ")
            });
            for item in items.take(MAX_VALUE_LINES).collect::<Vec<_>>() {
                let skip = text[item.clone()].find("- ").unwrap_or_default() + 2;
                self.add_list_item(
                    read_quoted(text, item.start + skip).map_or(item.start + skip..item.end, |value| value.range),
                );
            }
            return;
        }
        let is_scalar =
            self.is_first && indent_of(text, first.start) > indent && !content.contains([':', '=', '{', '[', ' ']);
        if is_scalar {
            let start = first.start + (text[first.clone()].len() - text[first.clone()].trim_start().len());
            self.add_value(read_line_value(text, start), PairContext::Assignment);
        }
    }

    /// Reads a block scalar of YAML.
    fn read_block(&mut self, name: &PairName<'_>, sign: usize) {
        let text = self.text;
        let indent = indent_of(text, line_start(text, name.start));
        let lines: Vec<Range<usize>> = lines_from(text, sign)
            .skip(1)
            .take_while(|line| text[line.clone()].trim().is_empty() || indent_of(text, line.start) > indent)
            .filter(|line| !text[line.clone()].trim().is_empty())
            .take(MAX_VALUE_LINES)
            .collect();
        self.add_lines(&lines);
    }

    /// Adds the lines of a value. Lines that have names are read by themselves.
    fn add_lines(&mut self, lines: &[Range<usize>]) {
        let is_alone = lines.len() == 1;
        for line in lines {
            let content = self.text[line.clone()].trim();
            let level = if is_alone { self.level } else { self.level.min(SecretNameLevel::Likely) };
            if is_secret_value(level, content, PairContext::Assignment) && (is_alone || !content.contains([':', '='])) {
                let start = line.start + self.text[line.clone()].find(content).unwrap_or_default();
                self.push(start..start + content.len());
            }
        }
    }

    /// Reads a text of several lines between `"""` or `'''`.
    fn read_triple_quoted(&mut self, start: usize) {
        let text = self.text;
        let begin = start + 3;
        let end = text[begin..].find(&text[start..begin]).map_or(text.len(), |length| begin + length);
        let lines: Vec<Range<usize>> = split_ranges(text, begin..end, '\n')
            .filter(|line| !text[line.clone()].trim().is_empty())
            .take(MAX_VALUE_LINES)
            .collect();
        self.add_lines(&lines);
    }

    /// Reads the texts of a list in brackets.
    fn read_list(&mut self, open: usize) {
        let text = self.text;
        let close = text[open..].find([']', '{']).map_or(text.len(), |length| open + length);
        let mut at = open + 1;
        while at < close {
            if let Some(value) = read_quoted(text, at) {
                at = value.range.end + 1;
                // A string that goes on in the next line is no single value.
                if text.as_bytes().get(value.range.end).is_some_and(|byte| *byte != b'\n') {
                    self.add_list_item(value.range);
                }
            } else {
                let end = text[at..close].find([',', '"', '\'', '[']).map_or(close, |length| at + length);
                let item = text[at..end].trim();
                if !item.is_empty() {
                    let start = at + text[at..end].find(item).unwrap_or_default();
                    self.add_list_item(start..start + item.len());
                }
                at = end + usize::from(matches!(text.as_bytes().get(end), Some(b',' | b'[')));
            }
        }
    }

    /// Adds an item of a list: its name is that of the list, which is less certain.
    fn add_list_item(&mut self, range: Range<usize>) {
        let level = self.level.min(SecretNameLevel::Likely);
        let content = self.text[range.clone()].trim();
        if !content.contains([':', '=']) && is_secret_value(level, content, PairContext::Assignment) {
            let start = range.start + self.text[range].find(content).unwrap_or_default();
            self.push(start..start + content.len());
        }
    }

    /// Reads the value of an HTTP header: cookies, or credentials behind the name of their scheme.
    fn read_header(&mut self, start: usize) {
        let text = self.text;
        // The value may be in quotes, and in a list of one; a mapping is no value.
        let open = text[start..].bytes().take_while(|byte| matches!(byte, b'"' | b'\'' | b'[' | b'{' | b'\\')).count();
        if text[start..start + open].contains('{') || text[start..start + open].contains("[[") {
            return;
        }
        let start = start + open;
        let rest = &text[start..text.floor_char_boundary((start + MAX_HEADER_LEN).min(text.len()))];
        let end = start + rest.find(['\n', '\r', '"', '\'', '\\', '`']).unwrap_or(rest.len());
        if self.key.to_ascii_lowercase().ends_with("cookie") {
            for cookie in split_ranges(text, start..end, ';') {
                let Some((name, value)) = text[cookie.clone()].split_once('=') else { continue };
                let name = name.trim();
                if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')) {
                    continue;
                }
                let is_secret = rate_secret_name(name) > SecretNameLevel::Unlikely && !is_plain_value(value);
                let value_start = cookie.end - value.len();
                let value = value.split([' ', ',']).next().unwrap_or_default();
                if (is_secret && value.len() >= 8) || looks_random(value.trim()) {
                    self.push(value_start..value_start + value.len());
                }
            }
            return;
        }
        let value = text[start..end].trim_end();
        let words: Vec<&str> = value.split(' ').collect();
        let is_scheme = |word: &str| {
            ["bearer", "basic", "token", "negotiate", "digest", "apikey", "ntlm"]
                .iter()
                .any(|s| word.eq_ignore_ascii_case(s))
        };
        let word = match words[..] {
            [scheme, word, ..] if is_scheme(scheme) => word,
            [word] => word,
            _ => return,
        };
        let word = word.trim_end_matches([',', ';', ')', '}', ']']);
        let has_no_case = word.bytes().all(|byte| byte.is_ascii_lowercase());
        if word.len() >= 6 && !has_no_case && !is_plain_value(word) {
            let word_start = start + value.find(word).unwrap_or_default();
            self.push(word_start..word_start + word.len());
        }
    }
}

fn is_header(name: &str) -> bool {
    ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-authorization"]
        .iter()
        .any(|header| name.eq_ignore_ascii_case(header))
}

/// Reads the name in front of a separator.
fn read_name(text: &str, separator: usize) -> Option<PairName<'_>> {
    let bytes = text.as_bytes();
    let is_operator = |byte: Option<&u8>| matches!(byte, Some(b'=' | b'!' | b'<' | b'>' | b':' | b'~'));
    let before = separator.checked_sub(1).and_then(|at| bytes.get(at));
    if is_operator(before) || (bytes[separator] == b':' && matches!(bytes.get(separator + 1), Some(b':' | b'='))) {
        // `:=` assigns, and so does `::=`.
        if !(bytes[separator] == b'=' && before == Some(&b':')) {
            return None;
        }
    }
    let mut end = separator - usize::from(bytes[separator] == b'=' && before == Some(&b':'));
    let blanks = bytes[..end].iter().rev().take(MAX_ALIGNMENT).take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    end -= blanks;
    // `config["name"] = value`
    if end > 1 && bytes[end - 1] == b']' && matches!(bytes[end - 2], b'"' | b'\'') {
        end -= 1;
    }
    let quote = end.checked_sub(1).map(|at| bytes[at]).filter(|byte| matches!(byte, b'"' | b'\'' | b'`'));
    if quote.is_some() {
        end -= 1;
        end -= bytes[..end].iter().rev().take_while(|byte| **byte == b'\\').count();
    }
    let is_name = |byte: &u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'_' | b'-' | b'.' | b'/' | b'$')
            || (quote.is_some() && *byte == b' ')
    };
    let length = bytes[..end].iter().rev().take(MAX_NAME_LEN + 1).take_while(|byte| is_name(byte)).count();
    if length == 0 || length > MAX_NAME_LEN {
        return None;
    }
    let mut start = end - length;
    // The letter of an escape sequence is not part of the name.
    if start > 0 && length > 1 && bytes[start - 1] == b'\\' && matches!(bytes[start], b'n' | b't' | b'r') {
        start += 1;
    }
    // In `a:secret:b` the name is a part of an identifier.
    let is_inner = bytes[separator] == b':' && blanks == 0 && quote.is_none() && start > 0 && bytes[start - 1] == b':';
    let has_value_next = !matches!(bytes.get(separator + 1), None | Some(b' ' | b'\t' | b'\n' | b'\r'));
    if is_inner && has_value_next {
        return None;
    }
    if start > 0 && is_placeholder_at(text, start - 1) {
        return None;
    }
    let name = text[start..end].trim_start_matches(['-', '.', '/', '$']);
    Some(PairName { text: name, start, quote })
}

/// Returns whether only indentation, signs of lists, diffs and quotations, and keywords of shells are before a position in its
/// line.
fn is_first_in_line(text: &str, at: usize) -> bool {
    let from = text.ceil_char_boundary(at.saturating_sub(MAX_ALIGNMENT * 2));
    let before = &text[from..at];
    let Some(before) = before.rfind('\n').map(|newline| &before[newline + 1..]).or((from == 0).then_some(before))
    else {
        return false;
    };
    if before.ends_with(['"', '\'']) {
        return true;
    }
    let before =
        before.trim_matches([' ', '\t', '-', '+', '#', '>', '|', '"', '\'', '*', '`', '\u{2022}', '\u{2502}', '<']);
    matches!(before, "" | "export" | "set" | "setenv" | "ENV" | "ARG" | "declare -x" | "typeset -x" | "Environment=")
}

/// Returns the name of several words that ends with a name: `Unseal Key 1`, `Secret Access Key`.
fn read_phrase<'a>(text: &'a str, name: &PairName<'a>) -> Option<(&'a str, SecretNameLevel)> {
    let last = name.text;
    let may_end_phrase = last.bytes().all(|byte| byte.is_ascii_digit()) || last.eq_ignore_ascii_case("phrase");
    if name.quote.is_some() || !may_end_phrase {
        return None;
    }
    let from = line_start(text, name.start).max(name.start.saturating_sub(40));
    let from = text.ceil_char_boundary(from);
    let before = &text[from..name.start];
    let word_start = before.trim_end().rfind([' ', '\t'])?;
    let two = before[..word_start].trim_end().rfind([' ', '\t']).map_or(0, |at| at + 1);
    let phrase = text[from + two..name.start + last.len()].trim();
    Some((phrase, rate_secret_name(phrase)))
}

/// Reads a value in quotes, which may be escaped. The quotes are not part of it.
fn read_quoted(text: &str, start: usize) -> Option<PairValue> {
    let bytes = text.as_bytes();
    let escapes = bytes[start..].iter().take_while(|byte| **byte == b'\\').count();
    let quote = *bytes.get(start + escapes).filter(|byte| matches!(byte, b'"' | b'\'' | b'`'))?;
    let begin = start + escapes + 1;
    let mut at = begin;
    while at < bytes.len() && bytes[at] != b'\n' {
        if bytes[at] == quote {
            let slashes = bytes[begin..at].iter().rev().take_while(|byte| **byte == b'\\').count();
            // The quote that ends the value has as many escapes as the one that begins it.
            if slashes == escapes {
                return Some(PairValue { range: begin..at - escapes, is_quoted: true });
            }
            if slashes < escapes {
                break;
            }
        }
        at += 1;
    }
    // The end is cut off.
    let at = at.min(bytes.len());
    Some(PairValue { range: begin..begin + text[begin..at].trim_end().len(), is_quoted: true })
}

/// Reads the value of `"NAME=value"` up to the quote behind it.
fn read_rest_of_quoted(text: &str, name: &PairName<'_>, separator: u8, start: usize) -> Option<PairValue> {
    let quote = name.start.checked_sub(1).map(|at| text.as_bytes()[at]).filter(|byte| matches!(byte, b'"' | b'\''))?;
    if separator != b'=' || name.quote.is_some() {
        return None;
    }
    let end = text[start..].find([char::from(quote), '\n', '\\'])?;
    (text.as_bytes()[start + end] == quote).then(|| PairValue { range: start..start + end, is_quoted: true })
}

/// Reads the rest of a line as a plain scalar of YAML, without a comment.
fn read_line_value(text: &str, start: usize) -> PairValue {
    let rest = &text[start..line_end(text, start)];
    let rest = rest.find(" #").map_or(rest, |comment| &rest[..comment]);
    let value = rest.trim_end().trim_end_matches(['"', '\'']).trim_end_matches(['}', ']', ',']);
    PairValue { range: start..start + value.len(), is_quoted: false }
}

/// Reads a value without quotes, up to a blank or to the next pair.
fn read_bare_value(text: &str, start: usize, is_line: bool) -> PairValue {
    static NEXT_PAIR: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"(?:[,;&|)}\]]+|[,;])\s*(?:[A-Za-z_][\w.-]*\s*[=:]|$)").expect("a constant pattern")
    });
    let rest = &text[start..];
    let rest = &rest[..rest.floor_char_boundary(MAX_BARE_LEN.min(rest.len()))];
    let end = rest.find([' ', '\t', '\n', '\r', '"', '\'', '`', '<', '\\']).unwrap_or(rest.len());
    let mut value = &rest[..end];
    if let Some(next) = NEXT_PAIR.find(value) {
        value = &value[..next.start()];
    }
    let has_more = rest[end..].starts_with([' ', '\t']);
    if !is_line || has_more {
        value = value.trim_end_matches([',', ';']);
        // A bracket at the end belongs to the value only if it was opened in it.
        for (open, close) in [('(', ')'), ('[', ']'), ('{', '}')] {
            while value.ends_with(close) && value.matches(close).count() > value.matches(open).count() {
                value = &value[..value.len() - 1];
            }
        }
    }
    PairValue { range: start..start + value.len(), is_quoted: false }
}

fn is_block_sign(text: &str, start: usize) -> bool {
    let rest = text[start..line_end(text, start)].trim_end();
    let rest = rest.find(" #").map_or(rest, |comment| rest[..comment].trim_end());
    rest.len() <= 3 && rest[1..].bytes().all(|byte| matches!(byte, b'+' | b'-' | b'0'..=b'9'))
}

fn split_ranges(text: &str, range: Range<usize>, separator: char) -> impl Iterator<Item = Range<usize>> {
    let mut at = range.start;
    text[range].split(separator).map(move |part| {
        let start = at;
        at += part.len() + separator.len_utf8();
        start..start + part.len()
    })
}
