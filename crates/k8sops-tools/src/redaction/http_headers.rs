//! Secrets in HTTP headers: cookies, and credentials behind the name of their scheme.

use std::ops::Range;

use super::{
    secret_names::{SecretNameLevel, rate_secret_name},
    secret_values::{is_plain_value, looks_random},
    text_lines::split_ranges,
};

/// Longest HTTP header, in bytes.
const MAX_HEADER_LEN: usize = 8 << 10;

/// Returns whether a name is that of a header that carries credentials.
pub(super) fn is_credentials_header(name: &str) -> bool {
    ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-authorization"]
        .iter()
        .any(|header| name.eq_ignore_ascii_case(header))
}

/// Returns the secrets in the value of a header that begins at a position.
pub(super) fn read_header_secrets(text: &str, name: &str, start: usize) -> Vec<Range<usize>> {
    // The value may be in quotes, and in a list of one; a mapping is no value.
    let open = text[start..].bytes().take_while(|byte| matches!(byte, b'"' | b'\'' | b'[' | b'{' | b'\\')).count();
    if text[start..start + open].contains('{') || text[start..start + open].contains("[[") {
        return Vec::new();
    }
    let start = start + open;
    let rest = &text[start..text.floor_char_boundary((start + MAX_HEADER_LEN).min(text.len()))];
    let end = start + rest.find(['\n', '\r', '"', '\'', '\\', '`']).unwrap_or(rest.len());
    match name.to_ascii_lowercase().ends_with("cookie") {
        true => split_ranges(text, start..end, ';').filter_map(|cookie| read_cookie(text, cookie)).collect(),
        false if has_parameters(&text[start..end]) => {
            // Their values are in quotes.
            let end = start + rest.find(['\n', '\r']).unwrap_or(rest.len());
            read_parameters(text, start..end)
        }
        false => read_credentials(text, start..end).into_iter().collect(),
    }
}

fn read_cookie(text: &str, cookie: Range<usize>) -> Option<Range<usize>> {
    let (name, value) = text[cookie.clone()].split_once('=')?;
    let name = name.trim();
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')) {
        return None;
    }
    let is_secret = rate_secret_name(name) > SecretNameLevel::Unlikely && !is_plain_value(value);
    let start = cookie.end - value.len();
    let value = value.split([' ', ',']).next().unwrap_or_default();
    ((is_secret && value.len() >= 8) || looks_random(value.trim())).then(|| start..start + value.len())
}

/// Returns whether credentials are a list of parameters, as `Digest username="a", response="b"`.
fn has_parameters(value: &str) -> bool {
    let word = value.split(' ').nth(1).unwrap_or_default();
    word.split_once('=').is_some_and(|(name, value)| {
        name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_') && !value.is_empty() && value != "="
    }) || word.ends_with('=') && !word.ends_with("==") && word.len() <= 16
}

/// Returns the signatures and tokens among the parameters of credentials.
fn read_parameters(text: &str, header: Range<usize>) -> Vec<Range<usize>> {
    split_ranges(text, header, ',')
        .filter_map(|parameter| {
            let (name, value) = text[parameter.clone()].split_once('=')?;
            let name = name.rsplit(' ').next().unwrap_or_default().to_ascii_lowercase();
            let start = parameter.end - value.len();
            let inner = value.trim_matches(['"', ' ', '\'', '\\', '}', ']']);
            let is_secret =
                ["response", "signature", "mac", "token"].iter().any(|end| name.ends_with(end)) && looks_random(inner);
            let from = start + value.find(inner).unwrap_or_default();
            is_secret.then(|| from..from + inner.len())
        })
        .collect()
}

fn read_credentials(text: &str, header: Range<usize>) -> Option<Range<usize>> {
    let value = text[header.clone()].trim_end();
    let words: Vec<&str> = value.split(' ').collect();
    let is_scheme = |word: &str| {
        ["bearer", "basic", "token", "negotiate", "digest", "apikey", "ntlm"]
            .iter()
            .any(|scheme| word.eq_ignore_ascii_case(scheme))
    };
    let word = match words[..] {
        [scheme, word, ..] if is_scheme(scheme) => word,
        [word] => word,
        _ => return None,
    };
    let word = word.trim_end_matches([',', ';', ')', '}', ']']);
    let is_lower_case = word.bytes().all(|byte| byte.is_ascii_lowercase());
    (word.len() >= 6 && !is_lower_case && !is_plain_value(word)).then(|| {
        let start = header.start + value.find(word).unwrap_or_default();
        start..start + word.len()
    })
}
