//! Ratings of replies.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{service::TestService, websocket::TestSocket};
use k8sops_testing::scripted_model::{ScriptedModel, text};

#[tokio::test(flavor = "multi_thread")]
async fn newest_rating_of_a_reply_counts_and_is_in_log_and_report() {
    let service =
        TestService::with(&ScriptedModel::new([vec![text("it is DNS")], vec![text("it is DNS again")]])).await;
    let session = service.create_session().await;
    let frames = service.turn(&session, "why?").await;
    let id_of = |kind: &str| {
        let frame = frames.iter().find(|frame| frame["type"] == kind).unwrap();
        frame["message_id"].as_str().unwrap().to_owned()
    };
    let path = format!("{session}/messages/{}/feedback", id_of("assistant_message"));
    let rated = service.post(&path, json!({"rating": "down", "comment": " it was the network "})).await;
    assert_eq!((&rated["rating"], &rated["comment"]), (&json!("down"), &json!("it was the network")));
    assert_eq!(rated["by"], "user:default");
    // The same again changes nothing; another rating replaces it.
    service.post(&path, json!({"rating": "down", "comment": "it was the network"})).await;
    service.post(&path, json!({"rating": "up"})).await;
    let log = service.log(&session).await;
    let ratings: Vec<&Value> =
        log.iter().filter(|event| event["type"] == "message_feedback").map(|event| &event["rating"]).collect();
    assert_eq!(ratings, ["down", "up"]);
    let messages = service.get(&format!("{session}/messages")).await;
    let feedback = &messages["messages"][1]["feedback"];
    assert_eq!((&feedback["rating"], feedback.get("comment")), (&json!("up"), None), "{messages:#}");
    let report = service.request(Method::GET, &format!("{session}/export?format=md")).send().await.unwrap();
    let report = report.text().await.unwrap();
    assert!(report.contains("Rated as helpful by user:default") && !report.contains("the network"), "{report}");
    let metrics = service.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    for line in ["{rating=\"down\"} 1", "{rating=\"up\"} 1"] {
        assert!(metrics.contains(&format!("k8sops_message_feedback_total{line}")), "{metrics}");
    }

    let question = id_of("user_message");
    let unknown = "01890a5d-ac96-774b-bcce-b302099a8057";
    for (message, body, expected) in [
        (question.as_str(), json!({"rating": "up"}), (404, "message_not_found")),
        (unknown, json!({"rating": "up"}), (404, "message_not_found")),
        ("no-id", json!({"rating": "up"}), (400, "invalid_request")),
        (unknown, json!({"rating": "great"}), (400, "invalid_json")),
        (unknown, json!({"rating": "up", "comment": "x".repeat(2_001)}), (400, "invalid_request")),
    ] {
        let request = service.request(Method::POST, &format!("{session}/messages/{message}/feedback")).json(&body);
        let (status, problem) = service.refused(request).await;
        assert_eq!((status, problem["code"].as_str().unwrap()), expected, "{problem}");
    }
    // A rated session answers on.
    let frames = service.turn(&session, "and now?").await;
    assert_eq!(frames.last().unwrap()["outcome"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn reply_is_rated_over_a_websocket() {
    let service = TestService::with(&ScriptedModel::new([vec![text("it is DNS")]])).await;
    let session = service.create_session().await;
    let mut socket = TestSocket::open(&service, &session, "").await;
    socket.send(json!({"type": "message", "content": "why?"})).await;
    let frames = socket.until("run_finished").await;
    let reply = frames.iter().find(|frame| frame["type"] == "assistant_message").unwrap()["message_id"].clone();
    let rate =
        json!({"type": "feedback", "command_id": "f1", "message_id": reply, "rating": "down", "comment": " no "});
    socket.send(rate.clone()).await;
    let ack = socket.until("ack").await.pop().unwrap();
    let event = socket.until("message_feedback").await.pop().unwrap();
    assert_eq!((&ack["command_id"], &event["command_id"]), (&json!("f1"), &json!("f1")));
    assert_eq!((&event["rating"], &event["comment"]), (&json!("down"), &json!("no")));
    // Sent again, it has no effect.
    socket.send(rate).await;
    assert_eq!(socket.until("ack").await.pop().unwrap()["duplicate"], true);
    // The same rating by other commands, over both ways and in one batch, is neither logged nor counted.
    let same = |id: &str| json!({"type": "feedback", "command_id": id, "message_id": reply, "rating": "down", "comment": "no"});
    for id in ["f2", "f3"] {
        socket.send(same(id)).await;
    }
    socket.until("ack").await;
    socket.until("ack").await;
    let path = format!("{session}/messages/{}/feedback", reply.as_str().unwrap());
    service.post(&path, json!({"rating": "down", "comment": "no"})).await;
    // What differs, if only in its comment, is another rating.
    socket.send(json!({"type": "feedback", "command_id": "f4", "message_id": reply, "rating": "down"})).await;
    assert_eq!(socket.until("message_feedback").await.pop().unwrap()["command_id"], "f4");
    let log = service.log(&session).await;
    assert_eq!(log.iter().filter(|event| event["type"] == "message_feedback").count(), 2, "{log:?}");
    let unknown = "01890a5d-ac96-774b-bcce-b302099a8057";
    for (fields, code) in [
        (json!({"message_id": unknown, "rating": "up"}), "message_not_found"),
        (json!({"message_id": reply, "rating": "great"}), "invalid_json"),
        (json!({"message_id": reply, "rating": "up", "comment": "x".repeat(2_001)}), "invalid_request"),
    ] {
        let mut command = fields;
        command["type"] = json!("feedback");
        socket.send(command).await;
        assert_eq!(socket.until("error").await.pop().unwrap()["code"], code);
    }
    let metrics = service.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("k8sops_message_feedback_total{rating=\"down\"} 2"), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn same_rating_of_many_requests_at_once_is_logged_once() {
    let service = TestService::with(&ScriptedModel::new([vec![text("it is DNS")]])).await;
    let session = service.create_session().await;
    let frames = service.turn(&session, "why?").await;
    let reply = frames.iter().find(|frame| frame["type"] == "assistant_message").unwrap()["message_id"].clone();
    let path = format!("{session}/messages/{}/feedback", reply.as_str().unwrap());
    let rate = || service.post(&path, json!({"rating": "up"}));
    for rated in futures_util::future::join_all((0..8).map(|_| rate())).await {
        assert_eq!(rated["rating"], "up");
    }
    let log = service.log(&session).await;
    assert_eq!(log.iter().filter(|event| event["type"] == "message_feedback").count(), 1, "{log:?}");
}
