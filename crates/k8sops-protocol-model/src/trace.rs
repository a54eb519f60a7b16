//! A counterexample in words.

use stateright::Path;

use crate::{
    action::{ConfirmOutcome, ProtocolAction},
    log::{ModelEvent, RecordedEnd},
    process::PrimaryName,
    state::ProtocolState,
};

/// One line for each step of a path.
pub(crate) fn describe_path(path: Path<ProtocolState, ProtocolAction>) -> Vec<String> {
    let steps = path.into_vec();
    let pairs = steps.iter().zip(steps.iter().skip(1));
    pairs.filter_map(|((before, action), (after, _))| Some(describe_step(before, (*action)?, after))).collect()
}

fn describe_step(before: &ProtocolState, action: ProtocolAction, after: &ProtocolState) -> String {
    let name = |process: usize| if process == 0 { "A" } else { "B" };
    let at = |process: usize| match before.processes[process].connection {
        PrimaryName::Current => "",
        PrimaryName::Former => " on the former primary",
    };
    let confirmed = |outcome| match outcome {
        ConfirmOutcome::NotAsked => "",
        ConfirmOutcome::Confirmed(_) => ", confirmed",
        ConfirmOutcome::Missing => ", not confirmed",
    };
    match action {
        ProtocolAction::SubmitMessage { through, outcome } => {
            let told = if after.acknowledged.message { "acknowledged" } else { "not acknowledged" };
            format!(
                "The client sends its message through {}{}{}: {told}.",
                name(through),
                at(through),
                confirmed(outcome)
            )
        }
        ProtocolAction::Approve { approval, through, outcome } => {
            let told =
                if after.acknowledged.approvals.contains(approval) { "acknowledged" } else { "not acknowledged" };
            let number = approval + 1;
            format!(
                "The client grants approval {number} through {}{}{}: {told}.",
                name(through),
                at(through),
                confirmed(outcome)
            )
        }
        ProtocolAction::AcquireLease(process) => {
            let owned = after.processes[process].ownership.as_ref();
            let (epoch, last) = owned.map_or((0, 0), |owned| (owned.epoch, owned.view.last_seq()));
            format!("{} acquires a lease{} (epoch {epoch}, newest event {last}).", name(process), at(process))
        }
        ProtocolAction::Commit(process) => {
            let Some(owned) = after.processes[process].ownership.as_ref() else {
                return format!("A commit of {}{} is rejected.", name(process), at(process));
            };
            let had = before.processes[process].ownership.as_ref().map_or(0, |owned| owned.view.0.len());
            let events: Vec<_> = owned.view.0[had..]
                .iter()
                .map(|entry| format!("{} {}", entry.seq, describe_event(entry.event)))
                .collect();
            let what = if events.is_empty() { "a command without effect".to_owned() } else { events.join(", ") };
            format!("{} commits{}: {what}.", name(process), at(process))
        }
        ProtocolAction::ConfirmStart { process, .. } => {
            format!("The tool_start of {} is confirmed{}.", name(process), at(process))
        }
        ProtocolAction::SendCall(process) if after.effects == before.effects => {
            format!("{} finds its lease expired, and does not send the call.", name(process))
        }
        ProtocolAction::SendCall(process) => format!("{} sends the call (effect {}).", name(process), after.effects),
        ProtocolAction::CompareLog(process) => format!("{} compares the log with what it knows.", name(process)),
        ProtocolAction::ExpireLease(process) => format!("The lease of {} expires.", name(process)),
        ProtocolAction::RenewLease(process) => format!("{} renews its lease{}.", name(process), at(process)),
        ProtocolAction::Crash(process) => format!("{} crashes and starts again.", name(process)),
        ProtocolAction::Reconnect(process) => format!("{} goes over to the new primary.", name(process)),
        ProtocolAction::Failover { cut_off, .. } => {
            let (had, has) = (before.log().last_seq(), after.log().last_seq());
            let former = match cut_off {
                Some(_) => "; the former primary goes on to serve",
                None => "",
            };
            format!("Failover to a copy whose newest event is {has} (of {had}){former}.")
        }
        ProtocolAction::JoinFormerPrimary => "The former primary becomes a copy of the new one.".to_owned(),
    }
}

fn describe_event(event: ModelEvent) -> &'static str {
    match event {
        ModelEvent::UserMessage { .. } => "user_message",
        ModelEvent::CallRequested { .. } => "assistant_message and approval_requested",
        ModelEvent::Approved { .. } => "approval_resolved",
        ModelEvent::ToolStart { .. } => "tool_start",
        ModelEvent::ToolEnd(RecordedEnd::Succeeded) => "tool_end (ok)",
        ModelEvent::ToolEnd(RecordedEnd::Unknown) => "tool_end (unknown)",
        ModelEvent::ToolEnd(RecordedEnd::NotSent) => "tool_end (not sent)",
        ModelEvent::RunRecovered => "run_recovered",
        ModelEvent::LogTruncated { .. } => "log_truncated",
    }
}
