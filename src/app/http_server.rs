//! The HTTP server.

use std::{net::TcpListener, rc::Rc, time::Duration};

use actix_http::{HttpService, Request};
use actix_service::{Service as _, ServiceFactory, apply_fn_factory, fn_factory, fn_service, map_config};
use actix_web::{
    App, Error,
    body::MessageBody,
    dev::{AppConfig, Server, ServiceResponse},
    middleware::from_fn,
    web,
};
use tokio_util::sync::CancellationToken;

use crate::api::{self, ApiState};

/// How long a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may wait for its next request.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
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
    let builder = Server::build();
    let shutdown_signal = builder.graceful_shutdown_signal();
    let server = builder
        .workers(workers)
        // Further connections wait in the kernel's queue until one is closed.
        .max_concurrent_connections(max_connections.div_ceil(workers))
        .disable_signals()
        .shutdown_signal(stop.cancelled_owned())
        .shutdown_timeout(SHUTDOWN_TIMEOUT_SECONDS)
        .listen("http", listener, move || {
            // Called once on the thread of each worker.
            state.sessions.add_worker_thread();
            let shutdown_signal = shutdown_signal.clone();
            let (requests, upgrades) = (state.clone(), state.clone());
            let connections = HttpService::build()
                .graceful_shutdown_signal(move || {
                    let signal = shutdown_signal.clone();
                    async move { signal.notified().await }
                })
                .keep_alive(KEEP_ALIVE)
                // Closes connections of clients that send no complete head in time, whether they send slowly or nothing at all.
                .client_request_timeout(HEAD_TIMEOUT)
                // What a client still sends after a response that closes its connection is not read: the server would do that for
                // this long without a turn for the other connections of the thread.
                .client_disconnect_timeout(Duration::ZERO)
                // A stream ends as soon as its client disconnects, not at the next write.
                .h1_allow_half_closed(false)
                // Tokens are small packets. Nagle's algorithm would delay each until the previous one is acknowledged, up to 40 ms.
                .tcp_nodelay(true)
                .on_connect_ext(api::describe_connection)
                // Without it, a WebSocket would keep the buffers of HTTP, 16 KiB, as long as it is open.
                .upgrade(fn_factory(move || {
                    let app = app_service(&upgrades).new_service(());
                    async move {
                        let app = Rc::new(app.await?);
                        Ok::<_, ()>(fn_service(move |(request, connection)| {
                            api::serve_upgrade(app.clone(), request, connection)
                        }))
                    }
                }))
                .finish(app_service(&requests))
                .tcp();
            let sessions = state.sessions.clone();
            apply_fn_factory(connections, move |connection, service| {
                sessions.watch_task("connection", service.call(connection))
            })
        })?
        .run();
    Ok(server.await?)
}

/// Returns all routes with their middleware.
fn app_service(
    state: &web::Data<ApiState>,
) -> impl ServiceFactory<
    Request,
    Config = (),
    Response = ServiceResponse<impl MessageBody + use<>>,
    Error = Error,
    InitError = (),
    Service: 'static,
    Future: 'static,
> + use<> {
    let state = state.clone();
    let app = App::new()
        .wrap(from_fn(api::authenticate))
        .wrap(api::cors(&state))
        .wrap(from_fn(api::answer_head))
        .wrap(from_fn(api::track_request))
        .configure(|config| api::register_routes(config, &state));
    map_config(app, |()| AppConfig::default())
}
