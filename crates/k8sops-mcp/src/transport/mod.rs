//! Transports: how messages get to a server and back.

pub(crate) mod correlating_client;
pub(crate) mod handshake;
pub(crate) mod http_connector;
pub(crate) mod id_scanner;
pub(crate) mod inbound_filter;
pub(crate) mod line_transport;
pub(crate) mod redact;
pub(crate) mod stdio_connector;
