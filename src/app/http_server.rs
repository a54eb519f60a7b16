//! The HTTP server.

use std::{net::TcpListener, time::Duration};

use actix_web::{App, HttpServer, middleware::from_fn, web};
use tokio_util::sync::CancellationToken;

use crate::api::{self, ApiState};

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long open requests may take after `stop`, in seconds.
const SHUTDOWN_TIMEOUT_SECONDS: u64 = 5;

/// Recovers the sessions of an earlier process, and serves requests until `stop`.
pub(super) async fn serve_http(
    listener: TcpListener,
    state: web::Data<ApiState>,
    max_connections: usize,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let recovered = state.sessions.start().await?;
    if recovered > 0 {
        tracing::info!(sessions = recovered, "resuming sessions of an earlier process");
    }
    let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let server = HttpServer::new(move || {
        // Called once on the thread of each worker.
        state.sessions.add_worker_thread();
        App::new()
            .wrap(from_fn(api::authenticate))
            .wrap(api::cors(&state))
            .wrap(from_fn(api::answer_head))
            .wrap(from_fn(api::track_request))
            .configure(|config| api::register_routes(config, &state))
    })
    .workers(workers)
    // Further connections wait in the kernel's queue until one is closed.
    .max_connections(max_connections.div_ceil(workers))
    // Closes connections of clients that send no complete head in time, whether they send slowly or nothing at all.
    .client_request_timeout(HEAD_TIMEOUT)
    // What a client still sends after a response that closes its connection is not read: the server would do that for this long
    // without a turn for the other connections of the thread.
    .client_disconnect_timeout(Duration::ZERO)
    // A stream ends as soon as its client disconnects, not at the next write.
    .h1_allow_half_closed(false)
    // Tokens are small packets. Nagle's algorithm would delay each until the previous one is acknowledged, up to 40 ms.
    .tcp_nodelay(true)
    .disable_signals()
    .shutdown_signal(stop.cancelled_owned())
    .shutdown_timeout(SHUTDOWN_TIMEOUT_SECONDS)
    .listen(listener)?
    .run();
    Ok(server.await?)
}
