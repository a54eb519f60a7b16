//! Follows a run for a client: with signs of life, through outages of the store, and until the service shuts down.

use std::time::Duration;

use actix_web::web;
use k8sops_core::{CommandId, ErrorChain, LazyDeadline, SessionId, StoreError, StreamFrame, UserId};
use k8sops_telemetry::{OpenStreamGuard, StreamKind};
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::{
    client_door::ClientDoor,
    preceding_run::PrecedingWait,
    run_cursor::{RunCursor, RunInterruption, RunRest, RunStep},
};
use crate::{
    api::{
        commands::cancel_command,
        event_stream::{KEEP_ALIVE_INTERVAL, StreamGuard, StreamStop, wait_for_store_retry},
        problem::log_damage,
        state::ApiState,
    },
    auth::CallerIdentity,
    runtime::{Sessions, StoreWatch},
};

/// How long reads from an unavailable store are retried before the client is told to come back.
const STORE_PATIENCE: Duration = Duration::from_secs(15);

/// What happens to a run whose client disconnects before it rests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum OnDisconnect {
    /// The run goes on. This is what the native API does.
    #[default]
    Continue,
    /// The run is cancelled.
    Cancel,
}

/// Options of a turn.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DisconnectQuery {
    /// What happens to the run if the client disconnects. By default it goes on.
    #[serde(default)]
    #[param(inline)]
    on_disconnect: OnDisconnect,
}

impl DisconnectQuery {
    pub(super) fn on_disconnect(&self) -> OnDisconnect {
        self.on_disconnect
    }
}

/// What a follower returns.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TurnStep {
    /// A frame of the run.
    Frame(StreamFrame),
    /// Nothing has happened for a while.
    KeepAlive,
    /// The run has not begun, and the run before it waits for its user.
    Blocked(PrecedingWait),
    /// The run rests. Nothing comes after it.
    Rest(RunRest),
}

/// Follows a run for a client.
pub(super) struct TurnFollower {
    cursor: Box<RunCursor>,
    guard: StreamGuard,
    store_watch: StoreWatch,
    keep_alive: LazyDeadline,
    /// Since when the store is unavailable.
    unavailable_since: Option<Instant>,
    ending: TurnEnding,
    _counted: OpenStreamGuard,
}

/// What is done when a client leaves.
struct TurnEnding {
    state: web::Data<ApiState>,
    door: ClientDoor,
    user: UserId,
    session: SessionId,
    on_disconnect: OnDisconnect,
    /// The metric label of the rest of the run, once it rests.
    rest: Option<&'static str>,
}

impl TurnFollower {
    /// Follows a run. `guard` was reserved before the run was started.
    pub(super) fn new(
        state: &web::Data<ApiState>,
        identity: &CallerIdentity,
        target: (ClientDoor, SessionId, OnDisconnect),
        cursor: Box<RunCursor>,
        guard: StreamGuard,
    ) -> Self {
        let (door, session, on_disconnect) = target;
        Self {
            cursor,
            guard,
            store_watch: state.sessions.watch_store(),
            keep_alive: LazyDeadline::new(),
            unavailable_since: None,
            ending: TurnEnding {
                state: state.clone(),
                door,
                user: identity.user.clone(),
                session,
                on_disconnect,
                rest: None,
            },
            _counted: state.metrics.track_stream(StreamKind::Sse),
        }
    }

    /// Whether a step is available at once.
    pub(super) fn has_ready_step(&self) -> bool {
        self.cursor.has_ready_step()
    }

    /// Waits for the next step. Must not be called after a rest, except as [`Self::continue_after_waiting`] says.
    pub(super) async fn next(&mut self) -> TurnStep {
        let step = self.next_step().await;
        if let TurnStep::Rest(rest) = &step {
            self.ending.rest = Some(rest.label());
        }
        step
    }

    /// Follows the run further after it began to wait for its user.
    pub(super) fn continue_after_waiting(&mut self) {
        self.ending.rest = None;
    }

    async fn next_step(&mut self) -> TurnStep {
        loop {
            let next = tokio::select! {
                next = self.keep_alive.wait_until(Instant::now() + KEEP_ALIVE_INTERVAL, self.cursor.next()) => next,
                stop = self.guard.stopped() => return interrupted(match stop {
                    StreamStop::Shutdown => RunInterruption::Stopping,
                    StreamStop::CredentialsExpired => RunInterruption::Unauthenticated,
                }),
            };
            match next {
                None => return TurnStep::KeepAlive,
                Some(Ok(step)) => {
                    self.store_watch.record_success();
                    self.unavailable_since = None;
                    return match step {
                        RunStep::Frame(frame) => TurnStep::Frame(frame),
                        RunStep::Blocked(wait) => TurnStep::Blocked(wait),
                        RunStep::Rest(rest) => TurnStep::Rest(rest),
                    };
                }
                Some(Err(error @ StoreError::Unavailable(_))) => {
                    self.store_watch.record_failure(&error);
                    if self.unavailable_since.get_or_insert_with(Instant::now).elapsed() > STORE_PATIENCE {
                        return interrupted(RunInterruption::StoreUnavailable);
                    }
                    wait_for_store_retry().await;
                }
                Some(Err(error)) => {
                    let error = ErrorChain(&error).to_string();
                    log_damage(&error);
                    return interrupted(RunInterruption::SessionDamaged(error));
                }
            }
        }
    }
}

impl Drop for TurnEnding {
    fn drop(&mut self) {
        self.state.metrics.count_door_turn(self.door.name(), self.rest.unwrap_or("disconnected"));
        if self.rest.is_none() && self.on_disconnect == OnDisconnect::Cancel {
            let cancel = cancel_open_run(self.state.sessions.clone(), self.user.clone(), self.session);
            // The worker's runtime owns the task; the command itself runs to completion.
            actix_web::rt::spawn(cancel);
        }
    }
}

async fn cancel_open_run(sessions: Sessions, user: UserId, session: SessionId) {
    let command = cancel_command(&user, CommandId::generate());
    if let Err(error) = sessions.submit_command(session, command).await {
        tracing::debug!(%session, error = %ErrorChain(&error), "cancel after a disconnect failed");
    }
}

fn interrupted(why: RunInterruption) -> TurnStep {
    TurnStep::Rest(RunRest::Interrupted(why))
}

impl RunRest {
    /// Returns the metric label.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Finished(finished) => finished.outcome.as_str(),
            Self::Failed(_) => "failed",
            Self::Waiting(_) => "waiting",
            Self::Interrupted(_) => "interrupted",
        }
    }
}
