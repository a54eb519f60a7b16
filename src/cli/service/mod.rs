//! The service that a command talks to: its address and key, its REST calls, its WebSocket, and a service that a command starts
//! for itself.

mod access;
mod account_stream;
mod api_client;
mod found_session;
mod local_service;
mod message_upload;
mod session_connection;

pub use self::{access::ServiceOptions, api_client::ApiClientError};

pub(super) use self::{
    access::ServiceAccess,
    account_stream::AccountStream,
    api_client::{ApiClient, ModelSelection, problem_message},
    found_session::FoundSession,
    session_connection::{ConnectionEvent, SessionConnection},
};
