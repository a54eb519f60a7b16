//! The state machine, without store, tasks and clocks.

mod properties;
mod simulated_run;
mod simulated_store;
mod simulation;
mod transitions;
