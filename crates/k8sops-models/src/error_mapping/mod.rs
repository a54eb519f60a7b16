//! Maps a provider's failures to [`ModelError`](crate::ModelError)s, whose messages say what was attempted, what was found
//! and what to do. The mapping is the same for all providers, and for error responses as for errors within a stream.

mod error_body;
mod provider_call;
mod rejection;
mod retry_after;
#[cfg(test)]
mod server_bodies;
#[cfg(test)]
mod tests;
mod token_limits;

pub(crate) use error_body::{ProviderErrorBody, find_error_object};
pub(crate) use provider_call::{ProviderCall, ProviderEndpoint, innermost_cause};
pub(crate) use retry_after::parse_retry_after;
