//! Processes and clients of the benches: a scripted model provider, Redis, the service, clients of its API, and what reads
//! the resources that a process uses.

mod client;
mod profilers;
mod program;
mod redis;
mod streamed_reply;
mod upstream;

pub(crate) use client::BenchClient;
pub(crate) use k8sops_testing::nginx::{NginxProxy, process_cpu_time};
pub(crate) use profilers::{InstructionCounter, SyscallCounter, count_context_switches};
pub(crate) use program::{BenchProgram, ProgramOptions};
pub(crate) use redis::{BenchRedis, CommandStats};
pub(crate) use streamed_reply::{
    SessionSocket, StreamedReply, open_idle_socket, stream_session, stream_upstream, watch_session,
};
pub(crate) use upstream::ScriptedUpstream;
