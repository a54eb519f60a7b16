//! Test doubles and servers for the tests of k8sops: scripted models, providers on the wire, MCP servers, Redis and nginx
//! processes. For development only; nothing of the product depends on it.
#![allow(missing_docs, reason = "documented with the tests' own rework")]

pub mod fake_server;
pub mod hooked_store;
pub mod nginx;
pub mod obedient;
pub mod provider;
pub mod redis;
pub mod rememberer;
pub mod scripted;
pub mod testbed;
pub mod tools;
