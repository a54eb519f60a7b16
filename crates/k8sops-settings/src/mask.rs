//! How a secret is shown.

use k8sops_core::{mask_url, printable_excerpt};

/// Masks a secret: its last two characters tell two keys apart, and are too little to use one.
#[must_use]
pub fn mask_secret(secret: &str) -> String {
    let length = secret.chars().count();
    let end: String = if length > 12 { secret.chars().skip(length - 2).collect() } else { String::new() };
    format!("****{end}")
}

/// A value as it may be shown, of which the part that looks like the credentials of a URL is masked: a URL can be put into any
/// setting by mistake.
pub(crate) fn mask_credentials(text: &str) -> String {
    let has_credentials = text.split_once(':').is_some_and(|(_, rest)| rest.contains('@'));
    if has_credentials { mask_url(text) } else { printable_excerpt(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_of_urls_are_masked() {
        for (text, masked) in [
            ("https://a.example,https://user:secret@b.example", "https://****@b.example"),
            ("https://user:[secret@b.example", "https://****@b.example/"),
            ("https://user:secret@[::1", "https://****@[::1"),
            ("anna@example.org", "anna@example.org"),
            ("10.0.0.0/8, ::1", "10.0.0.0/8, ::1"),
        ] {
            assert_eq!(mask_credentials(text), masked);
        }
    }

    #[test]
    fn masked_secret_cannot_be_used() {
        assert_eq!(mask_secret("short"), "****");
        assert_eq!(mask_secret("sk-ant-0123456789xy"), "****xy");
    }
}
