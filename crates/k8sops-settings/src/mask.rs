//! How a secret is shown.

/// Masks a secret: its last two characters tell two keys apart, and are too little to use one.
#[must_use]
pub fn mask_secret(secret: &str) -> String {
    let length = secret.chars().count();
    let end: String = if length > 12 { secret.chars().skip(length - 2).collect() } else { String::new() };
    format!("****{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_secret_cannot_be_used() {
        assert_eq!(mask_secret("short"), "****");
        assert_eq!(mask_secret("sk-ant-0123456789xy"), "****xy");
    }
}
