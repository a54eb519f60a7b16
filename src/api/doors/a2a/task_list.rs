//! Lists tasks over the sessions of a caller.

use std::cmp::Reverse;

use k8sops_core::{EventBody, OpenRun, RunId, RunOutcome, SessionEvent, SessionSummary, Timestamp};

use super::{
    a2a_error::{A2aError, A2aFailure},
    task_id::TaskId,
    task_query::{TaskFilter, TaskListRequest},
    task_reading::{ReadingExtent, TaskReader},
    task_resource::{TaskPage, TaskState},
};
use crate::api::doors::{client_door::ClientDoor, thread_session::find_thread};

/// How many sessions are looked through at most, those with the newest activity.
const MAX_SESSIONS: usize = 100;

/// A task in a list.
#[derive(Debug, Clone)]
struct ListedTask {
    id: TaskId,
    state: TaskState,
    updated_at: Timestamp,
    /// The run, while it is in progress.
    open: Option<OpenRun>,
}

impl ListedTask {
    fn submitted(session: &SessionSummary, run: RunId) -> Self {
        let id = TaskId { session: session.session_id, run };
        Self { id, state: TaskState::Submitted, updated_at: run.created_at(), open: None }
    }

    /// Returns what a task is sorted by: the newest status first.
    fn position(&self) -> (Reverse<Timestamp>, String) {
        (Reverse(self.updated_at), self.id.to_string())
    }

    fn set_state(&mut self, state: TaskState, at: Timestamp) {
        (self.state, self.updated_at) = (state, at);
    }

    fn apply_event(&mut self, event: &SessionEvent) {
        let ended = match &event.body {
            EventBody::RunStarted(started) => {
                self.open = Some(OpenRun::from_started(self.id.run, started, event.ts));
                self.set_state(TaskState::Working, event.ts);
                return;
            }
            EventBody::RunFinished(finished) => match finished.outcome {
                RunOutcome::Completed => TaskState::Completed,
                RunOutcome::Cancelled => TaskState::Canceled,
                RunOutcome::Limit => TaskState::Failed,
            },
            EventBody::RunFailed(_) => TaskState::Failed,
            body if body.is_message_lost() => TaskState::Failed,
            body => return self.follow_run(event, body),
        };
        self.open = None;
        self.set_state(ended, event.ts);
    }

    fn follow_run(&mut self, event: &SessionEvent, body: &EventBody) {
        let Some(run) = &mut self.open else { return };
        run.follow_event(event);
        let is_waiting = run.is_blocked_on_user();
        let is_shown = matches!(
            body,
            EventBody::ToolStart(_)
                | EventBody::ToolEnd(_)
                | EventBody::ApprovalResolved(_)
                | EventBody::InputResolved(_)
        );
        match (is_waiting, self.state) {
            (true, TaskState::InputRequired) if !is_shown => {}
            (true, _) => self.set_state(TaskState::InputRequired, event.ts),
            (false, TaskState::InputRequired) => self.set_state(TaskState::Working, event.ts),
            (false, _) if is_shown => self.updated_at = event.ts,
            (false, _) => {}
        }
    }
}

/// Lists tasks: those of a context, or of the caller's newest sessions.
pub(super) async fn list_tasks(reader: &TaskReader<'_>, request: &TaskListRequest) -> Result<TaskPage, A2aFailure> {
    let filter = request.to_filter()?;
    let context = request.context_id.as_deref().filter(|context| !context.is_empty());
    let token = request.page_token.as_deref().filter(|token| !token.is_empty()).map(parse_page_token).transpose()?;
    let mut tasks = Vec::new();
    for session in list_sessions(reader, context).await? {
        // Nothing of an older session is new enough.
        if filter.since.is_some_and(|since| session.updated_at < since) {
            continue;
        }
        // A session that cannot be read does not hide the others.
        let Ok(listed) = read_session(reader, &session).await else { continue };
        tasks.extend(listed.into_iter().filter(|task| is_wanted(task, &filter)));
    }
    tasks.sort_by_cached_key(ListedTask::position);
    let total_size = tasks.len();
    let start = token.map_or(0, |token| tasks.partition_point(|task| task.position() <= token));
    let end = (start + filter.page_size).min(tasks.len());
    let mut page = Vec::new();
    for task in &tasks[start..end] {
        // One that was deleted meanwhile is left out.
        if let Ok(reading) = reader.read(task.id, context, ReadingExtent::WholeLog).await {
            page.push(reading.task.resource(filter.history, filter.artifacts));
        }
    }
    let next_page_token = if end < total_size { page_token(&tasks[end - 1]) } else { String::new() };
    Ok(TaskPage { tasks: page, next_page_token, page_size: filter.page_size, total_size })
}

async fn list_sessions(reader: &TaskReader<'_>, context: Option<&str>) -> Result<Vec<SessionSummary>, A2aFailure> {
    let (sessions, user) = (&reader.state.sessions, &reader.identity.user);
    match context {
        Some(context) => match find_thread(reader.state, user, ClientDoor::A2a, context).await? {
            Some(session) => Ok(vec![sessions.get_session(user, session).await?]),
            None => Ok(Vec::new()),
        },
        None => Ok(sessions.list_sessions(user, None, MAX_SESSIONS).await?),
    }
}

async fn read_session(reader: &TaskReader<'_>, session: &SessionSummary) -> Result<Vec<ListedTask>, A2aFailure> {
    let (sessions, user) = (&reader.state.sessions, &reader.identity.user);
    // The inbox before the log: a message that its owner reads in between is in the log.
    let queued = match session.is_processing() {
        true => sessions.list_waiting_messages(user, session.session_id).await?,
        false => Vec::new(),
    };
    let mut tasks: Vec<ListedTask> = Vec::new();
    let mut after = 0;
    loop {
        let events = sessions.read_log_page(session, after).await?;
        let Some(last) = events.last() else { break };
        after = last.seq;
        for event in &events {
            let Some(run) = event.run_id else { continue };
            apply_event(&mut tasks, session, run, event);
        }
    }
    for message in queued {
        if !tasks.iter().any(|task| task.id.run == message.run_id) {
            tasks.push(ListedTask::submitted(session, message.run_id));
        }
    }
    Ok(tasks)
}

fn apply_event(tasks: &mut Vec<ListedTask>, session: &SessionSummary, run: RunId, event: &SessionEvent) {
    match (&event.body, tasks.last_mut().filter(|task| task.id.run == run)) {
        (_, Some(task)) => task.apply_event(event),
        // Runs without their message are no longer kept.
        (EventBody::UserMessage(_), None) => tasks.push(ListedTask::submitted(session, run)),
        (_, None) => {}
    }
}

fn is_wanted(task: &ListedTask, filter: &TaskFilter) -> bool {
    filter.state.is_none_or(|state| task.state == state) && filter.since.is_none_or(|since| task.updated_at >= since)
}

/// Returns the token of the page after a task: its position in the list.
fn page_token(task: &ListedTask) -> String {
    format!("{:x}-{}", task.updated_at.as_millis(), task.id)
}

fn parse_page_token(token: &str) -> Result<(Reverse<Timestamp>, String), A2aError> {
    let parsed = token.split_once('-').and_then(|(millis, id)| {
        let id: TaskId = id.parse().ok()?;
        let millis = i64::from_str_radix(millis, 16).ok()?;
        Some((Reverse(Timestamp::from_millis(millis)), id.to_string()))
    });
    parsed.ok_or_else(|| A2aError::invalid_field("pageToken", "pageToken is not one of this agent"))
}
