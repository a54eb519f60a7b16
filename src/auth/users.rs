//! From a name that somebody else gave to a [`UserId`], which is a folder name and a part of keys.

use sha2::{Digest, Sha256};

use k8sops_core::UserId;

/// Stands before the digest in an id that was made.
const MARK: &str = ".x-";
/// Characters of the digest: 160 bits.
const DIGEST: usize = 32;
/// Characters of the name that are kept, so that people know whose it is.
const KEPT: usize = 64 - MARK.len() - DIGEST;

/// The id of a user whom somebody else names. A name that can be an id is one; any other becomes the beginning of it that is
/// readable and a digest of the whole. No two names have one id: an id with a digest is never a name that was left as it is.
#[must_use]
pub fn user_id(name: &str) -> UserId {
    match name.parse() {
        Ok(id) if !is_made(name) => id,
        _ => made(name),
    }
}

fn made(name: &str) -> UserId {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "_@-".contains(c) { c } else { '-' };
    // An id does not begin with a dot.
    let kept: String = if name.is_empty() { "-".into() } else { name.chars().take(KEPT).map(safe).collect() };
    let digest = base32(&Sha256::digest(name.as_bytes())[..DIGEST * 5 / 8]);
    format!("{kept}{MARK}{digest}").parse().expect("at most 64 characters of the alphabet of ids")
}

fn is_made(id: &str) -> bool {
    let Some((_, digest)) = id.rsplit_once(MARK) else { return false };
    digest.len() == DIGEST && digest.bytes().all(|b| b.is_ascii_lowercase() || (b'2'..=b'7').contains(&b))
}

/// RFC 4648 in lower case: a file system that does not tell cases apart tells these apart.
fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 8 / 5);
    for five in bytes.chunks_exact(5) {
        let bits = five.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        text.extend(
            (0..8).rev().map(|at| char::from(b"abcdefghijklmnopqrstuvwxyz234567"[(bits >> (at * 5) & 31) as usize])),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_that_can_be_an_id_is_one_and_any_other_is_made_one() {
        for plain in ["anna", "anna.b@example.org", "5f7c-11", "a.x-b"] {
            assert_eq!(user_id(plain).as_str(), plain);
        }
        let made = user_id("auth0|5f7c");
        assert!(made.as_str().starts_with("auth0-5f7c.x-"), "{made}");
        let long = "x".repeat(300);
        for name in ["", ".", "..", "../anna", "a/b", "ä@example.org", "a b", "\0", &long, "auth0|5f7d", ".anna"] {
            let id = user_id(name);
            assert!(id.as_str().len() <= 64 && !id.as_str().starts_with('.') && is_made(id.as_str()), "{name}: {id}");
            assert_ne!(id, made);
        }
        // Somebody whose name is another's id is somebody else.
        assert_ne!(user_id(made.as_str()), made);
    }

    proptest! {
        #[test]
        fn two_names_are_two_users(names in proptest::collection::hash_set("[ -~ä]{0,70}", 2..20)) {
            let ids: HashSet<_> = names.iter().map(|name| user_id(name)).collect();
            prop_assert_eq!(ids.len(), names.len());
        }
    }
}
