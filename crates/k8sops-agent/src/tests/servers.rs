//! MCP servers in the system prompt.

use super::*;

fn introduction(server: &str, instructions: &str) -> ServerIntroduction {
    ServerIntroduction {
        server: server.to_owned(),
        instructions: Some(instructions.to_owned()),
        ..ServerIntroduction::default()
    }
}

#[tokio::test]
async fn servers_words_are_fixed_for_a_session_when_they_are_seen_first() {
    let log = Log::new("look");
    let look = || vec![call("look", json!({"n": 1}))];
    let model = ScriptedModel::new([look(), vec![text("a")], vec![text("b")], vec![text("c")]]);
    let tools = Arc::<Tools>::default();
    tools.servers.lock().push(introduction("k8s", "List first."));
    // A server that connects within a run, and one that changes its words, change nothing in it.
    let connecting = tools.clone();
    *log.after_step.lock() = Some(Box::new(move |step| {
        if step == 0 {
            return;
        }
        let mut servers = connecting.servers.lock();
        servers.clear();
        servers.extend([introduction("helm", "Dry-run first."), introduction("k8s", "Delete first.")]);
    }));
    run(&log, &model, &tools).run_to_completion().await.unwrap();
    assert_eq!(log.kinds()[0], "servers_introduced");
    let systems = |model: &ScriptedModel| model.requests().iter().map(|r| r.system.to_string()).collect::<Vec<_>>();
    let first = systems(&model);
    assert_eq!(first[0], first[1]);
    assert!(first[0].ends_with("\n- k8s\n<server_instructions server=\"k8s\">\nList first.\n</server_instructions>"));

    again(&log, "and now?");
    run(&log, &model, &tools).run_to_completion().await.unwrap();
    let second = systems(&model);
    assert!(second[2].starts_with(&first[0]), "the beginning stays: {}", second[2]);
    assert!(second[2].ends_with("\nDry-run first.\n</server_instructions>"), "{}", second[2]);

    // A checkpoint, or a replica that folds the log, has the same prompt.
    again(&log, "and now?");
    let folded = SessionState::fold_events(None, log.events.lock().iter()).unwrap();
    let stored: SessionState = serde_json::from_value(serde_json::to_value(&folded).unwrap()).unwrap();
    *log.state.write() = stored;
    run(&log, &model, &tools).run_to_completion().await.unwrap();
    assert_eq!(systems(&model)[3], second[2]);
}
