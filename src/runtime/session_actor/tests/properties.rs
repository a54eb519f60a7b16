//! What holds for any order of inputs, and any failure of an operation.

use std::{collections::BTreeSet, time::Duration};

use k8sops_core::*;
use proptest::prelude::*;

use super::simulation::{OperationFate, Simulation, internal_failure, message, unavailable};
use crate::runtime::session_actor::{
    effects::ClosedSession,
    inputs::{ActorInput, RunEnding, StoreSharing},
    state::ShutdownNotice,
};

#[derive(Debug, Clone)]
enum WorldAction {
    Say(OnBusy),
    /// A message is offered to the owner.
    Offer(OnBusy),
    Cancel,
    Decide(ApprovalDecision),
    Rename,
    ChangeSettings,
    /// The actor learns of commands.
    Notify,
    Answer(OperationFate),
    AppendInRun,
    FinishRun,
    FailRun,
    CutRun,
    FinishExtraction,
    Wait(Duration),
    WaitForDeadline,
    LoseLease,
    /// The service shuts down; only the run notices.
    Halt,
    /// The actor notices the shutdown.
    NoticeShutdown,
    Delete,
}

fn fates() -> impl Strategy<Value = OperationFate> {
    prop_oneof![
        20 => Just(OperationFate::Succeeds),
        2 => Just(OperationFate::Unavailable),
        1 => Just(OperationFate::TakesEffectUnnoticed),
        1 => Just(OperationFate::Fenced),
        1 => Just(OperationFate::Held),
    ]
}

fn actions() -> impl Strategy<Value = Vec<WorldAction>> {
    let frequent = prop_oneof![
        6 => prop_oneof![Just(OnBusy::Enqueue), Just(OnBusy::Interrupt)].prop_map(WorldAction::Say),
        6 => prop_oneof![Just(OnBusy::Enqueue), Just(OnBusy::Interrupt)].prop_map(WorldAction::Offer),
        3 => Just(WorldAction::Cancel),
        2 => prop_oneof![Just(ApprovalDecision::Approve), Just(ApprovalDecision::Deny)].prop_map(WorldAction::Decide),
        1 => Just(WorldAction::Rename),
        1 => Just(WorldAction::ChangeSettings),
        8 => Just(WorldAction::Notify),
        30 => fates().prop_map(WorldAction::Answer),
        8 => Just(WorldAction::AppendInRun),
        8 => Just(WorldAction::FinishRun),
        2 => Just(WorldAction::FinishExtraction),
        2 => (0_u64..4000).prop_map(|ms| WorldAction::Wait(Duration::from_millis(ms))),
        6 => Just(WorldAction::WaitForDeadline),
    ];
    let rare = prop_oneof![
        2 => Just(WorldAction::FailRun),
        2 => Just(WorldAction::CutRun),
        2 => Just(WorldAction::LoseLease),
        1 => Just(WorldAction::Halt),
        1 => Just(WorldAction::NoticeShutdown),
        1 => Just(WorldAction::Answer(OperationFate::Damaged)),
        1 => Just(WorldAction::Delete),
    ];
    prop::collection::vec(prop_oneof![60 => frequent, 1 => rare], 1..160)
}

impl Simulation {
    fn act(&mut self, action: &WorldAction) {
        match action {
            WorldAction::Say(on_busy) => self.store.submit(message(*on_busy)),
            WorldAction::Offer(on_busy) => self.offer(message(*on_busy)),
            WorldAction::Cancel => {
                let waiting = self.store.inbox.iter().find(|entry| entry.command.is_message());
                let run_id = self.store.session.summary.open_run.or_else(|| waiting?.command.run_id());
                self.store.submit(CommandBody::Cancel { run_id });
            }
            WorldAction::Decide(decision) => {
                let Some(asked) = self.store.session.pending_approvals().next() else { return };
                let approval_id = asked.approval_id;
                let decision = *decision;
                let body =
                    CommandBody::Resolve { approval_id, decision, arguments: None, comment: None, approver: false };
                self.store.submit(body);
            }
            WorldAction::Rename => self.store.submit(CommandBody::Title { title: "t".into() }),
            WorldAction::ChangeSettings => {
                let patch = SettingsPatch { temperature: Some(Some(0.5)), ..SettingsPatch::default() };
                self.store.submit(CommandBody::Settings(patch));
            }
            WorldAction::Notify => self.notify(),
            WorldAction::Answer(fate) => self.answer(*fate),
            WorldAction::AppendInRun => self.append(),
            WorldAction::FinishRun => self.finish_run(),
            WorldAction::FailRun => self.end_run(RunEnding::Failed(internal_failure())),
            WorldAction::CutRun => self.end_run(RunEnding::LogClosed),
            WorldAction::FinishExtraction => self.finish_extraction(),
            WorldAction::Wait(time) => self.advance(*time),
            WorldAction::WaitForDeadline => self.advance_to_deadline(),
            WorldAction::LoseLease => {
                if self.owned().is_some() {
                    self.input(ActorInput::LeaseLost(unavailable()));
                }
            }
            WorldAction::Halt => self.is_halted = true,
            WorldAction::NoticeShutdown => {
                if self.shutdown() == ShutdownNotice::None {
                    self.is_halted = true;
                    self.input(ActorInput::ShutdownRequested);
                }
            }
            WorldAction::Delete => {
                self.closed = Some(ClosedSession::Deleted);
                self.store.inbox.clear();
                self.offer = None;
                self.input(ActorInput::SessionDeleted);
            }
        }
    }

    /// Everything works, and the actor is left alone until it has ended.
    fn rest(&mut self) {
        for _ in 0..2000 {
            if self.has_ended() && self.has_work() {
                self.restart();
            } else if self.has_ended() {
                return;
            }
            if self.is_halted && self.shutdown() == ShutdownNotice::None {
                self.input(ActorInput::ShutdownRequested);
            } else if self.operation.is_some() {
                self.answer(OperationFate::Succeeds);
            } else if self.run.is_some() && (self.is_halted || !self.store.awaits_approval()) {
                self.finish_run();
            } else if self.is_extracting {
                self.finish_extraction();
            } else {
                self.advance_to_deadline();
            }
        }
        panic!("the actor does not end");
    }

    fn started_runs(&self) -> Vec<RunId> {
        let starts = self.store.log.iter().filter(|event| matches!(event.body, EventBody::UserMessage(_)));
        starts.filter_map(|event| event.run_id).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_inputs_is_survived(actions in actions(), is_shared in any::<bool>()) {
        let sharing = if is_shared { StoreSharing::Replicas } else { StoreSharing::SingleProcess };
        let mut simulation = Simulation::new(sharing);
        for action in &actions {
            simulation.act(action);
        }
        simulation.rest();

        let started = simulation.started_runs();
        let distinct: BTreeSet<RunId> = started.iter().copied().collect();
        prop_assert_eq!(distinct.len(), started.len(), "a message has one run");
        prop_assert!(started.iter().all(|run| simulation.store.accepted.contains(run)));
        if !simulation.is_halted && simulation.closed.is_none() {
            prop_assert!(simulation.store.inbox.is_empty(), "left: {:?}", simulation.store.inbox);
            prop_assert_eq!(distinct, simulation.store.accepted.iter().copied().collect::<BTreeSet<_>>());
            prop_assert_eq!(simulation.store.session.summary.open_run, None);
            prop_assert!(!simulation.store.session.summary.to_learn);
        }
    }
}
