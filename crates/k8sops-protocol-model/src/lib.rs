//! A model of the commit, lease and failover protocol of k8sops for the model checker stateright: one session, one message with
//! one call that changes something, two replicas of k8sops, and a store with lagging copies. The page "Model of the protocol" of
//! the documentation says what is modeled and what is not, and shows the output.

mod action;
mod enabled;
mod log;
mod model;
mod process;
mod report;
mod scenario;
mod settings;
mod state;
mod steps;
mod store;
mod trace;

pub use report::describe_result;
pub use scenario::{ModelScenario, ScenarioResult, all_scenarios};
