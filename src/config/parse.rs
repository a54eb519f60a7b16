//! Values: text to types, and text for people.

pub(super) use k8sops_core::{is_loopback, mask_url, printable_excerpt as shown};

use std::time::Duration;

/// `true/false/1/0/yes/no/on/off` in any case.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// A whole number from 1 on that fits.
pub(super) fn positive<T: TryFrom<u64>>(text: &str) -> Option<T> {
    let number: u64 = text.replace('_', "").parse().ok()?;
    (number > 0).then(|| T::try_from(number).ok()).flatten()
}

/// A share like `0.75`, or `75%`, in percent.
pub(super) fn share(text: &str) -> Option<u8> {
    let percent = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().ok()?,
        None => text.parse::<f64>().ok()? * 100.0,
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 10 to 95")]
    (10.0..=95.0).contains(&percent).then(|| percent.round() as u8)
}

/// A duration as Ollama takes it: of Go's syntax, or a whole number of seconds; negative is for ever.
pub(super) fn keep_alive(text: &str) -> Option<String> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let fits = |c: char| c.is_ascii_digit() || matches!(c, 'h' | 'm' | 's' | '.');
    (digits.starts_with(|c: char| c.is_ascii_digit()) && digits.chars().all(fits)).then(|| text.to_owned())
}

/// An amount of dollars that is not negative.
pub(super) fn dollars(text: &str) -> Option<k8sops_core::UsdAmount> {
    let dollars = text.trim_start_matches('$').parse::<f64>().ok()?;
    (0.0..1e6).contains(&dollars).then(|| k8sops_core::UsdAmount::from_dollars(dollars))
}

/// A number of bytes, with or without `KiB`, `MiB`, `GiB`.
pub(super) fn size(text: &str) -> Option<usize> {
    let text = text.to_ascii_lowercase();
    let (digits, unit) = split_unit(&text);
    let factor: u64 = match unit {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => return None,
    };
    let bytes = digits.parse::<u64>().ok()?.checked_mul(factor)?;
    if (1..=1 << 30).contains(&bytes) { usize::try_from(bytes).ok() } else { None }
}

/// A duration with a unit; a bare number is seconds.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let text = text.to_ascii_lowercase();
    let (digits, unit) = split_unit(&text);
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let duration = Duration::from_millis(digits.parse::<u64>().ok()?.checked_mul(milliseconds)?);
    (duration > Duration::ZERO && duration <= Duration::from_hours(30 * 24)).then_some(duration)
}

/// A duration of at least a minute and at most ten years.
pub(super) fn long_duration(text: &str) -> Option<Duration> {
    let text = text.to_ascii_lowercase();
    let (digits, unit) = split_unit(&text);
    let seconds: u64 = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    let seconds = digits.parse::<u64>().ok()?.checked_mul(seconds)?;
    (60..=3650 * 86_400).contains(&seconds).then(|| Duration::from_secs(seconds))
}

/// A name that can be a part of a key.
pub(super) fn name(text: &str) -> Option<String> {
    let good = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b));
    (good && (1..=64).contains(&text.len())).then(|| text.to_owned())
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// `name=value` pairs with commas between, values percent-encoded where they must be: as OpenTelemetry writes headers.
pub(super) fn headers(text: &str) -> Option<std::collections::BTreeMap<String, secrecy::SecretString>> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let name = http::HeaderName::try_from(name.trim()).ok()?;
        let value = percent_decoded(value.trim())?;
        http::HeaderValue::try_from(&value).ok()?;
        Some((name.to_string(), value.into()))
    };
    text.split(',').filter(|pair| !pair.trim().is_empty()).map(pair).collect()
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

/// An absolute `http` or `https` URL, without its trailing slashes.
pub(super) fn url(text: &str) -> Option<String> {
    let url = reqwest::Url::parse(text).ok()?;
    let usable = matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|host| !host.is_empty());
    usable.then(|| text.trim_end_matches('/').to_owned())
}

/// Printable ASCII without spaces.
pub(super) fn key(text: &str) -> Option<String> {
    (!text.is_empty() && text.len() <= 256 && text.bytes().all(|b| b.is_ascii_graphic())).then(|| text.to_owned())
}

/// Origins of web pages: scheme, host and port, as browsers send them.
pub(super) fn origins(text: &str) -> Option<Vec<String>> {
    let origins = text.split(',').map(|origin| {
        let origin = origin.trim().trim_end_matches('/');
        let url = reqwest::Url::parse(origin).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
        let exact = url.origin().ascii_serialization();
        exact.eq_ignore_ascii_case(origin).then_some(exact)
    });
    origins.collect::<Option<Vec<_>>>().filter(|origins| !origins.is_empty())
}

/// An IP address or a host name; not a URL, no port.
pub(super) fn host(text: &str) -> Option<String> {
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    if inner.parse::<std::net::IpAddr>().is_ok() {
        return Some(inner.to_owned());
    }
    let name =
        !text.is_empty() && text.len() <= 253 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    // `1.2.3` and `8080` would be looked up as names and fail late.
    (name && !text.bytes().all(|b| b.is_ascii_digit() || b == b'.')).then(|| text.to_owned())
}

/// A JSON array of strings, or words as a POSIX shell splits them (quotes and backslashes, no expansion).
pub(super) fn words(text: &str) -> Option<Vec<String>> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).ok();
    }
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => match chars.next()? {
                            c @ ('"' | '\\' | '$' | '`') => word.push(c),
                            c => word.extend(['\\', c]),
                        },
                        c => word.push(c),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next()?),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Some(words)
}

/// A filter for logs, in `tracing`'s form.
pub(super) fn log_level(text: &str) -> Option<String> {
    let level = |text: &str| match text.to_ascii_lowercase().as_str() {
        "warning" => Some("warn".to_owned()),
        level @ ("error" | "warn" | "info" | "debug" | "trace" | "off") => Some(level.to_owned()),
        _ => None,
    };
    if let Some(level) = level(text) {
        return Some(level);
    }
    // A bare word that is no level would be taken as the name of a module, and nothing would be logged.
    let directives = text.split(',').all(|part| part.contains('=') || level(part.trim()).is_some());
    (directives && text.parse::<tracing_subscriber::filter::Targets>().is_ok()).then(|| text.to_owned())
}

/// A secret as it may be shown: enough to tell two keys apart, too little to use one.
pub(super) fn mask(secret: &str) -> String {
    let length = secret.chars().count();
    let tail: String = if length > 12 { secret.chars().skip(length - 2).collect() } else { String::new() };
    format!("****{tail}")
}

/// The one of `known` that was probably meant: at most two letters away, and not a different word altogether.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = if word.chars().count() > 2 { 2 } else { 1 };
    known.into_iter().map(|k| (distance(word, k), k)).filter(|(d, _)| *d <= limit).min().map(|(_, k)| k)
}

/// Levenshtein's distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let next = (diagonal + usize::from(x != *y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], next);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_split_as_in_a_shell_or_come_as_json() {
        let ok = |text: &str| words(text).unwrap();
        assert_eq!(ok(r#"-y  pkg --a="b c" 'd "e"' "" f\ g"#), ["-y", "pkg", "--a=b c", "d \"e\"", "", "f g"]);
        assert_eq!(ok(r#"["-y", "a b"]"#), ["-y", "a b"]);
        assert_eq!(ok("  "), Vec::<String>::new());
        for bad in ["'open", "\"open", "end\\", "[1]", "[\"a\""] {
            assert_eq!(words(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_and_sizes_have_units_and_bounds() {
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("20"), Some(Duration::from_secs(20)));
        assert_eq!(duration("2 h"), Some(Duration::from_hours(2)));
        for bad in ["", "0s", "-1s", "1.5s", "1y", "31d", "99999999999999999999s", "18446744073709551615h"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
        assert_eq!(size("64KiB"), Some(65536));
        assert_eq!(size("1"), Some(1));
        for bad in ["0", "2GiB", "-1", "1TB", "KiB"] {
            assert_eq!(size(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_host_is_no_url_and_a_log_level_no_guess() {
        for good in ["127.0.0.1", "::1", "localhost", "my-host.example"] {
            assert!(host(good).is_some(), "{good}");
        }
        assert_eq!(host("[::]").as_deref(), Some("::"));
        for bad in ["", "http://x", "a:80", "a b", "1.2.3", "8080"] {
            assert_eq!(host(bad), None, "{bad}");
        }
        assert_eq!(log_level("WARNING").as_deref(), Some("warn"));
        assert!(log_level("info,rmcp=debug").is_some());
        for bad in ["verbose", "info,loud", "k8sops=loud"] {
            assert_eq!(log_level(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_shown_of_a_secret_cannot_be_used() {
        assert_eq!(mask("short"), "****");
        assert_eq!(mask("sk-ant-0123456789xy"), "****xy");
        assert_eq!(shown("a\nb"), "a\\nb");
    }

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        assert_eq!(nearest("prot", ["port", "host"]), Some("port"));
        assert_eq!(nearest("K8SOPS_PROT", ["K8SOPS_PORT", "K8SOPS_HOST"]), Some("K8SOPS_PORT"));
        assert_eq!(nearest("hots", ["port", "hosts"]), Some("hosts"));
        assert_eq!(nearest("banana", ["port", "host"]), None);
    }
}
