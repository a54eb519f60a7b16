//! What a run of the test does, from its command line.

use std::collections::BTreeSet;

use crate::{disturbance::DisturbanceKind, door_client::ChaosDoor};

/// The Redis servers of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RedisTopology {
    /// A primary and its replica behind one address, as a managed service has it.
    Single,
    /// A primary and its replica, which a Sentinel promotes.
    Sentinel,
    /// Three primaries with a replica each.
    Cluster,
}

impl RedisTopology {
    /// Returns the value of `REDIS_TOPOLOGY` and of `--topology`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Sentinel => "sentinel",
            Self::Cluster => "cluster",
        }
    }

    fn from_name(name: &str) -> Result<Self, String> {
        let all = [Self::Single, Self::Sentinel, Self::Cluster];
        all.into_iter().find(|topology| topology.name() == name).ok_or_else(|| format!("unknown topology {name:?}"))
    }
}

/// The size of the test, and the disturbances.
#[derive(Debug, Clone)]
pub(crate) struct ChaosPlan {
    pub sessions: usize,
    pub replicas: usize,
    pub seed: u64,
    pub disturbances: usize,
    pub kinds: Vec<DisturbanceKind>,
    pub topology: RedisTopology,
    /// `REDIS_CONFIRM`; `None` leaves the default of the service.
    pub confirm: Option<String>,
    /// What the clients work over, one after the other.
    pub doors: Vec<ChaosDoor>,
}

impl ChaosPlan {
    /// Parses the options of the test. Returns `None` if the filters of `cargo test` exclude this test. `cargo test` passes
    /// its own options to every test program; they are ignored.
    ///
    /// # Errors
    /// A value that cannot be parsed, or a kind that the topology does not allow.
    pub(crate) fn from_args(args: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut plan = Self {
            sessions: 6,
            replicas: 3,
            seed: fastrand::u64(..1_000_000),
            disturbances: 2 * DisturbanceKind::ALL.len(),
            kinds: DisturbanceKind::ALL.to_vec(),
            topology: RedisTopology::Single,
            // Otherwise failovers lose writes, and then a change may be made again.
            confirm: Some("1".to_owned()),
            doors: vec![ChaosDoor::Native, ChaosDoor::Responses, ChaosDoor::Native, ChaosDoor::AgUi, ChaosDoor::A2a],
        };
        let mut filters = Vec::new();
        let mut args = args.skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match arg.as_str() {
                "--disturbances" => plan.disturbances = parse_count(&value()?)?,
                "--kinds" => plan.kinds = parse_kinds(&value()?)?,
                "--topology" => plan.topology = RedisTopology::from_name(&value()?)?,
                "--confirm" => plan.confirm = Some(value()?).filter(|confirm| confirm != "default"),
                "--doors" => plan.doors = value()?.split(',').map(ChaosDoor::from_name).collect::<Result<_, _>>()?,
                "--sessions" => plan.sessions = parse_count(&value()?)?.max(1),
                "--replicas" => plan.replicas = parse_count(&value()?)?.max(2),
                "--seed" => plan.seed = value()?.parse().map_err(|error| format!("--seed: {error}"))?,
                "--list" => {
                    println!("chaos: test");
                    return Ok(None);
                }
                "--skip" | "--test-threads" | "--format" | "--color" | "--logfile" | "-Z" => {
                    args.next();
                }
                option if option.starts_with('-') => {}
                filter => filters.push(filter.to_owned()),
            }
        }
        let is_selected = filters.is_empty() || filters.iter().any(|filter| "chaos".contains(filter.as_str()));
        Ok(is_selected.then_some(plan))
    }

    /// Removes the kinds that cannot be done here, and says which.
    pub(crate) fn skip_impossible_kinds(&mut self) {
        let topology = self.topology;
        self.kinds.retain(|kind| match kind.missing_requirement(topology) {
            Some(missing) => {
                println!("chaos: SKIPPED, no {} disturbances: {missing}", kind.name());
                false
            }
            None => true,
        });
    }

    /// Returns all disturbances: each kind equally often, in random order.
    pub(crate) fn shuffled_disturbances(&self, random: &mut fastrand::Rng) -> Vec<DisturbanceKind> {
        let mut kinds: Vec<_> = self.kinds.iter().copied().cycle().take(self.disturbances).collect();
        random.shuffle(&mut kinds);
        kinds
    }

    /// Whether the store may lose what it has acknowledged: a replica of Redis that lags is promoted, and no replica has to
    /// confirm.
    pub(crate) fn may_lose_writes(&self) -> bool {
        let is_confirmed = self.confirm.as_deref().is_some_and(|confirm| confirm.parse::<u64>().is_ok_and(|n| n > 0));
        self.kinds.contains(&DisturbanceKind::Failover) && !is_confirmed
    }
}

fn parse_count(value: &str) -> Result<usize, String> {
    value.parse().map_err(|_| format!("a number is needed, not {value:?}"))
}

fn parse_kinds(value: &str) -> Result<Vec<DisturbanceKind>, String> {
    let names: BTreeSet<&str> = value.split(',').map(str::trim).collect();
    let kinds: Vec<_> = DisturbanceKind::ALL.into_iter().filter(|kind| names.contains(kind.name())).collect();
    if kinds.len() == names.len() {
        return Ok(kinds);
    }
    let known: Vec<_> = DisturbanceKind::ALL.iter().map(|kind| kind.name()).collect();
    Err(format!("{value:?} names an unknown disturbance; known are {}", known.join(",")))
}
