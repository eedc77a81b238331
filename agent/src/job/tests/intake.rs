//! Taking jobs: what is recorded, acknowledged, refused, and never done twice.

use super::replies::{AckSlot, Replies};
use super::*;
use crate::state::OutMessage;

#[tokio::test]
async fn a_read_is_acknowledged_after_the_broker_has_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(dir.path());
    rig.deliver(&request(1, "ping", ""), "a").await;
    rig.until("ack a", 1).await;
    assert_eq!(rig.log.all(), ["publish muster.result/1", "ack a"]);
    let result = rig.result_of(1).await;
    assert_eq!(
        (result.outcome, result.data),
        (Outcome::Succeeded, json!({}))
    );
    assert_eq!(
        rig.state.job(job_id(1)).await.unwrap(),
        None,
        "reads leave no record"
    );
    rig.end().await;
}

#[tokio::test]
async fn a_change_is_recorded_then_acknowledged_then_run() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(dir.path());
    rig.deliver(&change(1, "x"), "a").await;
    let result = rig.stored_of(1).await;
    assert_eq!(rig.log.all(), ["ack a", "run x Some(Started)", "done x"]);
    assert_eq!(
        (result.outcome, result.data),
        (Outcome::Succeeded, json!({ "what": "x" }))
    );
    assert!(
        result.received_at_ms <= result.started_at_ms.unwrap()
            && result.started_at_ms.unwrap() <= result.finished_at_ms
    );
    rig.end().await;
}

#[tokio::test]
async fn a_hundred_replays_and_a_crash_change_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = rig(dir.path());
    let request = change(1, "x");
    for round in 0..4 {
        for _ in 0..25 {
            rig.deliver(&request, "a").await;
        }
        rig.until("ack a", (round + 1) * 25).await;
        rig = rig.die_and_return().await;
    }
    assert_eq!(rig.log.count("run x Some(Started)"), 1);
    assert_eq!(rig.stored().await.len(), 1);
    rig.end().await;
}

#[tokio::test]
async fn an_old_job_that_comes_again_after_its_deadline_is_not_expired() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(dir.path());
    let mut short = change(1, "x");
    short.deliver_by_ms = now_ms() + 500;
    rig.deliver(&short, "a").await;
    rig.stored_of(1).await;
    eventually(
        "the deadline is over",
        || now_ms() > short.deliver_by_ms,
        String::new,
    )
    .await;
    rig.deliver(&short, "b").await;
    rig.until("ack b", 1).await;
    assert_eq!(
        (rig.stored().await.len(), rig.broker.results().len()),
        (1, 0)
    );
    // One that never came in time is.
    rig.deliver(
        &JobRequest {
            id: job_id(2),
            ..short
        },
        "c",
    )
    .await;
    let result = rig.result_of(2).await;
    assert_eq!(
        (result.outcome, result.reason.unwrap().code),
        (Outcome::DeliveryExpired, ReasonCode::Expired)
    );
    assert_eq!(rig.log.count("run x Some(Started)"), 1);
    rig.end().await;
}

#[tokio::test]
async fn answers_wait_for_the_broker_and_go_with_the_same_id_to_the_newest_delivery() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(dir.path());
    rig.broker.deaf.store(true, Ordering::SeqCst);
    rig.deliver(&request(1, "ping", ""), "old").await;
    rig.until("publish muster.result/1", 2).await;
    // The session broke meanwhile: the broker delivers again, and the old acker is good for nothing.
    rig.deliver(&request(1, "ping", ""), "new").await;
    eventually(
        "it is known for a repeat",
        || rig.counter("duplicates") == 1,
        String::new,
    )
    .await;
    rig.broker.deaf.store(false, Ordering::SeqCst);
    rig.until("ack new", 1).await;
    assert_eq!(rig.log.count("ack old"), 0);
    let sent = rig.broker.of::<JobResult>();
    assert!(
        sent.len() >= 3 && sent.iter().all(|(id, _)| *id == sent[0].0),
        "{sent:?}"
    );
    // And once more, after it was answered.
    rig.deliver(&request(1, "ping", ""), "late").await;
    rig.until("ack late", 1).await;
    assert_eq!(rig.broker.of::<JobResult>().len(), sent.len());
    rig.end().await;
}

#[tokio::test]
async fn an_answer_to_a_transient_read_goes_ahead_of_its_acknowledgement_and_again_where_that_is_lost()
 {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(dir.path());
    rig.deliver_transient(&request(1, "ping", ""), "a").await;
    rig.until("ack a", 1).await;
    assert_eq!(rig.log.all(), ["ahead muster.result/1", "ack a"]);
    // The connection broke before the broker had either: the same answer, and nothing is read again.
    rig.deliver_transient(&request(1, "ping", ""), "b").await;
    rig.until("ack b", 1).await;
    // Straight to whoever waits, then the way that everything goes.
    let way = |message: &OutMessage| (message.exchange, message.routing_key.clone());
    let ways: Vec<_> = rig
        .broker
        .messages
        .lock()
        .unwrap()
        .iter()
        .map(way)
        .collect();
    let job = request(1, "ping", "").id;
    let straight = ("muster.answers", format!("result.{job}"));
    assert_eq!(
        ways,
        [straight, ("muster.replies", format!("result.{job}.h1"))]
    );
    let sent = rig.broker.of::<JobResult>();
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].0, sent[1].0, "one message id");
    assert_eq!((rig.counter("accepted"), rig.counter("duplicates")), (1, 1));
    // While the link is down it waits, is confirmed when it is up, and goes to the delivery that came meanwhile.
    rig.broker.up.send_replace(false);
    rig.deliver_transient(&request(2, "ping", ""), "old").await;
    eventually(
        "it is answered",
        || rig.counter("succeeded") == 2,
        String::new,
    )
    .await;
    rig.deliver_transient(&request(2, "ping", ""), "new").await;
    eventually(
        "it came again",
        || rig.counter("duplicates") == 2,
        String::new,
    )
    .await;
    rig.broker.up.send_replace(true);
    rig.until("ack new", 1).await;
    assert_eq!(
        (
            rig.log.count("publish muster.result/1"),
            rig.log.count("ack old")
        ),
        (1, 0)
    );
    rig.end().await;
}

/// An answer of so many bytes.
fn answer(bytes: usize) -> OutMessage {
    OutMessage {
        exchange: "muster.replies",
        routing_key: "result.x.h1".to_owned(),
        kind: Kind::Result,
        message_id: MessageId::from_parts(1, [0; 10]),
        correlation_id: None,
        timestamp_ms: 1,
        body: vec![b'x'; bytes],
    }
}

#[tokio::test]
async fn answers_are_kept_within_a_bound_and_a_large_one_is_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(dir.path());
    let mut replies = Replies::new(Arc::new(rig.broker.clone()), Arc::default());
    let slot = || {
        AckSlot::new(
            Arc::new(Tag(rig.broker.log.clone(), "it".to_owned())),
            true,
            false,
        )
    };
    for number in 0..70 {
        replies.send(Some(request(number, "ping", "").id), answer(4000), slot());
    }
    // Each goes out with the next answer.
    assert_eq!(rig.log.count("ack it"), 69);
    replies.acknowledge();
    assert_eq!(
        (rig.log.count("ack it"), replies.acknowledge_at()),
        (70, None)
    );
    let kept = |number| replies.has_sent(request(number, "ping", "").id);
    assert_eq!((0..70).filter(|number| kept(*number)).count(), 16);
    assert!(kept(69) && !kept(0));
    rig.broker.deaf.store(true, Ordering::SeqCst);
    replies.send(None, answer(5000), slot());
    rig.until("publish muster.result/1", 1).await;
    assert_eq!(rig.log.count("ack it"), 70);
    rig.broker.deaf.store(false, Ordering::SeqCst);
    replies.done().await;
    assert_eq!(rig.log.count("ack it"), 71);
    rig.end().await;
}

#[tokio::test]
async fn nothing_is_acknowledged_before_its_answer_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(dir.path());
    rig.broker.stuck.store(true, Ordering::SeqCst);
    rig.deliver_transient(&request(1, "ping", ""), "a").await;
    rig.deliver_transient(&request(2, "ping", ""), "b").await;
    rig.until("ahead muster.result/1", 2).await;
    // Longer than an acknowledgement trails behind.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(rig.log.count("ack a") + rig.log.count("ack b"), 0);
    rig.broker.stuck.store(false, Ordering::SeqCst);
    rig.until("ack b", 1).await;
    assert_eq!(rig.log.count("ack a"), 1);
    rig.end().await;
}

#[tokio::test]
async fn a_delivery_that_comes_while_its_answer_is_on_the_way_gets_it_too() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(dir.path());
    let job = request(1, "ping", "").id;
    let tag = |name: &str| Arc::new(Tag(rig.broker.log.clone(), name.to_owned()));
    let mut replies = Replies::new(Arc::new(rig.broker.clone()), Arc::default());
    replies.send(
        Some(job),
        answer(100),
        AckSlot::new(tag("old"), false, false),
    );
    rig.until("ack old", 1).await;
    // A later session's, which knows nothing of what the one before it was given.
    replies.slot(job).unwrap().replace(tag("new"));
    assert_eq!(replies.done().await, Some(job));
    assert_eq!(rig.log.count("ack new"), 1);
    assert_eq!(rig.log.count("publish muster.result/1"), 1);
    rig.end().await;
}

#[tokio::test]
async fn while_the_link_is_down_reads_wait_and_changes_run() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(dir.path());
    rig.broker.up.send_replace(false);
    rig.deliver(&request(1, "ping", ""), "ping").await;
    rig.deliver(&change(2, "x"), "x").await;
    rig.stored_of(2).await;
    assert_eq!(rig.log.count("ack ping"), 0);
    rig.broker.up.send_replace(true);
    rig.until("ack ping", 1).await;
    rig.end().await;
}

#[tokio::test]
async fn what_is_refused_is_answered_and_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(dir.path());
    let body = envelope::encode(&change(1, "x")).unwrap();
    rig.deliver_raw(body, Some("00".repeat(64)), "forged").await;
    rig.deliver(
        &JobRequest {
            target: "role=none".into(),
            ..change(2, "x")
        },
        "others",
    )
    .await;
    rig.until("ack forged", 1).await;
    rig.until("ack others", 1).await;
    let code = |result: JobResult| (result.outcome, result.reason.unwrap().code);
    assert_eq!(
        code(rig.result_of(1).await),
        (Outcome::Rejected, ReasonCode::BadSignature)
    );
    assert_eq!(
        code(rig.result_of(2).await),
        (Outcome::Rejected, ReasonCode::NotTargeted)
    );
    // A forgery does not stand in the way of the job whose id it bore.
    rig.deliver(&change(1, "x"), "true").await;
    assert_eq!(rig.stored_of(1).await.outcome, Outcome::Succeeded);
    assert_eq!(rig.log.count("run x Some(Started)"), 1);
    assert_eq!(rig.counter("refused"), 2);
    rig.end().await;
}

#[tokio::test]
async fn garbage_goes_to_the_dead_letters_and_is_reported_once_in_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(dir.path());
    for _ in 0..50 {
        rig.deliver_raw(b"\xc1garbage".to_vec(), None, "g").await;
    }
    rig.deliver(&request(1, "ping", ""), "ping").await;
    rig.until("ack ping", 1).await;
    assert_eq!(
        (rig.log.count("reject g"), rig.counter("garbage")),
        (50, 50)
    );
    let events = rig
        .state
        .next_outbox(crate::state::Lane::Events, 0, 1_000_000)
        .await
        .unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].message.routing_key, "agent.message.refused.h1");
    rig.end().await;
}

#[tokio::test]
async fn places_and_queue_are_bounded_and_questions_get_through() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(dir.path());
    for number in 1..=6 {
        rig.deliver(&change(number, "wait"), &format!("{number}"))
            .await;
    }
    for number in [5, 6] {
        let result = rig.result_of(number).await;
        assert_eq!(
            (result.outcome, result.reason.unwrap().code),
            (Outcome::Rejected, ReasonCode::Busy)
        );
    }
    assert_eq!(rig.log.count("run wait Some(Started)"), 2, "two places");
    rig.deliver(&request(7, "ping", ""), "ping").await;
    assert_eq!(rig.result_of(7).await.outcome, Outcome::Succeeded);
    for (asked, number, state) in [(1, 8, "running"), (3, 9, "queued"), (99, 10, "unknown")] {
        rig.deliver(
            &request(number, "job.status", &job_id(asked).to_string()),
            "status",
        )
        .await;
        assert_eq!(rig.result_of(number).await.data["state"], state);
    }
    // One that waits comes again: known, not busy.
    rig.deliver(&change(3, "wait"), "again").await;
    rig.until("ack again", 1).await;
    rig.gate.send_replace(true);
    for number in 1..=4 {
        assert_eq!(rig.stored_of(number).await.outcome, Outcome::Succeeded);
    }
    assert_eq!(rig.log.count("run wait Some(Started)"), 4);
    rig.deliver(&request(11, "job.status", &job_id(1).to_string()), "status")
        .await;
    let data = rig.result_of(11).await.data;
    assert_eq!(
        (&data["state"], &data["outcome"]),
        (&json!("finished"), &json!("succeeded"))
    );
    rig.end().await;
}

#[tokio::test]
async fn the_controller_is_told_of_a_job_that_takes_its_time() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(dir.path());
    for number in 1..=3 {
        rig.deliver(&change(number, "wait"), "a").await;
    }
    rig.deliver(&request(4, "ping", ""), "ping").await;
    let acks = || -> Vec<(JobId, bool)> {
        rig.broker
            .of::<muster_proto::job::Ack>()
            .into_iter()
            .map(|(_, ack)| (ack.job, ack.running))
            .collect()
    };
    eventually(
        "three acks",
        || acks().len() == 3,
        || format!("{:?}", acks()),
    )
    .await;
    assert_eq!(
        acks(),
        [(job_id(1), true), (job_id(2), true), (job_id(3), false)],
        "none for what was done at once"
    );
    rig.gate.send_replace(true);
    eventually(
        "word of its start",
        || acks().len() == 4,
        || format!("{:?}", acks()),
    )
    .await;
    assert_eq!(acks()[3], (job_id(3), true));
    rig.end().await;
}
