//! Values behind a name and a `:` or `=`: YAML, JSON, variables, properties, headers, debug output of programs.
//!
//! Every `:` and `=` of the text is looked at once: the name is read backward from it and the value forward.

use std::ops::Range;

use super::{
    found_secret::{FoundSecret, SecretReach},
    http_headers::{is_credentials_header, read_header_secrets},
    placeholder::is_placeholder_at,
    secret_names::{MAX_NAME_LEN, SecretNameLevel, rate_secret_name},
    secret_values::{PairContext, is_secret_value, looks_random},
    text_lines::{indent_of, line_start, lines_from, split_ranges},
    token_formats::include_wrapped_lines,
    value_fields::{is_value_field, rate_member_name, rate_value_field},
    value_readers::{
        PairValue, is_block_sign, read_bare_value, read_braced, read_line_value, read_quoted, read_rest_of_quoted,
        read_wrapped,
    },
};

/// Most blanks between a name and its separator, as in aligned columns.
const MAX_ALIGNMENT: usize = 40;
/// Most lines of a value of several lines.
const MAX_VALUE_LINES: usize = 2_000;

/// A name in front of a separator.
struct PairName<'a> {
    text: &'a str,
    start: usize,
    /// The quote around it.
    quote: Option<u8>,
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
        // The result of a test.
        if name.text == "PASS" && separator == b':' {
            continue;
        }
        let level = match name.text {
            field if is_value_field(field) => rate_value_field(text, name.start),
            _ => (rate_secret_name(name.text), name.text),
        };
        let (level, key) = match level {
            (level @ (SecretNameLevel::Unlikely | SecretNameLevel::Possible), key) => match read_phrase(text, &name) {
                Some((phrase, of_phrase)) if of_phrase > level => (of_phrase, phrase),
                // `public key`, `partition key`
                Some((_, SecretNameLevel::Unlikely)) if level == SecretNameLevel::Possible => continue,
                _ if level == SecretNameLevel::Unlikely => match rate_member_name(text, name.text, name.start, at) {
                    Some(parent) => (SecretNameLevel::Possible, parent),
                    None => continue,
                },
                _ => (level, key),
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
            // PHP prints the value in the next line.
            start += bytes[start..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        }
        let is_spaced = matches!(bytes.get(start), Some(b' ' | b'\t'));
        start += bytes[start..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let Some(first) = bytes.get(start) else { return };
        if is_credentials_header(self.key) {
            return read_header_secrets(text, self.key, start).into_iter().for_each(|secret| self.push(secret));
        }
        if let Some(value) = read_wrapped(text, start) {
            return self.add_value(value, PairContext::Assignment);
        }
        match first {
            b'\n' | b'\r' if separator == b':' => self.read_next_lines(name, start),
            b'|' | b'>' if separator == b':' && is_block_sign(text, start) => self.read_block(name, start),
            b'[' if !text[start..].starts_with("[secret:") => self.read_list(start),
            b'{' if separator == b'=' => {
                if let Some(value) = read_braced(text, start) {
                    self.add_value(value, PairContext::Assignment);
                }
            }
            b'{' | b'\n' | b'\r' => {}
            _ if text[start..].starts_with("\"\"\"") || text[start..].starts_with("'''") => {
                self.read_triple_quoted(start);
            }
            _ => {
                let is_line = self.is_first && name.quote.is_none() && (separator == b'=' || is_spaced);
                let may_be_quoted_pair = separator == b'=' && name.quote.is_none();
                let rest_of_quoted =
                    || may_be_quoted_pair.then(|| read_rest_of_quoted(text, name.start, start)).flatten();
                let value = match read_quoted(text, start).or_else(rest_of_quoted) {
                    Some(value) => value,
                    None if is_line && separator == b':' => read_line_value(text, start),
                    None => read_bare_value(text, start, is_line),
                };
                // `this.password = password;` of a program.
                let is_variable = !value.is_quoted
                    && separator == b'='
                    && is_spaced
                    && text[value.range.end..].starts_with(';')
                    && text[value.range.clone()].bytes().all(|byte| byte.is_ascii_alphabetic());
                if is_variable {
                    return;
                }
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
    // `config["name"] = value`, `[name] => value`
    let is_entry = end > 1 && bytes[end - 1] == b']' && bytes[separator] == b'=';
    if is_entry && (matches!(bytes[end - 2], b'"' | b'\'') || bytes.get(separator + 1) == Some(&b'>')) {
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
    // `${NAME:?message}` of a shell is a message, and `${NAME:+word}` a word.
    if bytes[separator] == b':'
        && text[..start].ends_with("${")
        && matches!(bytes.get(separator + 1), Some(b'?' | b'+'))
    {
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

/// Returns the name of several words that ends with a name: `Unseal Key 1`, `Secret Access Key`, `Secret ID`.
fn read_phrase<'a>(text: &'a str, name: &PairName<'a>) -> Option<(&'a str, SecretNameLevel)> {
    let last = name.text;
    let may_end_phrase = last.bytes().all(|byte| byte.is_ascii_digit())
        || ["phrase", "key", "id", "code", "string"].iter().any(|end| last.eq_ignore_ascii_case(end));
    if name.quote.is_some() || !may_end_phrase {
        return None;
    }
    let from = line_start(text, name.start).max(name.start.saturating_sub(40));
    let from = text.ceil_char_boundary(from);
    let before = text[from..name.start].strip_suffix(' ')?;
    let is_letter = |char: char| char.is_ascii_alphabetic();
    let one = before.trim_end_matches(is_letter).len();
    let two = before[..one].strip_suffix(' ').map_or(one, |rest| rest.trim_end_matches(is_letter).len());
    let phrase = &text[from + two..name.start + last.len()];
    (one < before.len()).then(|| (phrase, rate_secret_name(phrase)))
}
