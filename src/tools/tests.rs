//! The catalog over a hub with servers in this process.

use std::{sync::Arc, time::Duration};

use rmcp::model::ToolAnnotations;
use serde_json::{Map, json};

use super::{CallClass, Gate, ToolCatalog, ToolExecutor, ToolOutcome};
use crate::{
    config::{ApprovalMode, ToolsConfig},
    mcp::{
        McpHub,
        tests::world::{World, config, connected, hub_of, tool, until},
    },
    session::{Effect, ToolStatus},
};

fn policy(approval: ApprovalMode) -> ToolsConfig {
    ToolsConfig { approval, approval_ttl: Duration::from_hours(1), max_output_bytes: 4096 }
}

fn catalog(hub: &Arc<McpHub>) -> ToolCatalog {
    ToolCatalog::new(hub.clone(), &policy(ApprovalMode::Ask), Duration::from_secs(10))
}

async fn call(catalog: &ToolCatalog, name: &str) -> ToolOutcome {
    let class = catalog.classify(name, &Map::new()).expect("there is such a tool");
    run(catalog, &class).await
}

async fn run(catalog: &ToolCatalog, class: &CallClass) -> ToolOutcome {
    catalog.call(class, &Map::new(), Arc::new(|_| {})).await
}

#[tokio::test]
async fn specs_are_sorted_and_made_anew_only_on_change() {
    let world = World::new();
    let hub = connected(&world, &config()).await;
    let catalog = catalog(&hub);
    let specs = catalog.specs();
    assert_eq!(specs.iter().map(|s| &*s.name).collect::<Vec<_>>(), ["big", "echo", "fail", "hang", "silent", "steps"]);
    assert!(Arc::ptr_eq(&specs, &catalog.specs()));
    assert_eq!(specs[0].input_schema.get("properties"), Some(&json!({})));
    world.tools.lock().unwrap().truncate(2);
    hub.refresh().await;
    assert_eq!(catalog.specs().len(), 2);
    hub.close().await;
}

#[tokio::test]
async fn tools_of_two_servers_with_one_name_are_told_apart() {
    let (prod, test) = (World::new(), World::new());
    test.tools.lock().unwrap().truncate(1);
    let hub = hub_of(&[("prod", &prod), ("test", &test)], &config());
    until("both are connected", || hub.all_connected()).await;
    let catalog = catalog(&hub);
    assert!(catalog.classify("echo", &Map::new()).is_none());
    assert_eq!(call(&catalog, "test_echo").await.status, ToolStatus::Ok);
    assert_eq!((prod.calls_of("echo"), test.calls_of("echo")), (0, 1));
    let infos = catalog.list();
    let info = infos.iter().find(|i| i.name == "prod_echo").unwrap();
    assert_eq!((info.server.as_str(), info.remote_name.as_str()), ("prod", "echo"));
    hub.close().await;
}

#[tokio::test]
async fn the_gate_follows_the_effect_and_the_policy() {
    let hub = connected(&World::new(), &config()).await;
    for (approval, gate) in
        [(ApprovalMode::Ask, Gate::Ask), (ApprovalMode::Auto, Gate::Open), (ApprovalMode::Deny, Gate::Deny)]
    {
        let catalog = ToolCatalog::new(hub.clone(), &policy(approval), Duration::from_secs(1));
        let read = catalog.classify("echo", &Map::new()).unwrap();
        assert_eq!((read.effect, read.gate), (Effect::Read, Gate::Open));
        let mutating = catalog.classify("hang", &Map::new()).unwrap();
        assert_eq!((mutating.effect, mutating.gate), (Effect::Mutating, gate));
        assert_eq!(mutating.reason, "no annotation by server sim: treated as mutating");
        assert_eq!(catalog.classify("silent", &Map::new()).unwrap().effect, Effect::Idempotent);
    }
    hub.close().await;
}

#[tokio::test]
async fn a_megabyte_is_cut_to_the_budget() {
    let hub = connected(&World::new(), &config()).await;
    let outcome = call(&catalog(&hub), "big").await;
    assert_eq!((outcome.status, outcome.truncated, outcome.bytes), (ToolStatus::Ok, true, 1024 * 1024));
    assert!(outcome.content.len() <= 4096 + 64);
    assert!(outcome.content.contains(" left out ...]"));
    hub.close().await;
}

#[tokio::test]
async fn failures_of_every_kind_are_told_to_the_model() {
    let hub = connected(&World::new(), &config()).await;
    let catalog = catalog(&hub);
    let failed = call(&catalog, "fail").await;
    assert_eq!((failed.status, failed.content.as_str()), (ToolStatus::Error, "no such pod"));
    assert_eq!(catalog.classify("nothing", &Map::new()), None);
    assert_eq!(call(&catalog, "silent").await.content, "(no output)");
    hub.close().await;
    let away = call(&catalog, "echo").await;
    assert_eq!(away.status, ToolStatus::Error);
    assert!(away.content.starts_with("The tool was not run: "), "{}", away.content);
}

#[tokio::test]
async fn a_mutating_call_whose_connection_breaks_is_unknown() {
    let world = World::new();
    let hub = connected(&world, &config()).await;
    let running = tokio::spawn({
        let catalog = catalog(&hub);
        async move { call(&catalog, "hang").await }
    });
    until("the call runs", || world.calls_of("hang") == 1).await;
    world.cut();
    let outcome = running.await.unwrap();
    assert_eq!(outcome.status, ToolStatus::Unknown);
    assert!(outcome.content.contains("Check the state before doing it again."), "{}", outcome.content);
    hub.close().await;
}

#[tokio::test]
async fn a_change_that_the_server_broke_off_is_unknown() {
    let world = World::new();
    world.tools.lock().unwrap().push(tool("crash", ToolAnnotations::new()));
    let hub = connected(&world, &config()).await;
    let outcome = call(&catalog(&hub), "crash").await;
    assert_eq!(outcome.status, ToolStatus::Unknown);
    assert!(outcome.content.contains("lost the cluster half-way"), "{}", outcome.content);
    assert!(outcome.content.contains("Check the state before doing it again."), "{}", outcome.content);
    hub.close().await;
}

#[tokio::test]
async fn a_call_never_runs_on_another_server_that_has_come_to_have_a_tool_of_its_name() {
    let (prod, test) = (World::new(), World::new());
    test.tools.lock().unwrap().clear();
    let hub = hub_of(&[("prod", &prod), ("test", &test)], &config());
    until("both are connected", || hub.all_connected()).await;
    let catalog = catalog(&hub);
    let class = catalog.classify("echo", &Map::new()).unwrap();
    // The name goes from one server to the other while the call waits for its approval.
    let moved = prod.tools.lock().unwrap().remove(0);
    test.tools.lock().unwrap().push(moved);
    hub.refresh().await;
    assert_eq!(catalog.classify("echo", &Map::new()).unwrap().target.server(), "test");
    let outcome = run(&catalog, &class).await;
    assert_eq!(outcome.status, ToolStatus::Error);
    assert_eq!(outcome.content, "The MCP server prod no longer has the tool echo. Nothing was run.");
    assert_eq!((prod.calls_of("echo"), test.calls_of("echo")), (0, 0));
    // A new name for the same tool is no other tool.
    let class = catalog.classify("fail", &Map::new()).unwrap();
    test.tools.lock().unwrap().push(tool("fail", ToolAnnotations::new()));
    hub.refresh().await;
    assert_eq!(catalog.classify("fail", &Map::new()), None);
    assert_eq!(run(&catalog, &class).await.content, "no such pod");
    assert_eq!((prod.calls_of("fail"), test.calls_of("fail")), (1, 0));
    hub.close().await;
}

#[tokio::test]
async fn a_call_does_not_run_when_its_effect_has_become_stricter() {
    let world = World::new();
    let hub = connected(&world, &config()).await;
    let catalog = catalog(&hub);
    let [read, idempotent] = ["echo", "silent"].map(|name| catalog.classify(name, &Map::new()).unwrap());
    for (name, annotations) in
        [("echo", ToolAnnotations::new().destructive(true)), ("silent", ToolAnnotations::new().read_only(true))]
    {
        let mut tools = world.tools.lock().unwrap();
        let old = tools.iter_mut().find(|t| t.name == name).unwrap();
        *old = tool(name, annotations);
    }
    hub.refresh().await;
    let outcome = run(&catalog, &read).await;
    assert_eq!(outcome.status, ToolStatus::Error);
    assert!(outcome.content.contains("is mutating now and was read when"), "{}", outcome.content);
    assert!(outcome.content.ends_with("Nothing was run."), "{}", outcome.content);
    assert_eq!(world.calls_of("echo"), 0);
    // One that has become milder runs.
    assert_eq!(run(&catalog, &idempotent).await.status, ToolStatus::Ok);
    hub.close().await;
}
