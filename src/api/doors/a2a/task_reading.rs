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
        let follow_after = async |seq| {
            let events = sessions.open_cursor(user, id.session, seq).await?;
            Ok::<_, SessionsError>(RunCursor::after_message(events, id.run, seq))
        };
        let cursor = match location {
            RunLocation::Logged { message_seq } => follow_after(message_seq.saturating_sub(1)).await?,
            RunLocation::Queued(entry) => {
                task.set_queued_message(&entry);
                let opener = TurnOpener { state: self.state, identity: self.identity, session: id.session };
                follow_after(entry.accepted_seq).await?.behind(opener.find_preceding_run().await?)
            }
        };
        let mut cursor = Box::new(cursor);
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
            RunStep::Blocked(wait) => task.wait_behind(&wait, &mut ignored),
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
