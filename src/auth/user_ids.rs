//! Maps user names of other systems to a [`UserId`], which is used as a folder name and in store keys.

use std::sync::LazyLock;

use data_encoding::{Encoding, Specification};
use k8sops_core::UserId;
use sha2::{Digest, Sha256};

/// Separates the readable part from the digest in a derived id.
const DIGEST_MARK: &str = ".x-";
/// The number of base32 characters of the digest: 160 bits.
const DIGEST_LENGTH: usize = 32;
/// The number of characters of the name that are kept for readability.
const READABLE_LENGTH: usize = 64 - DIGEST_MARK.len() - DIGEST_LENGTH;

/// RFC 4648 in lower case: ids stay distinct on file systems that ignore case.
static BASE32: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    specification.encoding().expect("32 distinct symbols")
});

/// Returns the id of a user with this name in another system.
///
/// A name that is a valid id is used as it is. Any other name becomes its readable beginning and a digest of the whole name.
/// Two names never have the same id: a name that looks like a derived id is digested, too.
#[must_use]
pub fn user_id_from_name(name: &str) -> UserId {
    match name.parse() {
        Ok(id) if !is_derived(name) => id,
        _ => derive_id(name),
    }
}

fn derive_id(name: &str) -> UserId {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "_@-".contains(c) { c } else { '-' };
    // An id must not start with a dot.
    let readable: String =
        if name.is_empty() { "-".into() } else { name.chars().take(READABLE_LENGTH).map(safe).collect() };
    let digest = BASE32.encode(&Sha256::digest(name.as_bytes())[..DIGEST_LENGTH * 5 / 8]);
    format!("{readable}{DIGEST_MARK}{digest}").parse().expect("at most 64 characters of the alphabet of ids")
}

fn is_derived(id: &str) -> bool {
    let Some((_, digest)) = id.rsplit_once(DIGEST_MARK) else { return false };
    digest.len() == DIGEST_LENGTH && digest.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn invalid_names_become_derived_ids() {
        for plain in ["anna", "anna.b@example.org", "5f7c-11", "a.x-b"] {
            assert_eq!(user_id_from_name(plain).as_str(), plain);
        }
        let derived = user_id_from_name("auth0|5f7c");
        assert!(derived.as_str().starts_with("auth0-5f7c.x-"), "{derived}");
        let long = "x".repeat(300);
        for name in ["", ".", "..", "../anna", "a/b", "ä@example.org", "a b", "\0", &long, "auth0|5f7d", ".anna"] {
            let id = user_id_from_name(name);
            assert!(
                id.as_str().len() <= 64 && !id.as_str().starts_with('.') && is_derived(id.as_str()),
                "{name}: {id}"
            );
            assert_ne!(id, derived);
        }
        // A name that equals the derived id of another user belongs to a different user.
        assert_ne!(user_id_from_name(derived.as_str()), derived);
    }

    proptest! {
        #[test]
        fn different_names_have_different_ids(names in proptest::collection::hash_set("[ -~ä]{0,70}", 2..20)) {
            let ids: HashSet<_> = names.iter().map(|name| user_id_from_name(name)).collect();
            prop_assert_eq!(ids.len(), names.len());
        }
    }
}
