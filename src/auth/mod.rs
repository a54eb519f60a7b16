//! Authentication: from the credentials of a request to a user and their roles.
//!
//! This module covers API keys, tokens of an OIDC issuer, headers of a trusted proxy, and what each role allows. It does not
//! depend on HTTP types: it gets the credentials as text and returns an identity or a rejection.
//!
//! ```text
//! Credentials ─▶ Authenticator ─┬─ none:    every caller is the same user
//!                               ├─ api_key: a file of key hashes, reloaded when it changes
//!                               ├─ jwt:     public keys of the issuer, refreshed periodically
//!                               └─ proxy:   a header, accepted from listed addresses only
//!                                     └─▶ CallerIdentity: user, roles and expiry
//! ```

mod api_keys;
mod authenticator;
mod clock;
mod credentials;
mod errors;
mod identity;
mod jwks;
mod jwt;
mod key_table;
mod options;
mod proxy;
mod roles;
mod tickets;
mod user_ids;

pub use api_keys::NewKey;
pub use authenticator::Authenticator;
pub use credentials::Credentials;
pub use errors::{AuthError, AuthRejection, KeyFileError, KeyFileProblem};
pub use identity::CallerIdentity;
pub use options::{AuthConfig, AuthMode, AuthModeName, AuthOptions, JwtOptions, MetricsAccess, ProxyOptions};
pub use roles::{RoleSet, UserRole};
pub use tickets::{IssuedTicket, TicketError, TicketOffice};
pub use user_ids::user_id_from_name;
