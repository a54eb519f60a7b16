//! Options of the HTTP service.

use std::time::Duration;

use super::doors::{DOORS, OpenDoors};
use k8sops_settings::{
    ValueFormat,
    declaration::{or_empty, required},
    formats::{BOOLEAN, BYTE_SIZE, DURATION, HOST_NAME, whole_number, whole_number_in},
    options,
};

use super::client_cursor::STREAM_HOLD;

options! {
    /// Where the service listens and what it accepts.
    #[derive(Debug, Clone)]
    pub struct ServerOptions at "server" {
        /// Address to listen on.
        pub host: String = required(HOST_NAME, "127.0.0.1").variable("K8SOPS_HOST"),
        /// Port to listen on; 0 takes a free port and prints it.
        pub port: u16 = required(whole_number_in(0, 65535), "8080").variable("K8SOPS_PORT"),
        /// Largest message of a user.
        pub max_message_bytes: usize = required(BYTE_SIZE, "64KiB").variable("K8SOPS_MAX_MESSAGE_BYTES"),
        /// Largest size of the attachments of a message together.
        ///
        /// A WebSocket frame has its own limit, `server.max_frame_bytes`: larger attachments go over `POST …/messages`.
        pub max_attachment_bytes: usize = required(BYTE_SIZE, "1MiB").variable("K8SOPS_MAX_ATTACHMENT_BYTES"),
        /// Largest WebSocket frame and JSON body.
        pub max_frame_bytes: usize = required(BYTE_SIZE, "256KiB").variable("K8SOPS_MAX_FRAME_BYTES"),
        /// Largest JSON body with a whole conversation, as chat clients send it with every message.
        pub max_conversation_bytes: usize =
            required(BYTE_SIZE, "8MiB").variable("K8SOPS_MAX_CONVERSATION_BYTES"),
        /// The protocols in which clients may connect.
        pub doors: OpenDoors = required(DOORS, "native,openai,responses,agui,mcp,a2a").variable("K8SOPS_DOORS"),
        /// Origins of web pages that may use the service, in addition to its own.
        pub cors_origins: Vec<String> =
            or_empty(WEB_ORIGINS).variable("K8SOPS_CORS_ORIGINS").example("https://ops.example.com"),
        /// Whether `GET /` serves the console, a page to work in.
        ///
        /// It is a client of the API like any other: it can do what its caller may do.
        pub console: bool = required(BOOLEAN, "true").variable("K8SOPS_CONSOLE"),
        /// How long tokens are held back after each write to a stream, so that the next write has several; clients may choose another
        /// value with `hold`.
        ///
        /// It saves CPU here and at the client. The first token of a message never waits.
        pub stream_hold: Duration = required(STREAM_HOLD, "0s").variable("K8SOPS_STREAM_HOLD"),
        /// Whether users may create links by which others read a session without a key, until they expire.
        ///
        /// If it is off, links that exist show nothing.
        pub shares: bool = required(BOOLEAN, "true").variable("K8SOPS_SHARES"),
        /// Longest time that a graceful shutdown waits for running tool calls; without any it takes no time.
        ///
        /// It is longer than the call timeout of MCP servers, so that no change is interrupted. Closing connections (5 s) and
        /// MCP servers (15 s) takes additional time: give the process that much before it is killed
        /// (terminationGracePeriodSeconds).
        pub shutdown_timeout: Duration = required(DURATION, "75s").variable("K8SOPS_SHUTDOWN_TIMEOUT"),
    }
}

options! {
    /// Limits of one replica: for each user, and for all users together.
    #[derive(Debug, Clone, Copy)]
    pub struct LimitOptions at "limits" {
        /// Requests and WebSocket commands of a user per minute; as many may come at once.
        pub requests_per_minute: u32 =
            required(whole_number(1), "6000").variable("K8SOPS_MAX_REQUESTS_PER_MINUTE").live(),
        /// Runs of a user at the same time.
        pub runs_per_user: usize = required(whole_number(1), "20").variable("K8SOPS_MAX_RUNS_PER_USER").live(),
        /// Runs of all users at the same time.
        pub runs: usize = required(whole_number(1), "200").variable("K8SOPS_MAX_RUNS").live(),
        /// Open streams of a user (SSE, NDJSON and WebSocket).
        pub streams_per_user: usize =
            required(whole_number(1), "200").variable("K8SOPS_MAX_STREAMS_PER_USER").live(),
        /// Open streams of all users.
        pub streams: usize = required(whole_number(1), "10000").variable("K8SOPS_MAX_STREAMS").live(),
        /// Open connections; more wait until one is closed.
        pub connections: usize = required(whole_number(1), "20000").variable("K8SOPS_MAX_CONNECTIONS"),
    }
}

const WEB_ORIGINS: ValueFormat<Vec<String>> =
    ValueFormat::described("origins like https://ops.example.com with commas between", parse_web_origins);

/// Reads origins of web pages: scheme, host and port, as browsers send them.
fn parse_web_origins(text: &str) -> Option<Vec<String>> {
    let origins = text.split(',').map(|origin| {
        let origin = origin.trim().trim_end_matches('/');
        let url = url::Url::parse(origin).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
        let exact = url.origin().ascii_serialization();
        // Browsers send exact origins, so that a pattern would match none.
        (exact.eq_ignore_ascii_case(origin) && !exact.contains('*')).then_some(exact)
    });
    origins.collect::<Option<Vec<_>>>().filter(|origins| !origins.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn web_origins_are_exact() {
        assert_eq!(WEB_ORIGINS.parse("https://A.example/, http://b:1").unwrap(), ["https://a.example", "http://b:1"]);
        for text in ["", "*", "https://*.example.com", "https://a.example:443", "https://a.example/x", "a.example"] {
            assert_eq!(WEB_ORIGINS.parse(text), None, "{text}");
        }
    }
}
