//! The model: what can happen in each state, and what must hold in all of them.

use stateright::{Model, Property};

use crate::{
    action::ProtocolAction,
    enabled::list_possible,
    log::{ModelEvent, RecordedEnd},
    process::{PrimaryName, ServiceProcess},
    settings::{ProtocolSettings, StoreCopies},
    state::{ClientAcknowledgements, PROCESSES, ProtocolState, SpentBounds},
    steps::take_step,
    store::{PrimaryNode, ReplicatedSession},
};

/// The model of the protocol under some settings.
#[derive(Debug, Clone)]
pub(crate) struct ProtocolModel {
    /// What varies.
    pub(crate) settings: ProtocolSettings,
    /// The names of the properties that are checked.
    pub(crate) checked: Vec<&'static str>,
}

/// At most one effect.
pub(crate) const NO_SECOND_EFFECT: &str = "the change is made at most once";
/// Every effect has a record.
pub(crate) const EFFECT_IS_LOGGED: &str = "a change that was made is in the log";
/// Nothing acknowledged is lost.
pub(crate) const NOTHING_ACKNOWLEDGED_LOST: &str = "no acknowledged message or approval is lost";
/// A lost call is announced.
pub(crate) const LOSS_IS_ANNOUNCED: &str = "a process that knows of a lost call announces it";
/// Seqs are not used twice.
pub(crate) const SEQ_IS_UNIQUE: &str = "after log_truncated no seq stands for two events";
/// No call is sent after its end.
pub(crate) const NO_LATE_CALL: &str = "no call is sent after another owner logged its end";
/// Only the owner writes.
pub(crate) const ONE_WRITER: &str = "only the holder of the newest lease writes";
/// A run can succeed.
pub(crate) const RUN_SUCCEEDS: &str = "a run can succeed";
/// A run can succeed after a failover.
pub(crate) const RUN_SURVIVES_FAILOVER: &str = "a run can succeed after a failover";
/// A takeover can find an open call.
pub(crate) const TAKEOVER_ENDS_CALL: &str = "a takeover can end an open call as unknown";

impl Model for ProtocolModel {
    type State = ProtocolState;
    type Action = ProtocolAction;

    fn init_states(&self) -> Vec<ProtocolState> {
        let copies = match self.settings.copies {
            StoreCopies::Replicas(count) => count,
            StoreCopies::AppendOnlyFile => 1,
        };
        vec![ProtocolState {
            current: PrimaryNode::with_copies(ReplicatedSession::default(), copies),
            former: None,
            processes: vec![ServiceProcess::started(PrimaryName::Current); PROCESSES],
            acknowledged: ClientAcknowledgements::default(),
            spent: SpentBounds::default(),
            effects: 0,
            was_late: false,
            was_superseded: false,
        }]
    }

    fn actions(&self, state: &ProtocolState, actions: &mut Vec<ProtocolAction>) {
        list_possible(&self.settings, state, actions);
    }

    fn next_state(&self, state: &ProtocolState, action: ProtocolAction) -> Option<ProtocolState> {
        let mut next = state.clone();
        take_step(action, &self.settings, &mut next)?;
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let all = [
            Property::<Self>::always(NO_SECOND_EFFECT, |_, state| state.effects <= 1),
            Property::<Self>::always(EFFECT_IS_LOGGED, |_, state| {
                state.effects == 0 || state.log().events().any(|event| matches!(event, ModelEvent::ToolStart { .. }))
            }),
            Property::<Self>::always(NOTHING_ACKNOWLEDGED_LOST, |_, state| state.has_acknowledged()),
            Property::<Self>::always(LOSS_IS_ANNOUNCED, |_, state| state.has_announced_lost_calls()),
            Property::<Self>::always(SEQ_IS_UNIQUE, |_, state| state.has_unique_seqs()),
            Property::<Self>::always(NO_LATE_CALL, |_, state| !state.was_late),
            Property::<Self>::always(ONE_WRITER, |_, state| !state.was_superseded),
            Property::<Self>::sometimes(RUN_SUCCEEDS, |_, state| state.ends_with(RecordedEnd::Succeeded)),
            Property::<Self>::sometimes(RUN_SURVIVES_FAILOVER, |_, state| {
                let last_lease = state.log().0.last().map(|entry| entry.lease);
                state.spent.failovers > 0
                    && state.effects == 1
                    && state.ends_with(RecordedEnd::Succeeded)
                    && last_lease == state.current.session.lease.map(|lease| lease.number)
            }),
            Property::<Self>::sometimes(TAKEOVER_ENDS_CALL, |_, state| {
                state.effects == 1 && state.ends_with(RecordedEnd::Unknown)
            }),
        ];
        all.into_iter().filter(|property| self.checked.contains(&property.name)).collect()
    }
}
