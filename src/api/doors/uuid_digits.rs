//! UUIDs as 32 hexadecimal digits, as ids of doors hold them.

use std::str::FromStr;

/// The length of a UUID in hexadecimal.
pub(super) const UUID_DIGITS: usize = 32;

/// Parses a UUID without hyphens.
pub(super) fn parse_uuid_digits<T: FromStr>(digits: &str) -> Option<T> {
    if digits.len() != UUID_DIGITS || !digits.is_ascii() {
        return None;
    }
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    parts.join("-").parse().ok()
}
