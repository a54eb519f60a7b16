//! Which steps are possible in a state.

use crate::{
    action::{ConfirmOutcome, ProtocolAction},
    log::{ModelEvent, ProcessIndex},
    process::{CallStage, PrimaryName},
    settings::{PromotionRule, ProtocolRule, ProtocolSettings, WriteConfirmation},
    state::{PROCESSES, ProtocolState},
    store::PrimaryNode,
};

/// Lists what may happen in a state. Some of it changes nothing.
pub(crate) fn list_possible(settings: &ProtocolSettings, state: &ProtocolState, actions: &mut Vec<ProtocolAction>) {
    // Before the first lease the processes are alike, and so are their steps.
    let processes = if state.spent.leases == 0 && state.processes[0] == state.processes[1] { 1 } else { PROCESSES };
    for process in 0..processes {
        list_of_process(settings, state, process, actions);
    }
    if state.former.is_some() {
        actions.push(ProtocolAction::JoinFormerPrimary);
    } else if state.spent.failovers < settings.bounds.failovers {
        list_failovers(settings, state, actions);
    }
}

fn list_of_process(
    settings: &ProtocolSettings,
    state: &ProtocolState,
    process: ProcessIndex,
    actions: &mut Vec<ProtocolAction>,
) {
    let this = &state.processes[process];
    let Some(node) = state.node(this.connection) else { return };
    let outcomes = list_outcomes(settings, node);
    // A command does the same through every process that is connected to the node.
    let is_first = state.processes[..process].iter().all(|other| other.connection != this.connection);
    if is_first {
        list_of_client(settings, state, process, &outcomes, actions);
    }
    let may_watch = settings.bounds.watchers && state.spent.failovers < settings.bounds.failovers;
    if this.ownership.is_some() || state.spent.failovers > 0 && !this.has_compared || may_watch {
        actions.push(ProtocolAction::CompareLog(process));
    }
    if let Some(owned) = &this.ownership {
        if owned.plan_commit(settings, &node.session.inbox, 0).is_some() {
            actions.push(ProtocolAction::Commit(process));
        }
        match owned.call {
            CallStage::Confirmed => actions.push(ProtocolAction::SendCall(process)),
            // A connection that has written nothing has nothing to wait for, and the server says so at once.
            CallStage::Unconfirmed { is_reconnected: true } if !settings.keeps(ProtocolRule::MarkBeforeWait) => {
                actions.push(ProtocolAction::ConfirmStart { process, copies: 0 });
            }
            CallStage::Unconfirmed { .. } => {
                let confirmations = node.possible_confirmations(settings).into_iter();
                actions.extend(confirmations.map(|copies| ProtocolAction::ConfirmStart { process, copies }));
            }
            CallStage::None | CallStage::Sent => {}
        }
        if owned.is_valid {
            actions.push(ProtocolAction::ExpireLease(process));
        }
        if !owned.is_renewed {
            actions.push(ProtocolAction::RenewLease(process));
        }
    } else if state.spent.leases < settings.bounds.leases && node.session.has_work() {
        actions.push(ProtocolAction::AcquireLease(process));
    }
    if state.spent.crashes < settings.bounds.crashes {
        actions.push(ProtocolAction::Crash(process));
    }
    if this.connection == PrimaryName::Former {
        actions.push(ProtocolAction::Reconnect(process));
    }
}

fn list_of_client(
    settings: &ProtocolSettings,
    state: &ProtocolState,
    through: ProcessIndex,
    outcomes: &[ConfirmOutcome],
    actions: &mut Vec<ProtocolAction>,
) {
    let Some(node) = state.node(state.processes[through].connection) else { return };
    let session = &node.session;
    let is_known = session.message_receipt.is_some();
    if !state.acknowledged.message && (is_known || state.spent.runs < settings.bounds.runs) {
        actions.extend(outcomes.iter().map(|outcome| ProtocolAction::SubmitMessage { through, outcome: *outcome }));
    }
    for event in session.log.events() {
        if let ModelEvent::CallRequested { approval } = event
            && !state.acknowledged.approvals.contains(approval)
        {
            actions.extend(outcomes.iter().map(|outcome| ProtocolAction::Approve {
                approval,
                through,
                outcome: *outcome,
            }));
        }
    }
}

fn list_failovers(settings: &ProtocolSettings, state: &ProtocolState, actions: &mut Vec<ProtocolAction>) {
    let copies = &state.current.copies;
    for (promoted, versions) in copies.iter().enumerate() {
        let others = (0..1_u8 << copies.len()).filter(|mask| mask & (1 << promoted) == 0).map(Some);
        let cut_offs = std::iter::once(None).chain(others.filter(|_| settings.split_brain));
        for cut_off in cut_offs {
            for (version, shared) in versions.iter().enumerate() {
                let reachable = copies
                    .iter()
                    .enumerate()
                    .filter(|(index, _)| *index != promoted && cut_off.is_none_or(|mask| mask & (1 << index) == 0));
                let mut oldest =
                    reachable.map(|(_, copy)| copy.iter().map(|version| version.session.offset).min().unwrap_or(0));
                if settings.promotion == PromotionRule::Any || oldest.all(|oldest| oldest <= shared.session.offset) {
                    actions.push(ProtocolAction::Failover { promoted, version, cut_off });
                }
            }
        }
    }
}

/// The outcomes that a write to a node can have.
fn list_outcomes(settings: &ProtocolSettings, node: &PrimaryNode) -> Vec<ConfirmOutcome> {
    if settings.confirmation == WriteConfirmation::Off {
        return vec![ConfirmOutcome::NotAsked];
    }
    let confirmed = node.possible_confirmations(settings).into_iter().map(ConfirmOutcome::Confirmed);
    confirmed.chain([ConfirmOutcome::Missing]).collect()
}
