//! The credentials of a request.

use std::net::IpAddr;

use super::errors::AuthRejection;

/// The longest accepted token, in bytes. Tokens of large organizations have a few thousand bytes; a request head cannot be
/// larger than 128 KiB.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// What a request presents to identify its caller.
pub struct Credentials<'a> {
    /// The bearer token.
    pub bearer: Option<&'a str>,
    /// The address of the TCP peer. Addresses in headers are not trusted.
    pub peer: Option<IpAddr>,
    /// Returns all values of a header as they were sent.
    pub header: &'a dyn Fn(&str) -> Vec<Vec<u8>>,
}

impl<'a> Credentials<'a> {
    /// Returns the bearer token, or a rejection if it is missing or too long.
    pub(super) fn require_bearer(&self) -> Result<&'a str, AuthRejection> {
        let token = self.bearer.ok_or(AuthRejection::Missing("send a key or token: Authorization: Bearer …"))?;
        check_token_length(token)?;
        Ok(token)
    }
}

/// Rejects a token that is longer than allowed.
pub(super) fn check_token_length(token: &str) -> Result<(), AuthRejection> {
    if token.len() > MAX_TOKEN_BYTES {
        return Err(AuthRejection::Invalid(format!("the token is longer than {MAX_TOKEN_BYTES} bytes")));
    }
    Ok(())
}
