//! Numbers with their units, as tools print them.

/// Returns the number that a text stands for: `41`, `250m`, `3.5Gi`, `85%`, `12.5ms`, `2d3h`, `41 (3m ago)`, or a time of
/// RFC 3339 in seconds. Numbers are only compared within one column or field, so the unit of the result does not matter.
pub(super) fn parse_quantity(text: &str) -> Option<f64> {
    let text = text.trim();
    if !text.starts_with(|char: char| char.is_ascii_digit() || matches!(char, '-' | '+' | '.')) {
        return None;
    }
    if let Some(seconds) = parse_time(text) {
        return Some(seconds);
    }
    let number = text.split_once(" (").map_or(text, |(number, _)| number);
    let mut rest = number;
    let mut total = 0.0;
    let mut parts = 0;
    while !rest.is_empty() {
        let digits = number_end(rest);
        let value: f64 = rest.get(..digits)?.parse().ok()?;
        let unit_end = rest[digits..].find(|char: char| char.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let unit = rest[digits..unit_end].trim();
        total += value * unit_factor(unit)?;
        parts += 1;
        // Only durations have several parts.
        if parts > 1 && !matches!(unit, "d" | "h" | "m" | "s" | "ms") {
            return None;
        }
        rest = &rest[unit_end..];
    }
    (parts > 0).then_some(total)
}

fn number_end(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = usize::from(matches!(bytes.first(), Some(b'-' | b'+')));
    while let Some(byte) = bytes.get(at) {
        let is_exponent = matches!(byte, b'e' | b'E')
            && at > 0
            && bytes.get(at + 1).is_some_and(|next| next.is_ascii_digit() || matches!(next, b'-' | b'+'));
        if is_exponent {
            at += 2;
        } else if byte.is_ascii_digit() || *byte == b'.' {
            at += 1;
        } else {
            break;
        }
    }
    at
}

fn unit_factor(unit: &str) -> Option<f64> {
    Some(match unit {
        "" | "s" | "%" | "B" | "b" | "x" => 1.0,
        // Thousandths of a CPU, or minutes; a column has only one of them, or durations with other units.
        "m" => 60.0,
        "n" | "ns" => 1e-9,
        "u" | "us" | "µs" | "μs" => 1e-6,
        "ms" => 1e-3,
        "h" => 3_600.0,
        "d" => 86_400.0,
        "w" => 604_800.0,
        "y" => 31_536_000.0,
        "k" | "K" | "kB" | "KB" => 1e3,
        "M" | "MB" => 1e6,
        "G" | "GB" => 1e9,
        "T" | "TB" => 1e12,
        "P" | "PB" => 1e15,
        "Ki" | "KiB" => 1_024.0,
        "Mi" | "MiB" => 1_048_576.0,
        "Gi" | "GiB" => 1_073_741_824.0,
        "Ti" | "TiB" => 1_099_511_627_776.0,
        _ => return None,
    })
}

/// Returns whether a text is a time of RFC 3339, with or without a zone.
pub(super) fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 19
        && bytes.len() <= 40
        && bytes[4] == b'-'
        && bytes[7] == b'-'
        && matches!(bytes[10], b'T' | b' ')
        && bytes[13] == b':'
        && bytes[16] == b':'
        && bytes[..4].iter().all(u8::is_ascii_digit)
}

/// Returns the seconds since 1970 of a time of RFC 3339. Zones do not matter here: one output has one.
fn parse_time(text: &str) -> Option<f64> {
    if !is_time(text) {
        return None;
    }
    let part = |from: usize, to: usize| text.get(from..to)?.parse::<u32>().ok().map(f64::from);
    let month = part(5, 7)?;
    // Days since 1970 of the Gregorian calendar, in which a year begins in March.
    let year = part(0, 4)? - f64::from(u8::from(month <= 2.0));
    let day_of_year = ((153.0 * ((month + 9.0) % 12.0) + 2.0) / 5.0).floor() + part(8, 10)?;
    let leap_days = (year / 4.0).floor() - (year / 100.0).floor() + (year / 400.0).floor();
    let days = year * 365.0 + leap_days + day_of_year - 719_469.0;
    Some(days * 86_400.0 + part(11, 13)? * 3_600.0 + part(14, 16)? * 60.0 + part(17, 19)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_numbers_with_units() {
        for (text, number) in [
            ("41", Some(41.0)),
            ("41 (3m ago)", Some(41.0)),
            ("-0.5", Some(-0.5)),
            ("1e3", Some(1_000.0)),
            ("2Ki", Some(2_048.0)),
            ("1h30m", Some(5_400.0)),
            ("85%", Some(85.0)),
            ("12.5ms", Some(0.0125)),
            ("10.0.3.4", None),
            ("1/1", None),
            ("v1", None),
            ("3 pods", None),
            ("", None),
        ] {
            let parsed = parse_quantity(text);
            let is_equal = match (parsed, number) {
                (Some(parsed), Some(number)) => (parsed - number).abs() < 1e-9,
                (parsed, number) => parsed == number,
            };
            assert!(is_equal, "{text:?}: {parsed:?}");
        }
        let earlier = parse_quantity("2026-11-29T10:00:00Z");
        assert!(earlier.is_some() && earlier < parse_quantity("2026-11-30T09:00:00.5Z"));
        for (time, seconds) in [
            ("1970-01-01T00:00:00Z", 0.0),
            ("2024-02-29T23:59:59Z", 1_709_251_199.0),
            ("2024-03-01T00:00:00Z", 1_709_251_200.0),
            ("2026-12-31 12:00:00", 1_798_718_400.0),
        ] {
            assert_eq!(parse_quantity(time), Some(seconds), "{time}");
        }
    }
}
