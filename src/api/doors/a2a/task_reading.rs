//! Reads tasks from the log.

use k8sops_core::StoreError;

use super::{
    a2a_error::{A2aError, A2aFailure},
    service_parameters::HitlActivation,
    task_builder::TaskBuilder,
    task_id::TaskId,
};
use crate::{
    api::{
        doors::{
            run_cursor::{RunCursor, RunInterruption, RunRest, RunStep},
            turn_opening::TurnOpener,
        },
        state::ApiState,
    },
    auth::CallerIdentity,
    runtime::{RunLocation, SessionsError},
};

/// Said of a task that cannot start.
const BEHIND_WAITING: &str = "The task waits for another task of its context, which waits for an answer.";

/// How far a task is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadingExtent {
    /// All that the log has.
    WholeLog,
    /// Up to the event with this seq.
    UpTo(u64),
}

/// A task as far as the log has it, and a cursor that follows it further.
pub(super) struct TaskReading {
    pub(super) task: TaskBuilder,
    pub(super) cursor: Box<RunCursor>,
}

/// Reads tasks for a caller.
#[derive(Clone, Copy)]
pub(super) struct TaskReader<'a> {
    pub(super) state: &'a ApiState,
    pub(super) identity: &'a CallerIdentity,
    pub(super) hitl: HitlActivation,
}

impl TaskReader<'_> {
    /// Reads a task. `context` is the name that its session has for the client.
    ///
    /// # Errors
    /// The caller has no such task, and errors of the store.
    pub(super) async fn read(
        &self,
        id: TaskId,
        context: Option<&str>,
        extent: ReadingExtent,
    ) -> Result<TaskReading, A2aFailure> {
        let not_found = || A2aError::task_not_found(&id.to_string());
        let (sessions, user) = (&self.state.sessions, &self.identity.user);
        let location = match sessions.find_run(user, id.session, id.run).await {
            Err(SessionsError::NotFound(_)) => return Err(not_found().into()),
            location => location?.ok_or_else(not_found)?,
        };
        let mut task = TaskBuilder::new(id, context, self.hitl);
        let start_seq = match location {
            RunLocation::Logged { message_seq } => message_seq.saturating_sub(1),
            RunLocation::Queued(entry) => {
                task.set_queued_message(&entry);
                let opener = TurnOpener { state: self.state, identity: self.identity, session: id.session };
                let waiting = opener.find_waiting().await?;
                if !waiting.is_empty() {
                    task.add_note(&format!("{BEHIND_WAITING}\n\n{}", waiting.describe()));
                }
                entry.accepted_seq
            }
        };
        let events = sessions.open_cursor(user, id.session, start_seq).await?;
        let mut cursor = Box::new(RunCursor::after_message(events, id.run, start_seq));
        match read_logged(&mut cursor, &mut task, extent).await? {
            Some(RunInterruption::EventsNotKept | RunInterruption::SessionDeleted) => Err(not_found().into()),
            _ => Ok(TaskReading { task, cursor }),
        }
    }
}

/// Applies what the log has to a task. Returns why it cannot be read further, if that is so.
///
/// # Errors
/// Those of the store.
pub(super) async fn read_logged(
    cursor: &mut RunCursor,
    task: &mut TaskBuilder,
    extent: ReadingExtent,
) -> Result<Option<RunInterruption>, StoreError> {
    let mut ignored = Vec::new();
    while let Some(step) = cursor.next_logged().await? {
        match step {
            RunStep::Frame(frame) => {
                if matches!(extent, ReadingExtent::UpTo(last) if frame.seq().is_some_and(|seq| seq > last)) {
                    break;
                }
                task.apply_frame(&frame, &mut ignored);
            }
            RunStep::Rest(rest) => {
                task.apply_rest(&rest, &mut ignored);
                match rest {
                    // Where it rested before, it went on.
                    RunRest::Waiting(_) => {}
                    RunRest::Interrupted(why) => return Ok(Some(why)),
                    RunRest::Finished(_) | RunRest::Failed(_) => break,
                }
            }
        }
        ignored.clear();
    }
    Ok(None)
}
