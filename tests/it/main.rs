//! Integration tests: the real service on a free port, talked to as a client would. One file per capability.

#[path = "../support/fake_server.rs"]
mod fake_server;
#[path = "../support/keys.rs"]
mod keys;
#[path = "../support/obedient.rs"]
mod obedient;
#[path = "../support/program.rs"]
mod program;
#[path = "../support/provider.rs"]
mod provider;
#[path = "../support/redis.rs"]
mod redis;
#[path = "../support/rememberer.rs"]
mod rememberer;
#[path = "../support/scripted.rs"]
mod scripted;
#[path = "../support/service.rs"]
mod service;
#[path = "../support/testbed.rs"]
mod testbed;
#[path = "../support/tools.rs"]
mod tools;

mod approvals;
mod asyncapi;
mod audit;
mod bad_input;
mod chat;
mod clients;
mod context;
mod contract;
mod demo;
mod deployment;
mod events;
mod fallback;
mod faults;
mod identity;
mod injection;
mod inputs;
mod limits;
mod mcp;
mod mcp_questions;
mod memories;
mod messages;
mod metrics;
mod openapi;
mod outputs;
mod providers;
mod recall;
mod redis_peers;
mod redis_store;
mod reload;
mod replicas;
mod restart;
mod secrets;
mod sessions;
mod slow_clients;
mod start;
mod stop;
mod switching;
mod traces;
mod usage;
mod user_tokens;
mod websocket;
