//! Quantities and ages in the notation of Kubernetes.

use super::cluster_state::SimSeconds;

/// Parses a memory quantity (`512Mi`, `2Gi`, `1G`, bytes) as MiB, rounded up.
pub(in crate::demo) fn parse_memory(text: &str) -> Option<u64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: u64 = text[..digits].parse().ok()?;
    let unit: u64 = match &text[digits..] {
        "" => 1,
        "k" => 1_000,
        "Ki" => 1 << 10,
        "M" => 1_000_000,
        "Mi" => 1 << 20,
        "G" => 1_000_000_000,
        "Gi" => 1 << 30,
        "T" => 1_000_000_000_000,
        "Ti" => 1 << 40,
        _ => return None,
    };
    let bytes = number.checked_mul(unit)?;
    (bytes > 0).then(|| bytes.div_ceil(1 << 20))
}

/// Formats MiB in the largest exact unit.
pub(in crate::demo) fn format_memory(mi: u64) -> String {
    if mi.is_multiple_of(1024) && mi > 0 { format!("{}Gi", mi / 1024) } else { format!("{mi}Mi") }
}

/// Parses a CPU quantity (`250m`, `2`) as thousandths of a core.
pub(super) fn parse_cpu(text: &str) -> Option<u64> {
    let millis = match text.strip_suffix('m') {
        Some(millis) => millis.parse().ok()?,
        None => text.parse::<u64>().ok()?.checked_mul(1000)?,
    };
    (millis > 0).then_some(millis)
}

/// Formats thousandths of a core.
pub(super) fn format_cpu(millis: u64) -> String {
    if millis.is_multiple_of(1000) { (millis / 1000).to_string() } else { format!("{millis}m") }
}

/// Formats an age as kubectl does in its AGE columns: the longer, the coarser.
pub(super) fn format_age(secs: SimSeconds) -> String {
    let s = secs.max(0);
    let m = s / 60;
    let h = s / 3600;
    let d = s / 86_400;
    match () {
        () if s < 120 => format!("{s}s"),
        () if m < 10 && s % 60 > 0 => format!("{m}m{}s", s % 60),
        () if m < 180 => format!("{m}m"),
        () if h < 8 && m % 60 > 0 => format!("{h}h{}m", m % 60),
        () if h < 48 => format!("{h}h"),
        () if d < 8 && h % 24 > 0 => format!("{d}d{}h", h % 24),
        () => format!("{d}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_use_kubernetes_notation() {
        assert_eq!(parse_memory("512Mi"), Some(512));
        assert_eq!(parse_memory("24Gi"), Some(24 * 1024));
        assert_eq!(parse_memory("1"), Some(1));
        for wrong in ["", "Mi", "-1Mi", "1.5Gi", "12mb", "0", "99999999999999Ti"] {
            assert_eq!(parse_memory(wrong), None, "{wrong}");
        }
        assert_eq!(format_memory(512), "512Mi");
        assert_eq!(format_memory(2048), "2Gi");
        assert_eq!((parse_cpu("250m"), parse_cpu("2"), parse_cpu("x")), (Some(250), Some(2000), None));
        assert_eq!((format_cpu(250), format_cpu(2000)), ("250m".into(), "2".into()));
    }

    #[test]
    fn longer_ages_are_coarser() {
        let written: Vec<String> =
            [-3, 0, 119, 121, 180, 3 * 3600 - 1, 3 * 3600 + 60, 30 * 3600, 3 * 86_400, 41 * 86_400]
                .into_iter()
                .map(format_age)
                .collect();
        assert_eq!(written, ["0s", "0s", "119s", "2m1s", "3m", "179m", "3h1m", "30h", "3d", "41d"]);
    }
}
