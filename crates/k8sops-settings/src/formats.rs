//! Formats that several crates use.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use http::{HeaderName, HeaderValue};
use jiff::{Span, SpanRelativeTo};
use k8sops_core::{ReasoningEffort, UsdAmount, UserId, mask_url};
use secrecy::SecretString;
use url::Url;

use crate::{
    format::{ValueFormat, ValueKind},
    words,
};

/// Largest accepted number of bytes, 1 GiB.
const MAX_BYTE_SIZE: u64 = 1 << 30;

/// `true/false/1/0/yes/no/on/off` in any case.
pub const BOOLEAN: ValueFormat<bool> = ValueFormat::in_range(ValueKind::Boolean, |_, text| parse_boolean(text));

/// A duration from 1 ms to 30 days.
pub const DURATION: ValueFormat<Duration> = duration_in(Duration::from_millis(1), Duration::from_hours(30 * 24));

/// A number of bytes from 1 to 1 GiB.
pub const BYTE_SIZE: ValueFormat<usize> =
    ValueFormat::in_range(ValueKind::ByteSize { min: 1, max: MAX_BYTE_SIZE }, parse_byte_size);

/// An amount of US dollars that is not negative.
pub const DOLLARS: ValueFormat<UsdAmount> = ValueFormat::described("an amount of US dollars, like 2.50", parse_dollars);

/// Any text.
pub const TEXT: ValueFormat<String> = ValueFormat::described("any text", |text| Some(text.to_owned()));

/// A path as it is written; nothing is expanded.
pub const PATH: ValueFormat<PathBuf> = ValueFormat::described("a path", |text| Some(PathBuf::from(text)));

/// A path in which `~` stands for the home directory; see [`SettingScope::expand_home`](crate::SettingScope::expand_home).
pub const HOME_PATH: ValueFormat<PathBuf> =
    ValueFormat::described("a path; ~/ is the home directory", |text| Some(PathBuf::from(text)));

/// Printable ASCII without spaces, up to 256 characters.
pub const ASCII_TOKEN: ValueFormat<String> =
    ValueFormat::described("printable ASCII without spaces", parse_ascii_token);

/// A key of an API.
pub const API_KEY: ValueFormat<SecretString> =
    ValueFormat::described("a key: printable ASCII without spaces", parse_api_key).secret();

/// A name that can be part of a key in a store.
pub const KEY_NAME: ValueFormat<String> =
    ValueFormat::described("1 to 64 characters of A-Z a-z 0-9 . _ : -", parse_key_name);

/// The name of a provider or of an MCP server.
pub const ITEM_NAME: ValueFormat<String> = ValueFormat::described("1 to 32 characters of a-z 0-9 -", parse_item_name);

/// The id of a model.
pub const MODEL_ID: ValueFormat<String> =
    ValueFormat::described("a model id of at most 200 characters", |text| (text.len() <= 200).then(|| text.to_owned()));

/// The id of a user.
pub const USER_ID: ValueFormat<UserId> =
    ValueFormat::described("1 to 64 characters of A-Z a-z 0-9 . _ @ - that do not begin with a dot", |text| {
        text.parse().ok()
    });

/// An absolute `http` or `https` URL; trailing slashes are removed.
pub const HTTP_URL: ValueFormat<String> =
    ValueFormat::described("an http:// or https:// URL", parse_http_url).masked_by(mask_url);

/// An IP address or a host name.
pub const HOST_NAME: ValueFormat<String> = ValueFormat::described("an IP address or a host name", parse_host_name);

/// Words as a POSIX shell splits them, or a JSON array of strings.
pub const SHELL_WORDS: ValueFormat<Vec<String>> =
    ValueFormat::described("words as in a shell (quotes are honored), or a JSON array of strings", parse_shell_words);

/// HTTP headers as OpenTelemetry writes them: `name=value` pairs, values percent-encoded where they must be.
pub const HEADER_PAIRS: ValueFormat<BTreeMap<String, SecretString>> =
    ValueFormat::described("name=value pairs with commas between", parse_header_pairs)
        .secret()
        .masked_by(|_| "***".to_owned());

/// The value of an HTTP header.
pub const HEADER_VALUE: ValueFormat<SecretString> =
    ValueFormat::described("the value of an HTTP header, one line", parse_header_value).secret();

/// How much a model thinks.
pub const EFFORT: ValueFormat<ReasoningEffort> = words! {
    "off" => ReasoningEffort::Off,
    "low" => ReasoningEffort::Low,
    "medium" => ReasoningEffort::Medium,
    "high" => ReasoningEffort::High,
};

/// A whole number of at least `min` that fits the type.
#[must_use]
pub const fn whole_number<V: TryFrom<u64>>(min: u64) -> ValueFormat<V> {
    whole_number_in(min, u64::MAX)
}

/// A whole number from `min` to `max`.
#[must_use]
pub const fn whole_number_in<V: TryFrom<u64>>(min: u64, max: u64) -> ValueFormat<V> {
    ValueFormat::in_range(ValueKind::WholeNumber { min, max }, parse_whole_number)
}

/// A number from `min` to `max`.
#[must_use]
pub const fn number_in(min: f64, max: f64) -> ValueFormat<f64> {
    ValueFormat::in_range(ValueKind::Number { min, max }, parse_number)
}

/// A duration from `min` to `max`.
#[must_use]
pub const fn duration_in(min: Duration, max: Duration) -> ValueFormat<Duration> {
    ValueFormat::in_range(ValueKind::Duration { min, max }, parse_duration)
}

fn parse_boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn parse_whole_number<V: TryFrom<u64>>(kind: &ValueKind, text: &str) -> Option<V> {
    let ValueKind::WholeNumber { min, max } = kind else { return None };
    let number: u64 = text.replace('_', "").parse().ok()?;
    (min..=max).contains(&&number).then(|| V::try_from(number).ok()).flatten()
}

fn parse_number(kind: &ValueKind, text: &str) -> Option<f64> {
    let ValueKind::Number { min, max } = kind else { return None };
    text.parse::<f64>().ok().filter(|number| (min..=max).contains(&number))
}

fn parse_duration(kind: &ValueKind, text: &str) -> Option<Duration> {
    let ValueKind::Duration { min, max } = kind else { return None };
    let duration = if let Ok(seconds) = text.parse::<u64>() {
        Duration::from_secs(seconds)
    } else {
        let span: Span = text.to_ascii_lowercase().parse().ok()?;
        // A day of a setting is 24 hours: no time zone has a say in it.
        span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?.try_into().ok()?
    };
    (min..=max).contains(&&duration).then_some(duration)
}

fn parse_byte_size(kind: &ValueKind, text: &str) -> Option<usize> {
    let ValueKind::ByteSize { min, max } = kind else { return None };
    let text = text.to_ascii_lowercase();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let factor: u64 = match text[end..].trim_start() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return None,
    };
    let bytes = text[..end].parse::<u64>().ok()?.checked_mul(factor)?;
    if (min..=max).contains(&&bytes) { usize::try_from(bytes).ok() } else { None }
}

fn parse_dollars(text: &str) -> Option<UsdAmount> {
    let dollars = text.trim_start_matches('$').parse::<f64>().ok()?;
    (0.0..1e6).contains(&dollars).then(|| UsdAmount::from_dollars(dollars))
}

fn parse_ascii_token(text: &str) -> Option<String> {
    let accepted = (1..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    accepted.then(|| text.to_owned())
}

fn parse_api_key(text: &str) -> Option<SecretString> {
    let accepted = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
    accepted.then(|| text.to_owned().into())
}

fn parse_key_name(text: &str) -> Option<String> {
    let accepted = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b));
    (accepted && (1..=64).contains(&text.len())).then(|| text.to_owned())
}

fn parse_item_name(text: &str) -> Option<String> {
    let accepted = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    (accepted && (1..=32).contains(&text.len())).then(|| text.to_owned())
}

fn parse_http_url(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let usable = matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|host| !host.is_empty());
    usable.then(|| text.trim_end_matches('/').to_owned())
}

fn parse_host_name(text: &str) -> Option<String> {
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    if inner.parse::<std::net::IpAddr>().is_ok() {
        return Some(inner.to_owned());
    }
    let is_name =
        (1..=253).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    // `1.2.3` and `8080` would be resolved as names, and fail late.
    let is_number = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    (is_name && !is_number).then(|| text.to_owned())
}

/// Stands for `#` while words are split. It is a noncharacter, so that no text contains it.
const NUMBER_SIGN: &str = "\u{fdd0}";

fn parse_shell_words(text: &str) -> Option<Vec<String>> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).ok();
    }
    // A value has no comments, and `shlex` would cut it at a word that begins with `#`.
    let words = shlex::split(&text.replace('#', NUMBER_SIGN))?;
    Some(words.into_iter().map(|word| word.replace(NUMBER_SIGN, "#")).collect())
}

fn parse_header_pairs(text: &str) -> Option<BTreeMap<String, SecretString>> {
    let pairs = text.split(',').filter(|pair| !pair.trim().is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let name = HeaderName::try_from(name.trim()).ok()?;
        let value = decode_percent(value.trim())?;
        HeaderValue::try_from(&value).ok()?;
        Some((name.to_string(), value.into()))
    });
    pairs.collect()
}

fn parse_header_value(text: &str) -> Option<SecretString> {
    HeaderValue::try_from(text).ok().map(|_| text.to_owned().into())
}

fn decode_percent(text: &str) -> Option<String> {
    // The decoder keeps a `%` that no two digits follow; here it is a mistake.
    let is_escape = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    let well_formed = text.match_indices('%').all(|(at, _)| is_escape(&text[at + 1..]));
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8().ok()?;
    well_formed.then(|| decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn durations_have_units_and_bounds() {
        for (text, milliseconds) in [
            ("500ms", 500),
            ("20", 20_000),
            ("20s", 20_000),
            ("2 h", 7_200_000),
            ("5M", 300_000),
            ("5min", 300_000),
            ("1d", 86_400_000),
            ("30d", 2_592_000_000),
            ("720h", 2_592_000_000),
            ("1h30m", 5_400_000),
        ] {
            assert_eq!(DURATION.parse(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "0s", "0", "-1s", "1y", "1mo", "31d", "99999999999999999999s", "18446744073709551615h", "s"] {
            assert_eq!(DURATION.parse(text), None, "{text}");
        }
        assert_eq!(DURATION.kind().to_string(), "a duration from 1ms to 30d, like 20s, 5m or 1h");
    }

    #[test]
    fn byte_sizes_have_units_and_bounds() {
        for (text, bytes) in [("1", 1), ("64KiB", 65536), ("64k", 65536), ("1 MiB", 1 << 20), ("1GiB", 1 << 30)] {
            assert_eq!(BYTE_SIZE.parse(text), Some(bytes), "{text}");
        }
        for text in ["", "0", "2GiB", "-1", "1TB", "KiB"] {
            assert_eq!(BYTE_SIZE.parse(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_respect_their_range_and_type() {
        assert_eq!(whole_number::<u32>(1).parse("131_072"), Some(131_072));
        assert_eq!(whole_number::<u32>(1).parse("0"), None);
        assert_eq!(whole_number::<u32>(1).parse("5000000000"), None);
        assert_eq!(whole_number_in::<u16>(0, 65535).parse("0"), Some(0));
        assert_eq!(whole_number_in::<u8>(1, 100).parse("101"), None);
        assert_eq!(number_in(0.0, 2.0).parse("2"), Some(2.0));
        for text in ["2.1", "-0.1", "nan", "inf", ""] {
            assert_eq!(number_in(0.0, 2.0).parse(text), None, "{text}");
        }
    }

    #[test]
    fn shell_words_split_as_in_a_shell_or_come_as_json() {
        let parse = |text: &str| SHELL_WORDS.parse(text);
        let words = parse(r#"-y  pkg --a="b c" 'd "e"' "" f\ g"#).unwrap();
        assert_eq!(words, ["-y", "pkg", "--a=b c", "d \"e\"", "", "f g"]);
        assert_eq!(parse(r#"["-y", "a b"]"#).unwrap(), ["-y", "a b"]);
        assert_eq!(parse("a #b 'c #d' # e").unwrap(), ["a", "#b", "c #d", "#", "e"], "a value has no comments");
        for text in ["'open", "\"open", "end\\", "[1]", "[\"a\""] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn host_names_are_not_urls() {
        for text in ["127.0.0.1", "::1", "localhost", "my-host.example"] {
            assert!(HOST_NAME.parse(text).is_some(), "{text}");
        }
        assert_eq!(HOST_NAME.parse("[::]").as_deref(), Some("::"));
        for text in ["", "http://x", "a:80", "a b", "1.2.3", "8080"] {
            assert_eq!(HOST_NAME.parse(text), None, "{text}");
        }
    }

    #[test]
    fn header_pairs_are_percent_decoded() {
        let headers = HEADER_PAIRS.parse("Authorization=Bearer%20x, api-key = a=b ,").unwrap();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.expose_secret())).collect();
        assert_eq!(headers, [("api-key", "a=b"), ("authorization", "Bearer x")]);
        for text in ["a", "a b=c", "a=%2", "a=%zz", "a=%ff", "a=x%0Ay"] {
            assert!(HEADER_PAIRS.parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn masked_secrets_cannot_be_used() {
        assert_eq!(API_KEY.mask("sk-ant-0123456789xy"), "****xy");
        assert_eq!(HTTP_URL.mask("https://u:p@h/x?token=1"), "https://****@h/x?****");
    }
}
