//! `/v1/events`: what changes of the caller's sessions, and of what waits for the caller, as SSE or NDJSON.

use std::{collections::HashSet, convert::Infallible, num::NonZeroUsize, time::Duration};

use actix_web::{
    HttpRequest, HttpResponse, get,
    http::header,
    web::{self, Bytes},
};
use futures_util::{Stream, stream};
use k8sops_core::{
    AccountChange, AccountGap, AccountHello, LazyDeadline, PROTOCOL_VERSION, SessionId, SessionWarning, Timestamp,
    UserId,
};
use k8sops_telemetry::{OpenStreamGuard, StreamKind};
use k8sops_tools::ApprovalBy;
use lru::LruCache;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;

use super::{
    caller::Caller,
    error_responses::document_errors,
    event_stream::{StreamFormat, StreamGuard, StreamStop, wait_for_store_retry},
    extractors::QueryParameters,
    negotiation::{NDJSON, SSE, preferred_media_type},
    problem::ProblemDetails,
    state::ApiState,
};
use crate::{
    auth::UserRole,
    runtime::{AccountNews, AccountSubscription, Sessions},
};

/// How often a quiet stream sends a sign of life.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// The sessions of which a stream remembers what it has sent.
const REMEMBERED_SESSIONS: NonZeroUsize = NonZeroUsize::new(4096).expect("the constant is not zero");

document_errors!(StreamAccountErrors: InvalidRequest, TooManyStreams, StoreUnavailable, Overloaded);

/// Where the stream starts and ends.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct AccountStreamQuery {
    /// Start with the changes after this `cursor` of a received frame. By default the stream starts now. The header
    /// `Last-Event-ID` takes precedence.
    #[serde(default)]
    after: Option<String>,
    /// Whether the stream continues with live changes. The default is true for SSE and false for NDJSON.
    #[serde(default)]
    // A page that sends the example shows an answer that ends.
    #[param(example = false)]
    follow: Option<bool>,
}

/// Streams what changes of the caller's sessions: `session_created`, `title_changed`, `run_started`, `run_finished`, `run_failed`,
/// `approval_requested`, `approval_resolved`, `input_requested` and `input_resolved` as they are logged, `session_deleted` and
/// `message_queued`.
///
/// Each frame has a `cursor`, from which a later stream continues on any replica: it may repeat frames of the last seconds, which
/// `session_id` and `seq` tell, and misses none. `hello` lists what waits for the caller. `gap` says that the lists have to be
/// read again. Callers who answer approvals in the sessions of others get these approvals, too.
#[utoipa::path(
    operation_id = "stream_account", tag = "events",
    params(
        AccountStreamQuery,
        ("last-event-id" = Option<String>, Header, description = "As `after`; browsers send it when they reconnect"),
    ),
    responses(
        (status = 200, description = "Changes, one per SSE message or line", content(
            (String = "text/event-stream"),
            (String = "application/x-ndjson"),
        )),
        StreamAccountErrors
    )
)]
#[get("/events")]
pub(super) async fn stream_account(
    request: HttpRequest,
    state: web::Data<ApiState>,
    caller: Caller,
    QueryParameters(query): QueryParameters<AccountStreamQuery>,
) -> Result<HttpResponse, ProblemDetails> {
    let last_event_id = request.headers().get("last-event-id").and_then(|value| value.to_str().ok());
    let after = last_event_id.filter(|value| !value.is_empty()).map(str::to_owned).or(query.after);
    let after = after.map(|cursor| parse_cursor(&cursor)).transpose()?;
    let format =
        if preferred_media_type(&request, &[SSE, NDJSON]) == NDJSON { StreamFormat::Ndjson } else { StreamFormat::Sse };
    let follows = query.follow.unwrap_or(format == StreamFormat::Sse);
    let guard = StreamGuard::new(&state, &caller.identity)?;
    let answers_others =
        state.sessions.approval_by() == ApprovalBy::Approver && caller.identity.roles.contains(UserRole::Approver);
    // Before anything is read: what changes meanwhile is in the queue.
    let own = state.sessions.watch_account(&caller.user);
    let of_others = answers_others.then(|| state.sessions.watch_approvals());
    let now = Timestamp::now();
    let mut writer = AccountWriter {
        sessions: state.sessions.clone(),
        user: caller.user.clone(),
        own,
        of_others,
        guard,
        shutdown: state.shutdown.clone(),
        format,
        position: after.unwrap_or(now),
        sent: LruCache::new(REMEMBERED_SESSIONS),
        deleted: HashSet::new(),
        keep_alive: LazyDeadline::new(),
        pending: String::new(),
        phase: if follows { StreamPhase::Live } else { StreamPhase::Ending },
        _counted: state.metrics.track_stream(match format {
            StreamFormat::Sse => StreamKind::Sse,
            StreamFormat::Ndjson => StreamKind::Ndjson,
        }),
    };
    writer.write_hello(answers_others).await?;
    if let Some(after) = after {
        writer.write_backlog(after).await?;
    }
    let content_type = match format {
        StreamFormat::Sse => SSE,
        StreamFormat::Ndjson => NDJSON,
    };
    Ok(HttpResponse::Ok()
        .content_type(content_type)
        .insert_header((header::CACHE_CONTROL, "no-store"))
        // Otherwise nginx buffers the stream.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(writer.into_chunks()))
}

/// A cursor is the time of a change, in milliseconds since 1970.
fn parse_cursor(cursor: &str) -> Result<Timestamp, ProblemDetails> {
    let millis = cursor.trim().parse().ok().filter(|millis| *millis >= 0);
    millis.map(Timestamp::from_millis).ok_or_else(|| {
        ProblemDetails::invalid("invalid cursor: expected the `cursor` of a received frame, a number of milliseconds")
    })
}

/// What a stream does after its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StreamPhase {
    /// It follows the account.
    Live,
    /// It ends with what is written.
    Ending,
}

struct AccountWriter {
    sessions: Sessions,
    user: UserId,
    own: AccountSubscription,
    of_others: Option<AccountSubscription>,
    guard: StreamGuard,
    shutdown: CancellationToken,
    format: StreamFormat,
    /// The newest change that was sent.
    position: Timestamp,
    /// The newest seq that was sent of each session.
    sent: LruCache<SessionId, u64>,
    /// The sessions whose end was sent.
    deleted: HashSet<SessionId>,
    keep_alive: LazyDeadline,
    /// Frames that are not sent yet.
    pending: String,
    phase: StreamPhase,
    _counted: OpenStreamGuard,
}

/// What ended the wait of a stream.
enum StreamInput {
    News(AccountNews),
    Quiet,
    Stopped(StreamStop),
}

impl AccountWriter {
    fn into_chunks(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold(Box::new(self), |mut writer| async move {
            let chunk = writer.next_chunk().await?;
            Some((Ok(chunk), writer))
        })
    }

    async fn write_hello(&mut self, answers_others: bool) -> Result<(), ProblemDetails> {
        if self.format == StreamFormat::Sse {
            // How long a browser waits before it reconnects, in milliseconds.
            self.pending.push_str("retry: 1000\n\n");
        }
        let approvals = self.sessions.list_pending_approvals(&self.user, answers_others).await?;
        let inputs = self.sessions.list_pending_inputs(&self.user).await?;
        let hello = AccountHello {
            protocol: PROTOCOL_VERSION,
            user_id: self.user.clone(),
            cursor: self.position.as_millis().to_string(),
            approvals: approvals.into_iter().map(|approval| approval.asked.approval_id).collect(),
            inputs: inputs.into_iter().map(|input| input.asked.input_id).collect(),
        };
        self.write_frame("hello", to_object(&hello));
        Ok(())
    }

    /// Writes the changes since a point in time.
    async fn write_backlog(&mut self, since: Timestamp) -> Result<(), ProblemDetails> {
        let backlog = self.sessions.read_account_changes(&self.user, since).await?;
        if backlog.has_gap {
            self.write_gap(Some(since));
        }
        for change in &backlog.changes {
            self.write_change(change);
        }
        Ok(())
    }

    fn write_gap(&mut self, requested: Option<Timestamp>) {
        let gap = AccountGap { requested: requested.map(|at| at.as_millis().to_string()) };
        self.write_frame("gap", to_object(&gap));
    }

    /// Returns the next bytes of the body, or `None` at its end.
    async fn next_chunk(&mut self) -> Option<Bytes> {
        while self.pending.is_empty() {
            if self.phase == StreamPhase::Ending {
                return None;
            }
            let input = self.next_input().await;
            self.apply_input(input).await;
        }
        Some(Bytes::from(std::mem::take(&mut self.pending)))
    }

    async fn next_input(&mut self) -> StreamInput {
        let Self { own, of_others, guard, keep_alive, .. } = self;
        let news = async {
            match of_others {
                Some(of_others) => tokio::select! {
                    news = own.next() => news,
                    news = of_others.next() => news,
                },
                None => own.next().await,
            }
        };
        tokio::select! {
            news = keep_alive.wait_until(Instant::now() + KEEP_ALIVE_INTERVAL, news) => {
                news.map_or(StreamInput::Quiet, StreamInput::News)
            }
            stop = guard.stopped() => StreamInput::Stopped(stop),
        }
    }

    async fn apply_input(&mut self, input: StreamInput) {
        match input {
            StreamInput::News(AccountNews::Change(change)) => self.write_change(&change),
            StreamInput::News(AccountNews::Missed) => self.catch_up().await,
            StreamInput::Quiet if self.format == StreamFormat::Sse => self.pending.push_str(": keep-alive\n\n"),
            // Without an empty line a client that is gone is not noticed.
            StreamInput::Quiet => self.pending.push('\n'),
            StreamInput::Stopped(StreamStop::Shutdown) => self.phase = StreamPhase::Ending,
            StreamInput::Stopped(StreamStop::CredentialsExpired) => {
                self.phase = StreamPhase::Ending;
                let warning = SessionWarning::new(
                    "unauthenticated",
                    "the key or token is no longer valid; reconnect with a valid one",
                );
                self.write_frame("warning", to_object(&warning));
            }
        }
    }

    /// Reads what may have been missed.
    async fn catch_up(&mut self) {
        let since = self.position;
        while self.write_backlog(since).await.is_err() && !self.shutdown.is_cancelled() {
            wait_for_store_retry().await;
        }
        // What was missed of the sessions of others is not read.
        if self.of_others.is_some() {
            self.write_gap(None);
        }
    }

    fn write_change(&mut self, change: &AccountChange) {
        let (kind, mut frame, at) = match change {
            AccountChange::Logged { user, event } => {
                let sent = self.sent.get_or_insert_mut(event.session_id, || 0);
                if event.seq <= *sent {
                    return;
                }
                *sent = event.seq;
                let mut frame = to_object(event.as_ref());
                frame.insert("user_id".to_owned(), json!(user));
                (event.body.event_type(), frame, event.ts)
            }
            AccountChange::Deleted(deleted) => {
                if !self.deleted.insert(deleted.session_id) {
                    return;
                }
                ("session_deleted", to_object(deleted), deleted.ts)
            }
            AccountChange::Queued(queued) => ("message_queued", to_object(queued), queued.ts),
        };
        self.position = self.position.max(at);
        frame.insert("cursor".to_owned(), json!(self.position.as_millis().to_string()));
        self.write_frame(kind, frame);
    }

    fn write_frame(&mut self, kind: &str, mut frame: serde_json::Map<String, Value>) {
        frame.insert("type".to_owned(), json!(kind));
        let cursor = frame.get("cursor").and_then(Value::as_str).map(str::to_owned);
        let json = Value::Object(frame).to_string();
        if self.format == StreamFormat::Ndjson {
            self.pending.push_str(&json);
            self.pending.push('\n');
            return;
        }
        if let Some(cursor) = cursor {
            self.pending.push_str(&format!("id: {cursor}\n"));
        }
        self.pending.push_str(&format!("event: {kind}\ndata: {json}\n\n"));
    }
}

fn to_object(value: &impl Serialize) -> serde_json::Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(object)) => object,
        _ => serde_json::Map::new(),
    }
}
