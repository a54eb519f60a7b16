//! What each step does.

use crate::{
    action::{ConfirmOutcome, ProtocolAction},
    log::{ModelEvent, NumberSet, ProcessIndex},
    process::{CallStage, PlannedCommit, PrimaryName, ServiceProcess},
    settings::{PromotionRule, ProtocolRule, ProtocolSettings, StoreCopies, WriteConfirmation},
    state::ProtocolState,
    store::{CommitRequest, InboxCommand, PrimaryNode, RecordedLease, ReplicatedSession, SharedSession, SubmitReply},
};

/// Takes the step; `None` if it is not possible or changes nothing.
pub(crate) fn take_step(action: ProtocolAction, settings: &ProtocolSettings, state: &mut ProtocolState) -> Option<()> {
    match action {
        ProtocolAction::SubmitMessage { through, outcome } => submit_message(settings, state, through, outcome),
        ProtocolAction::Approve { approval, through, outcome } => {
            approve_call(settings, state, approval, through, outcome)
        }
        ProtocolAction::AcquireLease(process) => acquire_lease(settings, state, process),
        ProtocolAction::Commit(process) => commit_next(settings, state, process),
        ProtocolAction::ConfirmStart { process, copies } => confirm_start(settings, state, process, copies),
        ProtocolAction::SendCall(process) => send_call(settings, state, process),
        ProtocolAction::CompareLog(process) => compare_log(settings, state, process),
        ProtocolAction::ExpireLease(process) => {
            state.processes[process].ownership.as_mut()?.is_valid = false;
            Some(())
        }
        ProtocolAction::RenewLease(process) => renew_lease(state, process),
        ProtocolAction::Crash(process) => {
            let this = &mut state.processes[process];
            let started = ServiceProcess::started(this.connection);
            if *this == started {
                return None;
            }
            *this = started;
            state.spent.crashes += 1;
            Some(())
        }
        ProtocolAction::Reconnect(process) => {
            state.processes[process].reconnect();
            Some(())
        }
        ProtocolAction::Failover { promoted, version, cut_off } => {
            fail_over(settings, state, promoted, version, cut_off)
        }
        ProtocolAction::JoinFormerPrimary => join_former_primary(state),
    }?;
    if state.spent.failovers == settings.bounds.failovers {
        state.forget_what_is_over();
    }
    Some(())
}

/// Applies the confirmation; returns whether the write counts.
fn apply_outcome(outcome: ConfirmOutcome, node: &mut PrimaryNode) -> bool {
    match outcome {
        ConfirmOutcome::NotAsked => true,
        ConfirmOutcome::Confirmed(mask) => {
            node.confirm(mask);
            true
        }
        ConfirmOutcome::Missing => false,
    }
}

impl PlannedCommit {
    /// Whether the commit precedes an effect, and therefore is confirmed.
    pub(crate) fn starts_call(&self) -> bool {
        matches!(self.events.as_slice(), [ModelEvent::ToolStart { .. }])
    }
}

/// Whether the client is told that its command is accepted.
fn is_acknowledged(
    settings: &ProtocolSettings,
    node: &mut PrimaryNode,
    reply: SubmitReply,
    outcome: ConfirmOutcome,
) -> bool {
    let skips = reply == SubmitReply::Known && !settings.keeps(ProtocolRule::ConfirmRetries);
    apply_outcome(outcome, node) || skips
}

fn submit_message(
    settings: &ProtocolSettings,
    state: &mut ProtocolState,
    through: ProcessIndex,
    outcome: ConfirmOutcome,
) -> Option<()> {
    let run = state.spent.runs;
    let node = state.node_mut(state.processes[through].connection)?;
    let reply = node.write(settings, |session| session.submit_command(InboxCommand::Message { run }));
    let is_acknowledged = is_acknowledged(settings, node, reply, outcome);
    if reply == SubmitReply::Known && !is_acknowledged {
        return None;
    }
    if reply == SubmitReply::Accepted {
        state.spent.runs += 1;
    }
    state.acknowledged.message = is_acknowledged;
    Some(())
}

fn approve_call(
    settings: &ProtocolSettings,
    state: &mut ProtocolState,
    approval: u8,
    through: ProcessIndex,
    outcome: ConfirmOutcome,
) -> Option<()> {
    let node = state.node_mut(state.processes[through].connection)?;
    let session = &node.session;
    let is_pending = session.log.open_run().is_some_and(|run| run.approval == Some(approval) && !run.is_approved);
    // What is closed is rejected, unless this client closed it.
    if !is_pending && !session.approval_receipts.contains(approval) {
        return None;
    }
    let reply = node.write(settings, |session| session.submit_command(InboxCommand::Resolve { approval }));
    let is_acknowledged = is_acknowledged(settings, node, reply, outcome);
    if is_acknowledged {
        state.acknowledged.approvals.insert(approval);
    } else if reply == SubmitReply::Known {
        return None;
    }
    Some(())
}

/// Whether the lease that a node has is still valid there. Time passes whenever nothing contradicts it: an owner whose renewals
/// reach another node, or were lost, is overtaken.
fn is_lease_valid(state: &ProtocolState, name: PrimaryName, lease: RecordedLease) -> bool {
    let holder = &state.processes[lease.holder];
    holder.connection == name
        && holder
            .ownership
            .as_ref()
            .is_some_and(|owned| owned.lease == lease.number && owned.is_valid && owned.is_renewed)
}

fn acquire_lease(settings: &ProtocolSettings, state: &mut ProtocolState, process: ProcessIndex) -> Option<()> {
    let name = state.processes[process].connection;
    let recorded = state.node(name)?.session.lease;
    if recorded.is_some_and(|lease| lease.holder != process && is_lease_valid(state, name, lease)) {
        return None;
    }
    state.spent.leases += 1;
    let number = state.spent.leases;
    let node = state.node_mut(name)?;
    node.write(settings, |session| session.acquire_lease(RecordedLease { holder: process, number }));
    let session = node.session.clone();
    state.processes[process].open_session(settings, &session, number);
    Some(())
}

fn commit_next(settings: &ProtocolSettings, state: &mut ProtocolState, process: ProcessIndex) -> Option<()> {
    let next_approval = state.spent.approvals;
    let this = &state.processes[process];
    let name = this.connection;
    let owned = this.ownership.as_ref()?.clone();
    let node = state.node_mut(name)?;
    let plan = owned.plan_commit(settings, &node.session.inbox, next_approval)?;
    let request = CommitRequest {
        epoch: owned.epoch,
        lease: owned.lease,
        expected: &owned.view,
        first_seq: plan.first_seq,
        events: &plan.events,
        consumed: plan.consumed,
    };
    let Ok(entries) = node.write(settings, |session| session.commit_events(settings, &request)) else {
        state.processes[process].stop_owning();
        return Some(());
    };
    let is_newest = node.session.lease.is_some_and(|lease| lease.number == owned.lease);
    let this = &mut state.processes[process];
    this.apply_commit(&entries);
    if plan.starts_call()
        && let Some(owned) = &mut this.ownership
    {
        owned.call = match settings.confirmation {
            WriteConfirmation::Off => CallStage::Confirmed,
            _ => CallStage::Unconfirmed { is_reconnected: false },
        };
    }
    if plan.events.iter().any(|event| matches!(event, ModelEvent::CallRequested { .. })) {
        state.spent.approvals += 1;
    }
    state.was_superseded |= !is_newest;
    Some(())
}

/// `mark_write.lua`: the write is looked for, and a mark is written behind it on the connection that waits.
fn confirm_start(
    settings: &ProtocolSettings,
    state: &mut ProtocolState,
    process: ProcessIndex,
    copies: u8,
) -> Option<()> {
    let this = &state.processes[process];
    let view = this.ownership.as_ref()?.view.clone();
    let connection = this.connection;
    let node = state.node_mut(connection)?;
    let log = &node.session.log;
    let is_found = if settings.keeps(ProtocolRule::CompareLineage) {
        view.is_continued_by(log)
    } else {
        view.last_seq() <= log.last_seq()
    };
    if settings.keeps(ProtocolRule::MarkBeforeWait) && !is_found {
        return None;
    }
    node.confirm(copies);
    state.processes[process].ownership.as_mut()?.call = CallStage::Confirmed;
    Some(())
}

fn send_call(settings: &ProtocolSettings, state: &mut ProtocolState, process: ProcessIndex) -> Option<()> {
    let this = &mut state.processes[process];
    let owned = this.ownership.as_mut()?;
    if settings.keeps(ProtocolRule::CheckLease) && !owned.is_valid {
        this.stop_owning();
        return Some(());
    }
    owned.call = CallStage::Sent;
    let start = *owned.view.0.iter().rfind(|entry| matches!(entry.event, ModelEvent::ToolStart { .. }))?;
    state.effects += 1;
    let log = &state.current.session.log.0;
    let after = log.iter().skip_while(|entry| **entry != start);
    state.was_late |= after.into_iter().any(|entry| matches!(entry.event, ModelEvent::ToolEnd(_)));
    Some(())
}

/// What every watcher does when it looks (`remote_tail.rs`), and every owner (`check_log`).
fn compare_log(settings: &ProtocolSettings, state: &mut ProtocolState, process: ProcessIndex) -> Option<()> {
    let this = &state.processes[process];
    let name = this.connection;
    let node = state.node(name)?;
    if let Some(owned) = &this.ownership {
        let is_as_written = owned.view.is_continued_by(&node.session.log) && node.session.lost_seq == 0;
        if owned.is_valid && (is_as_written || owned.pending_loss.is_some()) {
            return None;
        }
        // The owner starts over, and compares when it opens the session again.
        state.processes[process].stop_owning();
        return Some(());
    }
    let log = node.session.log.clone();
    let loss = this.find_lost_events(settings, &log);
    if loss.is_none() && this.known == log && (this.has_compared || name == PrimaryName::Former) {
        return None;
    }
    if let Some(loss) = loss {
        let node = state.node_mut(name)?;
        node.write(settings, |session| session.report_lost_branch(loss.known_seq, loss.runs));
        // `record_loss`.
        state.processes[process].sent_runs = NumberSet::default();
    }
    let this = &mut state.processes[process];
    this.read(&log);
    this.has_compared = name == PrimaryName::Current;
    Some(())
}

fn renew_lease(state: &mut ProtocolState, process: ProcessIndex) -> Option<()> {
    let this = &state.processes[process];
    let epoch = this.ownership.as_ref()?.epoch;
    let session = &state.node(this.connection)?.session;
    let is_current = session.epoch == epoch && session.lease.is_some();
    let this = &mut state.processes[process];
    if is_current && let Some(owned) = &mut this.ownership {
        owned.is_renewed = true;
    } else {
        this.stop_owning();
    }
    Some(())
}

fn fail_over(
    settings: &ProtocolSettings,
    state: &mut ProtocolState,
    promoted: usize,
    version: usize,
    cut_off: Option<u8>,
) -> Option<()> {
    state.spent.failovers += 1;
    let mut copies = std::mem::take(&mut state.current.copies);
    let promoted_version = copies[promoted].iter().nth(version)?.clone();
    let session = ReplicatedSession::clone(&promoted_version.session);
    let former = std::mem::replace(&mut state.current.session, session.clone());
    let mut staying = Vec::new();
    for (index, mut copy) in copies.drain(..).enumerate() {
        if index == promoted {
            continue;
        }
        if cut_off.is_some_and(|mask| mask & (1 << index) != 0) {
            staying.push(copy);
            continue;
        }
        if settings.promotion == PromotionRule::MostAdvanced {
            copy.retain(|version| version.session.offset <= session.offset);
        }
        copy.insert(promoted_version.clone());
        state.current.copies.push(copy);
    }
    if settings.copies == StoreCopies::AppendOnlyFile {
        state.current.copies.push([promoted_version].into());
    } else if cut_off.is_none() {
        state.current.copies.push([SharedSession::new(&former), promoted_version].into());
    }
    if cut_off.is_some() {
        state.former = Some(PrimaryNode { session: former, copies: staying });
    }
    for process in &mut state.processes {
        if cut_off.is_some() {
            process.connection = PrimaryName::Former;
            process.has_compared = false;
        } else {
            process.reconnect();
        }
    }
    Some(())
}

fn join_former_primary(state: &mut ProtocolState) -> Option<()> {
    let former = state.former.take()?;
    let current = SharedSession::new(&state.current.session);
    state.current.copies.push([SharedSession::new(&former.session), current.clone()].into());
    for mut copy in former.copies {
        copy.insert(current.clone());
        state.current.copies.push(copy);
    }
    for process in &mut state.processes {
        if process.connection == PrimaryName::Former {
            process.reconnect();
        }
    }
    Some(())
}
