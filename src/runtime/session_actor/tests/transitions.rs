//! Single transitions.

use std::time::Duration;

use k8sops_core::*;

use super::simulation::{AwaitedOperation, OperationFate, Simulation, internal_failure, message, unavailable};
use crate::runtime::session_actor::{
    inputs::{ActorInput, RunEnding, StoreSharing},
    state::{ApprovalRecord, ExtractionTask, RunStage, SessionActivity},
};

impl Simulation {
    /// Answers operations until none is in progress, or one that `stops` accepts is.
    fn answer_until(&mut self, stops: impl Fn(&AwaitedOperation) -> bool) {
        while self.operation.as_ref().is_some_and(|operation| !stops(operation)) {
            self.answer(OperationFate::Succeeds);
        }
    }

    fn answer_all(&mut self) {
        self.answer_until(|_| false);
    }

    fn say(&mut self) -> RunId {
        self.store.submit(message(OnBusy::Enqueue));
        self.notify();
        *self.store.accepted.last().unwrap()
    }

    fn cancel(&mut self, run_id: RunId) {
        self.store.submit(CommandBody::Cancel { run_id: Some(run_id) });
        self.notify();
    }

    fn activity(&self) -> &SessionActivity {
        &self.owned().unwrap().activity
    }

    fn event_types(&self) -> Vec<&'static str> {
        self.store.log.iter().skip(1).map(|event| event.body.event_type()).collect()
    }
}

fn opened() -> Simulation {
    let mut simulation = Simulation::new(StoreSharing::Replicas);
    simulation.answer_all();
    simulation
}

/// A session whose run has called a tool that waits for an approval.
fn waiting_for_approval() -> Simulation {
    let mut simulation = opened();
    simulation.say();
    simulation.answer_all();
    simulation.append();
    simulation
}

fn is_commit(operation: &AwaitedOperation) -> bool {
    matches!(operation, AwaitedOperation::Commit(_))
}

#[test]
fn run_starts_with_the_commit_of_its_message() {
    let mut simulation = opened();
    let run = simulation.say();
    simulation.answer_until(is_commit);
    let started = simulation.run.as_ref().unwrap();
    assert_eq!((started.run_id, started.is_started), (run, false));
    simulation.answer_all();
    assert!(simulation.run.as_ref().unwrap().is_started);
    assert_eq!(simulation.event_types(), ["title_changed", "user_message", "run_started"]);
}

#[test]
fn offered_message_is_accepted_with_the_start_of_its_run() {
    let mut simulation = opened();
    simulation.offer(message(OnBusy::Enqueue));
    assert!(matches!(simulation.operation, Some(AwaitedOperation::CommitMessage(..))));
    assert!(simulation.run.is_none());
    simulation.answer_all();
    let run = simulation.run.as_ref().unwrap();
    assert!(run.is_started && simulation.store.accepted == [run.run_id]);
    assert_eq!(simulation.event_types(), ["title_changed", "user_message", "run_started"]);
    // While it runs, the next one waits in the inbox.
    simulation.offer(message(OnBusy::Enqueue));
    assert_eq!((simulation.offer.is_none(), simulation.store.inbox.len()), (true, 1));
    assert!(simulation.operation.is_none());
}

#[test]
fn offered_message_waits_for_the_end_of_a_finished_run() {
    let mut simulation = opened();
    simulation.offer(message(OnBusy::Enqueue));
    simulation.answer_all();
    simulation.finish_run();
    simulation.answer_all();
    assert!(simulation.run.as_ref().unwrap().is_finished);
    simulation.offer(message(OnBusy::Enqueue));
    assert!(simulation.offer.is_some() && simulation.operation.is_none());
    simulation.finish_run();
    simulation.answer_until(|operation| matches!(operation, AwaitedOperation::CommitMessage(..)));
    simulation.answer_all();
    assert_eq!(simulation.store.accepted.len(), 2);
    assert!(simulation.run.as_ref().unwrap().is_started && simulation.store.inbox.is_empty());
}

#[test]
fn offered_message_does_not_overtake_one_of_the_inbox() {
    let mut simulation = opened();
    // Another process submitted it, and its notification is on its way.
    simulation.store.submit(message(OnBusy::Enqueue));
    let first = simulation.store.accepted[0];
    simulation.offer(message(OnBusy::Enqueue));
    simulation.answer_all();
    assert_eq!(simulation.run.as_ref().unwrap().run_id, first);
    assert_eq!((simulation.store.accepted.len(), simulation.store.inbox.len()), (2, 1));
}

#[test]
fn run_that_starts_in_a_drain_is_left_to_the_next_process() {
    let mut simulation = opened();
    simulation.offer(message(OnBusy::Enqueue));
    simulation.input(ActorInput::ShutdownRequested);
    simulation.answer_all();
    assert!(simulation.has_ended() && simulation.run.is_none());
    assert_eq!(simulation.store.session.summary.open_run, Some(simulation.store.accepted[0]));
}

#[test]
fn cancel_finds_its_run_at_any_time() {
    // Together with the message, during its commit, and later.
    for when in 0..3 {
        let mut simulation = opened();
        simulation.store.submit(message(OnBusy::Enqueue));
        let run = simulation.store.accepted[0];
        if when == 0 {
            simulation.cancel(run);
        } else {
            simulation.notify();
        }
        simulation.answer_until(is_commit);
        assert_eq!(simulation.run.as_ref().unwrap().is_cancelled, when == 0);
        if when == 1 {
            simulation.cancel(run);
        }
        simulation.answer_all();
        if when == 2 {
            simulation.cancel(run);
            simulation.answer_all();
        }
        assert!(simulation.run.as_ref().unwrap().is_cancelled, "case {when}");
        assert_eq!(simulation.store.inbox.len(), 1, "the next owner would find it");
        simulation.finish_run();
        simulation.answer_all();
        simulation.finish_run();
        simulation.answer_all();
        assert!(simulation.store.inbox.is_empty());
    }
}

#[test]
fn recovered_run_finds_its_cancel() {
    let mut simulation = opened();
    let run = simulation.say();
    simulation.answer_all();
    simulation.cancel(run);
    simulation.input(ActorInput::LeaseLost(unavailable()));
    simulation.answer_all();
    assert!(simulation.run.is_none());
    simulation.advance_to_deadline();
    simulation.answer_until(is_commit);
    let recovered = simulation.run.as_ref().unwrap();
    assert_eq!((recovered.run_id, recovered.is_started, recovered.is_cancelled), (run, false, true));
}

#[test]
fn interrupting_message_cancels_the_run_before_it() {
    let mut simulation = opened();
    simulation.store.submit(message(OnBusy::Interrupt));
    simulation.store.submit(message(OnBusy::Interrupt));
    simulation.notify();
    simulation.answer_until(is_commit);
    let first = simulation.run.as_ref().unwrap();
    assert_eq!((first.run_id, first.is_cancelled), (simulation.store.accepted[0], true));
}

#[test]
fn failure_is_logged_after_what_the_run_appended() {
    let mut simulation = waiting_for_approval();
    simulation.append();
    simulation.end_run(RunEnding::Failed(internal_failure()));
    assert!(matches!(simulation.activity(), SessionActivity::Running { run: RunStage::Failing(_), .. }));
    simulation.answer_all();
    let types = simulation.event_types();
    let end = ["assistant_message", "approval_requested", "warning", "tool_end", "run_failed"];
    assert!(types.ends_with(&end), "the call ends with its run: {types:?}");
    assert!(matches!(simulation.activity(), SessionActivity::Idle { .. }));
}

#[test]
fn message_is_not_forgotten_when_a_task_fails_after_its_run() {
    let mut simulation = Simulation::new(StoreSharing::SingleProcess);
    simulation.say();
    simulation.answer_all();
    simulation.finish_run();
    let next = simulation.say();
    simulation.answer_all();
    simulation.end_run(RunEnding::Failed(internal_failure()));
    simulation.answer_all();
    assert_eq!(simulation.run.as_ref().map(|run| run.run_id), Some(next));
}

#[test]
fn answer_does_not_follow_the_end_of_its_run() {
    let mut simulation = waiting_for_approval();
    simulation.answer_all();
    let run_id = simulation.store.accepted[0];
    let approval_id = simulation.store.session.pending_approvals().next().unwrap().approval_id;
    simulation.cancel(run_id);
    simulation.answer_all();
    let decision = ApprovalDecision::Approve;
    simulation.store.submit(CommandBody::Resolve {
        approval_id,
        decision,
        arguments: None,
        comment: None,
        approver: false,
    });
    simulation.notify();
    assert!(matches!(simulation.operation, Some(AwaitedOperation::ReadInbox)));
    simulation.finish_run();
    simulation.answer_all();
    simulation.finish_run();
    simulation.answer_all();
    assert_eq!(simulation.event_types().last(), Some(&"run_finished"));
    assert!(simulation.store.inbox.is_empty());
}

#[test]
fn run_that_ends_without_an_end_fails() {
    let mut simulation = opened();
    simulation.say();
    simulation.answer_all();
    simulation.end_run(RunEnding::Closed);
    simulation.answer_all();
    assert_eq!(simulation.event_types().last(), Some(&"run_failed"));
}

#[test]
fn run_whose_lease_had_lapsed_is_taken_up_again() {
    let mut simulation = opened();
    let run = simulation.say();
    simulation.answer_all();
    simulation.end_run(RunEnding::LogClosed);
    simulation.answer_all();
    simulation.advance_to_deadline();
    simulation.answer_all();
    assert_eq!(simulation.event_types().last(), Some(&"run_recovered"));
    assert_eq!(simulation.run.as_ref().map(|run| run.run_id), Some(run));
}

#[test]
fn shutdown_leaves_the_inbox_to_the_next_owner() {
    let mut simulation = opened();
    simulation.say();
    simulation.answer_until(|operation| matches!(operation, AwaitedOperation::ReadInbox));
    // The inbox is being read already.
    simulation.input(ActorInput::ShutdownRequested);
    simulation.answer_all();
    assert!(simulation.has_ended());
    assert_eq!(simulation.store.inbox.len(), 1);
    assert_eq!(simulation.event_types(), [""; 0]);
}

#[test]
fn shutdown_waits_for_the_run_and_its_events() {
    let mut simulation = waiting_for_approval();
    simulation.is_halted = true;
    simulation.input(ActorInput::ShutdownRequested);
    simulation.answer_all();
    assert!(matches!(simulation.activity(), SessionActivity::Draining { run: Some(RunStage::Active(_)) }));
    simulation.append();
    simulation.end_run(RunEnding::Halted);
    simulation.answer_all();
    assert!(simulation.has_ended());
    assert_eq!(simulation.event_types().last(), Some(&"warning"));
    assert!(simulation.store.session.summary.open_run.is_some(), "the next owner resumes it");
}

#[test]
fn halted_run_drains_the_session_that_does_not_know_yet() {
    let mut simulation = opened();
    simulation.say();
    simulation.answer_all();
    simulation.is_halted = true;
    simulation.end_run(RunEnding::Halted);
    simulation.answer_all();
    assert!(simulation.has_ended());
}

#[test]
fn shutdown_during_the_opening_starts_nothing() {
    let mut simulation = opened();
    simulation.say();
    simulation.answer_all();
    simulation.input(ActorInput::LeaseLost(unavailable()));
    simulation.answer_all();
    simulation.advance_to_deadline();
    simulation.input(ActorInput::ShutdownRequested);
    simulation.answer_all();
    assert!(simulation.has_ended() && simulation.run.is_none());
    assert_eq!(simulation.event_types().last(), Some(&"run_recovered"), "the log knows of the attempt");
}

#[test]
fn idle_owner_extracts_and_then_leaves() {
    let mut simulation = Simulation::new(StoreSharing::SingleProcess);
    simulation.answer_all();
    simulation.say();
    simulation.answer_all();
    simulation.finish_run();
    simulation.answer_all();
    simulation.finish_run();
    simulation.answer_all();
    assert!(matches!(simulation.activity(), SessionActivity::Idle { .. }));
    simulation.advance(Duration::from_millis(1999));
    assert!(!simulation.is_extracting);
    simulation.advance(Duration::from_millis(1));
    assert_eq!(*simulation.activity(), SessionActivity::Extracting);
    // A message does not wait for it, and its run does not start another.
    simulation.say();
    simulation.answer_all();
    let SessionActivity::Running { extraction: ExtractionTask::Started, .. } = simulation.activity() else {
        panic!("{:?}", simulation.activity());
    };
    simulation.finish_run();
    simulation.answer_all();
    simulation.finish_run();
    simulation.answer_all();
    assert_eq!(*simulation.activity(), SessionActivity::Extracting);
    simulation.finish_extraction();
    simulation.answer_all();
    simulation.advance(Duration::from_millis(9999));
    assert!(simulation.owned().is_some());
    simulation.advance(Duration::from_millis(1));
    simulation.answer_all();
    assert!(simulation.has_ended());
}

#[test]
fn look_does_not_extend_the_idle_time() {
    let mut simulation = opened();
    for _ in 0..3 {
        simulation.advance(Duration::from_secs(3));
        assert!(matches!(simulation.operation, Some(AwaitedOperation::CheckLog)));
        simulation.answer_all();
    }
    simulation.advance(Duration::from_secs(1));
    assert!(matches!(simulation.operation, Some(AwaitedOperation::ReleaseLease)));
}

#[test]
fn failed_record_of_approvals_is_repeated_at_the_next_look() {
    let mut simulation = waiting_for_approval();
    simulation.answer_until(|operation| matches!(operation, AwaitedOperation::RecordApprovals));
    simulation.answer(OperationFate::Unavailable);
    assert_eq!(simulation.owned().unwrap().approvals, ApprovalRecord::Failed);
    assert!(simulation.operation.is_none(), "it is not tried again at once");
    simulation.advance(Duration::from_secs(3));
    simulation.answer_until(|operation| matches!(operation, AwaitedOperation::RecordApprovals));
    assert!(simulation.operation.is_some());
    simulation.answer_all();
    assert!(matches!(simulation.owned().unwrap().approvals, ApprovalRecord::Recorded(Some(_))));
}

#[test]
fn unanswered_approval_expires() {
    let mut simulation = waiting_for_approval();
    simulation.answer_all();
    for _ in 0..7 {
        simulation.advance(Duration::from_secs(3));
        simulation.answer_all();
    }
    assert_eq!(simulation.event_types().last(), Some(&"approval_resolved"));
}

#[test]
fn delay_grows_until_the_session_was_idle() {
    let mut simulation = Simulation::new(StoreSharing::Replicas);
    for delay in [200, 400, 800, 1600, 2000, 2000] {
        simulation.answer(OperationFate::Unavailable);
        simulation.advance(Duration::from_millis(delay - 1));
        assert!(simulation.operation.is_none());
        simulation.advance(Duration::from_millis(1));
        assert!(matches!(simulation.operation, Some(AwaitedOperation::Open)));
    }
    simulation.answer_all();
    simulation.advance(Duration::from_secs(10));
    // A command arrives meanwhile, so that the owner stays.
    simulation.answer_until(|operation| matches!(operation, AwaitedOperation::ReleaseLease));
    simulation.advance(Duration::from_secs(10));
    simulation.answer_until(|operation| matches!(operation, AwaitedOperation::ReleaseLease));
    simulation.say();
    simulation.answer_until(|operation| matches!(operation, AwaitedOperation::Open));
    simulation.answer(OperationFate::Unavailable);
    simulation.advance(Duration::from_millis(200));
    assert!(matches!(simulation.operation, Some(AwaitedOperation::Open)));
}

#[test]
fn commands_of_an_unknown_commit_are_consumed_once() {
    for fate in [OperationFate::Unavailable, OperationFate::TakesEffectUnnoticed] {
        let mut simulation = opened();
        simulation.say();
        simulation.store.submit(CommandBody::Title { title: "mine".into() });
        simulation.answer_until(is_commit);
        simulation.answer(fate);
        simulation.answer_all();
        simulation.advance_to_deadline();
        simulation.answer_all();
        let titles = simulation.event_types().iter().filter(|event| **event == "title_changed").count();
        assert_eq!((titles, simulation.store.inbox.len()), (1, 0), "{fate:?}");
        assert_eq!(simulation.store.log.iter().filter(|event| event.body.event_type() == "user_message").count(), 1);
    }
}
