//! Compares what the clients received, and what the tools executed, with the logs.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Instant,
};

use serde_json::Value;

use crate::{
    client::ClientSession,
    cluster::ChaosCluster,
    observed_stream::{Acknowledgement, ObservedEvent},
    tools::{ToolExecution, ToolExecutions},
};

/// Replies of the model in a run, see `model.rs`.
const REPLIES_PER_RUN: usize = 3;

/// Something that was acknowledged, and what became of it.
pub(crate) struct AcknowledgedFate {
    pub at: Instant,
    pub is_lost: bool,
    /// Whether the client was told of a loss afterwards, by an event of the session or by its end.
    pub is_announced: bool,
}

/// A change that was executed more than once.
pub(crate) struct RepeatedEffect {
    pub at: Instant,
    /// Whether the replica that sent the first one was undisturbed until the second one.
    pub was_known: bool,
    pub description: String,
}

/// Everything that was found in the logs, by what it means.
#[derive(Default)]
pub(crate) struct Findings {
    pub messages: Vec<AcknowledgedFate>,
    pub approvals: Vec<AcknowledgedFate>,
    pub repeated_effects: Vec<RepeatedEffect>,
    /// Violations by their names, which are rows of the table.
    pub violations: BTreeMap<&'static str, Vec<String>>,
    /// Counts that are only reported.
    pub counts: BTreeMap<&'static str, u64>,
    calls: HashMap<String, LoggedCall>,
    /// Runs that a later message over a door interrupted, because their end was lost.
    interrupted_runs: HashSet<String>,
}

/// What is in the table even if there is none of it.
pub(crate) const GUARANTEES: [&str; 25] = [
    "events lost",
    "events repeated",
    "events out of order",
    "events that differ from the log",
    "seqs of lost events used again",
    "logs with a gap that is not before log_truncated",
    "logs that differ between replicas",
    "gaps without a loss",
    "previews at the wrong offset",
    "texts of doors that differ from the log",
    "changes executed again although the first was known to a living replica",
    "changes that ended `ok` and were not executed",
    "changes executed without an outcome in the log",
    "calls without an end",
    "calls with more than one end",
    "looks that ended `unknown`",
    "calls that failed although the tools never fail",
    "accepted messages without a run, and without a word",
    "approvals without an outcome, and without a word",
    "acknowledgements lost although they were confirmed",
    "messages or runs that appear more than once",
    "messages accepted twice with one Idempotency-Key",
    "runs that never ended, or ended twice",
    "runs that failed, or have a wrong number of model replies",
    "requests rejected, or not accepted in time",
];

/// A tool call in the logs.
#[derive(Default)]
struct LoggedCall {
    name: String,
    run: String,
    /// The argument `id`.
    id: String,
    session: String,
    starts: u64,
    /// Status and content of each `tool_end`.
    ends: Vec<(String, String)>,
}

impl Findings {
    fn add_violation(&mut self, guarantee: &'static str, description: String) {
        debug_assert!(GUARANTEES.contains(&guarantee), "{guarantee} is not in the table");
        self.violations.entry(guarantee).or_default().push(description);
    }

    pub(crate) fn count_violations(&self) -> usize {
        self.violations.values().map(Vec::len).sum()
    }

    fn count(&mut self, name: &'static str, count: u64) {
        *self.counts.entry(name).or_default() += count;
    }

    /// Checks a session. `logs` are its log as each replica reads it.
    pub(crate) fn check_session(&mut self, session: &ClientSession, logs: &[Vec<Value>], may_lose_writes: bool) {
        let log = &logs[0];
        for (replica, other) in logs.iter().enumerate().skip(1) {
            if other != log {
                let guarantee = "logs that differ between replicas";
                self.add_violation(guarantee, format!("session {}: replicas 0 and {replica}", session.id));
            }
        }
        if log.is_empty() && may_lose_writes {
            // The client gets 404.
            return self.count("sessions that the store has lost as a whole", 1);
        }
        self.check_stream(session, log);
        self.check_door_texts(session, log);
        self.collect_calls(log);
        self.check_runs(session, log, may_lose_writes);
        self.count("sessions", 1);
        self.count("events in the logs", log.len() as u64);
        for (name, event_type) in [
            ("runs", "run_started"),
            ("runs resumed by another owner (run_recovered)", "run_recovered"),
            ("losses that owners wrote into logs (log_truncated)", "log_truncated"),
        ] {
            self.count(name, log.iter().filter(|event| event["type"] == event_type).count() as u64);
        }
    }

    fn check_stream(&mut self, session: &ClientSession, log: &[Value]) {
        let observed = session.observed();
        let repeat = |count: u64, problem: &str| {
            (0..count).map(|_| format!("session {}: {problem}", session.id)).collect::<Vec<_>>()
        };
        let name_all =
            |problems: &[String]| problems.iter().map(|problem| format!("session {}: {problem}", session.id)).collect();
        let counted = [
            ("events lost", repeat(observed.skipped, "a seq was skipped")),
            ("events repeated", repeat(observed.repeated, "an event arrived again")),
            ("events out of order", repeat(observed.out_of_order, "an event arrived after a later one")),
            ("previews at the wrong offset", name_all(&observed.misplaced_previews)),
            ("seqs of lost events used again", name_all(&observed.reused)),
            ("gaps without a loss", repeat(observed.unexpected_gaps, "a gap")),
            ("messages accepted twice with one Idempotency-Key", repeat(observed.accepted_twice, "a message")),
            ("requests rejected, or not accepted in time", name_all(&observed.problems)),
        ];
        for (guarantee, descriptions) in counted {
            for description in descriptions {
                self.add_violation(guarantee, description);
            }
        }
        self.count("token events that clients received", observed.tokens);
        self.count("reconnects of clients to a stream", observed.reconnects);
        self.count("retries of messages and approvals", observed.retries);
        self.count("times that clients were told of a loss", observed.announcements.len() as u64);
        let mut received: HashMap<u64, &ObservedEvent> =
            observed.events.iter().map(|event| (event.seq, event)).collect();
        let mut expected_seq = 1;
        for event in log.iter().filter_map(ObservedEvent::from_frame) {
            let name = format!("session {}: seq {} {}", session.id, event.seq, event.event_type);
            if event.seq != expected_seq && (event.seq < expected_seq || event.event_type != "log_truncated") {
                self.add_violation("logs with a gap that is not before log_truncated", name.clone());
            }
            expected_seq = event.seq + 1;
            match received.remove(&event.seq) {
                None => self.add_violation("events lost", format!("{name} was not received")),
                Some(other) if *other != event => {
                    let both = format!("{name}: {}, received as {}", event.excerpt, other.excerpt);
                    self.add_violation("events that differ from the log", both);
                }
                Some(_) => {}
            }
        }
        for event in received.values() {
            let name = format!(
                "session {}: seq {} {} is not in the log: {}",
                session.id, event.seq, event.event_type, event.excerpt
            );
            self.add_violation("events that differ from the log", name);
        }
    }

    /// Checks that what doors showed to its end is what the log says. What the log does not have was void or lost.
    fn check_door_texts(&mut self, session: &ClientSession, log: &[Value]) {
        let observed = session.observed();
        self.count("messages that doors showed", observed.door_texts.len() as u64);
        for (message_id, shown) in &observed.door_texts {
            let logged =
                log.iter().find(|event| event["type"] == "assistant_message" && event["message_id"] == **message_id);
            if let Some(logged) = logged.filter(|logged| logged["content"] != **shown) {
                let both = format!("session {}: {shown:?}, in the log {logged}", session.id);
                self.add_violation("texts of doors that differ from the log", both);
            }
        }
    }

    /// Collects the tool calls of a log by their id.
    fn collect_calls(&mut self, log: &[Value]) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        for event in log {
            match event["type"].as_str() {
                Some("assistant_message") => {
                    for requested in event["tool_calls"].as_array().into_iter().flatten() {
                        let call = self.calls.entry(text(&requested["id"])).or_default();
                        call.name = text(&requested["name"]);
                        call.id = text(&requested["arguments"]["id"]);
                        call.session = text(&event["session_id"]);
                        call.run = text(&event["run_id"]);
                    }
                }
                Some("tool_start") => self.calls.entry(text(&event["tool_call_id"])).or_default().starts += 1,
                Some("tool_end") => {
                    let end = (text(&event["status"]), text(&event["content"]));
                    self.calls.entry(text(&event["tool_call_id"])).or_default().ends.push(end);
                }
                _ => {}
            }
        }
    }

    /// Checks that everything acknowledged is in the log or announced to be lost, and that every run has one end.
    fn check_runs(&mut self, session: &ClientSession, log: &[Value], may_lose_writes: bool) {
        let observed = session.observed();
        let count = |event_type: &str, field: &str, id: &str| {
            log.iter().filter(|event| event["type"] == event_type && event[field] == id).count()
        };
        for Acknowledgement { what: message, at } in &observed.accepted {
            let name = format!("session {}: message {}, run {}", session.id, message.message_id, message.run_id);
            let messages = count("user_message", "message_id", &message.message_id);
            let starts = count("run_started", "run_id", &message.run_id);
            let ends =
                count("run_finished", "run_id", &message.run_id) + count("run_failed", "run_id", &message.run_id);
            let is_lost = messages == 0 || starts == 0;
            let is_superseded = observed.superseded.contains(&message.run_id);
            let is_announced = observed.is_loss_announced_since(*at);
            if is_lost {
                if !may_lose_writes {
                    self.add_violation("acknowledgements lost although they were confirmed", name.clone());
                }
                if !is_announced {
                    self.count("lost messages that only a repetition revealed", 1);
                    if !is_superseded {
                        self.add_violation("accepted messages without a run, and without a word", name.clone());
                    }
                }
            } else if ends != 1 {
                self.add_violation("runs that never ended, or ended twice", name.clone());
            }
            if messages > 1 || starts > 1 {
                self.add_violation("messages or runs that appear more than once", name.clone());
            }
            self.messages.push(AcknowledgedFate { at: *at, is_lost, is_announced });
            let is_complete = count("assistant_message", "run_id", &message.run_id) == REPLIES_PER_RUN;
            let is_end = |event: &&Value| event["type"] == "run_finished" && event["run_id"] == message.run_id;
            let is_cancelled = log.iter().find(is_end).is_some_and(|end| end["outcome"] == "cancelled");
            // The end that the door told was lost, and then the next message interrupted the run.
            if is_cancelled && is_announced && !observed.door_texts.is_empty() {
                self.count("runs whose end was lost, interrupted by the next message over a door", 1);
                self.interrupted_runs.insert(message.run_id.clone());
            } else if count("run_finished", "run_id", &message.run_id) == 1 && !is_complete {
                self.add_violation("runs that failed, or have a wrong number of model replies", name);
            }
        }
        for Acknowledgement { what: approval, at } in &observed.approved {
            let is_lost = count("approval_resolved", "approval_id", approval) == 0;
            let is_announced = observed.is_loss_announced_since(*at);
            let name = format!("session {}: approval {approval}", session.id);
            if is_lost && !may_lose_writes {
                self.add_violation("acknowledgements lost although they were confirmed", name.clone());
            }
            if is_lost && !is_announced {
                self.add_violation("approvals without an outcome, and without a word", name);
            }
            self.approvals.push(AcknowledgedFate { at: *at, is_lost, is_announced });
        }
        for event in log.iter().filter(|event| event["type"] == "run_failed") {
            let name = format!("session {}: {event}", session.id);
            self.add_violation("runs that failed, or have a wrong number of model replies", name);
        }
    }

    /// Checks that every change was made at most once and that the logs hold its outcome.
    pub(crate) fn check_effects(&mut self, cluster: &ChaosCluster, executions: &ToolExecutions, may_lose_writes: bool) {
        let calls = std::mem::take(&mut self.calls);
        for call in calls.values() {
            let name = format!("session {}: {} {}: {:?}", call.session, call.name, call.id, call.ends);
            let has_status = |expected: &str| call.ends.iter().any(|(status, _)| status == expected);
            let executed = executions.count_of_call(&call.name, &call.id);
            match call.ends.len() {
                0 => self.add_violation("calls without an end", name.clone()),
                1 => {}
                _ => self.add_violation("calls with more than one end", name.clone()),
            }
            // A call whose start was not confirmed in time is not sent.
            let is_unsent = executed == 0 && call.ends.iter().all(|(_, content)| content.starts_with("not sent"));
            let is_interrupted = self.interrupted_runs.contains(&call.run);
            let is_failure =
                |status: &str| !(status == "ok" || status == "unknown" || is_interrupted && status == "cancelled");
            let failed = call.ends.iter().any(|(status, _)| is_failure(status));
            match (failed, is_unsent) {
                (true, true) => self.count("changes that were not sent, because their start was not confirmed", 1),
                (true, false) => self.add_violation("calls that failed although the tools never fail", name.clone()),
                (false, _) => {}
            }
            match call.name.as_str() {
                "change" if has_status("ok") && executed == 0 => {
                    self.add_violation("changes that ended `ok` and were not executed", name);
                }
                "change" if has_status("ok") => self.count("changes that ended `ok`", 1),
                "change" if has_status("unknown") && executed == 0 => {
                    self.count("changes that ended `unknown` and were not executed", 1);
                }
                "change" if has_status("unknown") => self.count("changes that ended `unknown` and were executed", 1),
                "look" if has_status("unknown") => self.add_violation("looks that ended `unknown`", name),
                "look" if call.starts > 1 => self.count("looks that a new owner sent again", 1),
                _ => {}
            }
        }
        let logged_ids: HashSet<&str> = calls.values().map(|call| call.id.as_str()).collect();
        for (id, executed) in executions.calls_of_tool("change") {
            if !logged_ids.contains(id.as_str()) {
                match may_lose_writes {
                    // The whole message is lost, which is announced.
                    true => self.count("changes that were executed for messages that are lost", 1),
                    false => self.add_violation("changes executed without an outcome in the log", id.clone()),
                }
            }
            if let [first, .., last] = &executed[..] {
                self.add_repeated_effect(cluster, &id, *first, *last, may_lose_writes);
            }
        }
    }

    fn add_repeated_effect(
        &mut self,
        cluster: &ChaosCluster,
        id: &str,
        first: ToolExecution,
        last: ToolExecution,
        may_lose_writes: bool,
    ) {
        let was_known = !may_lose_writes || !cluster.replicas[first.replica].was_disturbed_between(first.at, last.at);
        let description = format!(
            "{id}: by replica {}, and {:.1?} later by replica {}",
            first.replica,
            last.at - first.at,
            last.replica
        );
        if was_known {
            let guarantee = "changes executed again although the first was known to a living replica";
            self.add_violation(guarantee, description.clone());
        }
        self.repeated_effects.push(RepeatedEffect { at: last.at, was_known, description });
    }
}
