//! Integration tests: they start the real service on a free port and use its API. One file per capability.

#[path = "../support/a2a_client.rs"]
mod a2a_client;
#[path = "../support/agui_client.rs"]
mod agui_client;
#[path = "../support/door_logs.rs"]
mod door_logs;
#[path = "../support/keys.rs"]
mod keys;
#[path = "../support/notification_receiver.rs"]
mod notification_receiver;
#[path = "../support/program.rs"]
mod program;
#[path = "../support/responses_client.rs"]
mod responses_client;
#[path = "../support/service.rs"]
mod service;
#[path = "../support/two_replicas.rs"]
mod two_replicas;

mod a2a_clients;
mod a2a_door;
mod a2a_push;
mod a2a_questions;
mod a2a_queue;
mod a2a_replicas;
mod account;
mod agui_attach;
mod agui_captures;
mod agui_door;
mod approval_commands;
mod approvals;
mod ask;
mod asyncapi;
mod attachments;
mod audit;
mod bad_input;
mod chat;
mod clients;
mod confirmation;
mod console;
mod context;
mod contract;
mod damage;
mod demo;
mod deployment;
mod diagnoses;
mod doctor;
mod door_clients;
mod door_replicas;
mod doors;
mod events;
mod export;
mod failover;
mod fallback;
mod faults;
mod feedback;
mod help;
mod identity;
mod injection;
mod inputs;
mod limits;
mod lost_keys;
mod mcp;
mod mcp_door;
mod mcp_door_clients;
mod mcp_door_errors;
mod mcp_door_streams;
mod mcp_instructions;
mod mcp_processes;
mod mcp_questions;
mod memories;
mod messages;
mod metrics;
mod openai_door;
mod openapi;
mod outputs;
mod providers;
mod recall;
mod redis_bulk;
mod redis_commands;
mod redis_load;
mod redis_peers;
mod redis_refusals;
mod redis_restored;
mod redis_shards;
mod redis_store;
mod reload;
mod replicas;
mod responses_door;
mod restart;
mod secrets;
mod sessions;
mod slow_clients;
mod start;
mod stop;
mod switching;
mod terminal;
mod tickets;
mod tool_search;
mod traces;
mod upgrades;
mod usage;
mod user_tokens;
mod websocket;
#[cfg(any(debug_assertions, feature = "worker-watch"))]
mod workers;
mod wrong_types;
