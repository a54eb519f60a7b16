//! Replacement of ranges of a text by placeholders, so that JSON and YAML stay valid.

use std::{borrow::Cow, ops::Range};

use super::{
    found_secret::Replacement,
    json_leaves::{confine_to_json_leaves, confine_to_json_lines, is_json},
    placeholder::find_placeholders,
    text_lines::{indent_of, line_end, lines_from},
    yaml_flow::find_flow_scalars,
};

/// How far before a placeholder the beginning of its line is looked for.
const MAX_PREFIX_LEN: usize = 400;

/// Replaces ranges of a text.
///
/// Where two ranges overlap, the one that begins first counts, and of two that begin together the longer one. The rest of the
/// other range is removed, too, so that no end of a secret remains. Placeholders that the text already has stay as they are.
pub(super) fn apply_replacements(text: &str, replacements: Vec<Replacement>) -> Cow<'_, str> {
    if replacements.is_empty() {
        return Cow::Borrowed(text);
    }
    let is_json = is_json(text);
    let mut replacements = match is_json {
        true => confine_to_json_leaves(text, replacements),
        false => confine_to_json_lines(text, replacements),
    };
    // Of equal ranges, the first one counts: detectors are in the order of what they know about a value.
    replacements.sort_by(|(a, _), (b, _)| a.start.cmp(&b.start).then(b.end.cmp(&a.end)));
    let placeholders: Vec<Range<usize>> = find_placeholders(text).map(|found| found.range).collect();
    let mut next_placeholders = placeholders.iter().peekable();
    let mut applied: Vec<Replacement> = Vec::with_capacity(replacements.len());
    for (range, replacement) in replacements {
        while next_placeholders.peek().is_some_and(|placeholder| placeholder.end <= range.start) {
            next_placeholders.next();
        }
        let mut range = range;
        if let Some(placeholder) = next_placeholders.peek().filter(|placeholder| placeholder.start <= range.start) {
            // What is behind a placeholder is replaced, and the placeholder stays as it is.
            range.start = placeholder.end.min(range.end);
            if range.is_empty() || placeholder.end >= range.end {
                continue;
            }
        }
        match applied.last_mut() {
            Some((last, _)) if range.start < last.end => last.end = last.end.max(range.end),
            _ => applied.push((range, replacement)),
        }
    }
    if applied.is_empty() {
        return Cow::Borrowed(text);
    }
    let flow_scalars = if is_json { Vec::new() } else { find_flow_scalars(text) };
    let mut redacted = String::with_capacity(text.len());
    let mut done = 0;
    let mut open_quote: Option<usize> = None;
    for (range, replacement) in applied {
        if let Some(end) = open_quote.filter(|end| *end <= range.start) {
            // A secret may reach beyond the end of the scalar.
            push_quoted_part(&mut redacted, &text[done..end.max(done)]);
            redacted.push('\'');
            done = end.max(done);
            open_quote = None;
        }
        if open_quote.is_some() {
            push_quoted_part(&mut redacted, &text[done..range.start]);
        } else if let Some(scalar) = yaml_scalar_to_quote(text, &range, &flow_scalars).filter(|_| !is_json) {
            redacted.push_str(&text[done..scalar.start.max(done)]);
            redacted.push('\'');
            push_quoted_part(&mut redacted, &text[scalar.start.max(done)..range.start]);
            open_quote = Some(scalar.end);
        } else {
            redacted.push_str(&text[done..range.start]);
        }
        redacted.push_str(&replacement);
        done = range.end;
    }
    if let Some(end) = open_quote {
        push_quoted_part(&mut redacted, &text[done..end.max(done)]);
        redacted.push('\'');
        done = end.max(done);
    }
    redacted.push_str(&text[done..]);
    Cow::Owned(redacted)
}

fn push_quoted_part(redacted: &mut String, part: &str) {
    redacted.push_str(&part.replace('\'', "''"));
}

/// Returns the plain scalar of YAML that has to be quoted, because a placeholder is at its beginning with something behind it, or
/// because it is in a flow collection: `- [secret:…] was rejected`, `[--password=[secret:…]]`.
fn yaml_scalar_to_quote(text: &str, range: &Range<usize>, flow_scalars: &[Range<usize>]) -> Option<Range<usize>> {
    let in_flow = flow_scalars.partition_point(|scalar| scalar.end <= range.start);
    if let Some(scalar) = flow_scalars.get(in_flow).filter(|scalar| scalar.start <= range.start) {
        return (scalar != range).then(|| scalar.clone());
    }
    let from = text.ceil_char_boundary(range.start.saturating_sub(MAX_PREFIX_LEN));
    let prefix = &text[from..range.start];
    let prefix = match prefix.rfind('\n') {
        Some(newline) => &prefix[newline + 1..],
        None if from == 0 => prefix,
        None => return None,
    };
    let end = line_end(text, range.end);
    let rest = text[range.end..end].trim_end();
    let is_whole = rest.is_empty() || rest.trim_start().starts_with('#') && rest.starts_with(' ');
    if is_whole || rest.starts_with(['"', '\'']) {
        return None;
    }
    let column = entry_column(prefix)?;
    // A plain scalar continues on lines with more indentation.
    let mut scalar_end = range.end + rest.len();
    for line in lines_from(text, range.end).skip(1) {
        let content = text[line.clone()].trim_end();
        if content.trim_start().is_empty() || indent_of(text, line.start) <= column {
            break;
        }
        scalar_end = line.start + content.len();
    }
    Some(range.start..scalar_end)
}

/// Returns the column of the block entry of YAML whose value begins behind the prefix of a line: of its key, or of its `- `.
/// `None` if there is no such entry.
fn entry_column(prefix: &str) -> Option<usize> {
    let mut rest = prefix.trim_start_matches(' ');
    let mut column = None;
    while let Some(item) = rest.strip_prefix("- ") {
        column = Some(prefix.len() - rest.len());
        rest = item.trim_start_matches(' ');
    }
    if rest.is_empty() {
        return column;
    }
    let (key, space) = rest.split_once(':')?;
    let is_key = key
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/' | b'"' | b'\''));
    let is_entry = is_key && !space.is_empty() && space.bytes().all(|byte| byte == b' ');
    is_entry.then(|| prefix.len() - rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replace(text: &str, secret: &str) -> String {
        let replacements = text.match_indices(secret).map(|(at, _)| (at..at + secret.len(), "[secret:a:b]".to_owned()));
        apply_replacements(text, replacements.collect()).into_owned()
    }

    #[test]
    fn yaml_scalars_are_quoted_where_a_placeholder_would_break_them() {
        for (text, expected) in [
            ("key: XX", "key: [secret:a:b]"),
            ("key: XX # comment", "key: [secret:a:b] # comment"),
            ("- XX it's rejected", "- '[secret:a:b] it''s rejected'"),
            ("key: XX and XX", "key: '[secret:a:b] and [secret:a:b]'"),
            ("key: XX is\n  continued\nb: 1", "key: '[secret:a:b] is\n  continued'\nb: 1"),
            ("args: [--password=XX, b]", "args: ['--password=[secret:a:b]', b]"),
            ("args: [a, XX]", "args: [a, [secret:a:b]]"),
            ("a: {b: x-XX, c: d}", "a: {b: 'x-[secret:a:b]', c: d}"),
            ("a: \"x XX y\"", "a: \"x [secret:a:b] y\""),
            ("url: amqp://u:XX@h", "url: amqp://u:[secret:a:b]@h"),
            ("2026 login: ok XX y", "2026 login: ok [secret:a:b] y"),
            ("{\"a\": \"XX b\"}", "{\"a\": \"[secret:a:b] b\"}"),
        ] {
            assert_eq!(replace(text, "XX"), expected);
        }
    }
}
