//! What the bounds force out goes oldest and least important first, is counted, and is announced.

use super::*;

const KIB: u64 = 1024;

fn small(dir: &Path, hands: &Hands) -> StateConfig {
    StateConfig {
        outbox_bytes_max: 40 * KIB,
        ..config(dir, hands)
    }
}

/// About a KiB as stored.
fn kib(severity: Severity, name: &str) -> NewEvent {
    event(severity, format!("{name} {}", "x".repeat(600)))
}

fn names(found: &[Event], severity: Severity) -> Vec<String> {
    let of = found
        .iter()
        .filter(|event| event.severity == severity && event.topic == "test.event");
    of.map(|event| event.summary.split(' ').next().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn the_least_important_goes_first_and_a_gap_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let hands = Hands::at(NOW);
    let (state, owner) = State::open(small(dir.path(), &hands)).unwrap();
    state
        .finish_job(result(job_id(1), Outcome::Succeeded))
        .await
        .unwrap();
    for number in 0..20 {
        state
            .accept_events(vec![kib(Severity::Error, &format!("e{number}"))])
            .await
            .unwrap();
    }
    for number in 0..100 {
        hands.set(NOW + number);
        state
            .accept_events(vec![kib(Severity::Info, &format!("i{number}"))])
            .await
            .unwrap();
    }
    let found = events(&state).await;
    let depth = state.status().borrow().depth;
    assert!(depth.bytes <= 41 * KIB, "{depth:?}");
    assert_eq!(
        names(&found, Severity::Error).len(),
        20,
        "no error had to go"
    );
    let infos = names(&found, Severity::Info);
    assert_eq!(infos.last().map(String::as_str), Some("i99"));
    let first: u64 = infos[0][1..].parse().unwrap();
    assert_eq!(
        infos.len() as u64 + first,
        100,
        "the oldest have gone, none from the middle"
    );
    assert_eq!(depth.dropped, first);
    assert_eq!(results(&state).await.len(), 1);

    // The first drop was announced at once; the rest is, within a minute of it.
    let gaps = |found: &[Event]| -> Vec<(u64, serde_json::Value)> {
        let gaps = found.iter().filter(|event| event.topic == "muster.gap");
        gaps.map(|gap| {
            (
                gap.fields["dropped_records"].as_u64().unwrap(),
                gap.fields["by_class"].clone(),
            )
        })
        .collect()
    };
    assert_eq!(gaps(&found), [(1, serde_json::json!({ "info": 1 }))]);
    hands.set(NOW + 70_000);
    state
        .accept_events(vec![event(Severity::Critical, "next")])
        .await
        .unwrap();
    let told = gaps(&events(&state).await);
    assert_eq!(
        told.iter().map(|(records, _)| records).sum::<u64>(),
        state.status().borrow().depth.dropped
    );
    owner.close().await;
}

#[tokio::test]
async fn replies_go_last_but_they_go() {
    let dir = tempfile::tempdir().unwrap();
    let (state, owner) = State::open(small(dir.path(), &Hands::at(NOW))).unwrap();
    state
        .accept_events(vec![event(Severity::Critical, "c")])
        .await
        .unwrap();
    for number in 0..200 {
        let mut result = result(job_id(number), Outcome::Succeeded);
        result.data = serde_json::Value::from("x".repeat(600));
        state.finish_job(result).await.unwrap();
    }
    let left = results(&state).await;
    assert!(state.status().borrow().depth.bytes <= 42 * KIB);
    assert_eq!(left.last().unwrap().job, job_id(199));
    assert!(left.len() > 20, "{}", left.len());
    owner.close().await;
}

#[tokio::test]
async fn what_is_too_old_goes_whatever_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let hands = Hands::at(NOW);
    let (state, owner) = State::open(config(dir.path(), &hands)).unwrap();
    state
        .accept_events(vec![event(Severity::Critical, "old"), info("old")])
        .await
        .unwrap();
    hands.set(NOW + 1000);
    state.accept_events(vec![info("young")]).await.unwrap();
    owner.close().await;
    hands.set(NOW + OUTBOX_AGE_MAX_MS_DEFAULT + 500);
    let (state, owner) = State::open(config(dir.path(), &hands)).unwrap();
    state.accept_events(vec![info("new")]).await.unwrap();
    let left: Vec<_> = events(&state)
        .await
        .into_iter()
        .map(|event| (event.topic, event.summary))
        .collect();
    assert_eq!(left[0], ("test.event".to_owned(), "young".to_owned()));
    assert!(left.iter().any(|(topic, _)| topic == "muster.gap"));
    assert_eq!((left.len(), state.status().borrow().depth.dropped), (3, 2));
    owner.close().await;
}

#[tokio::test]
async fn a_clock_that_was_not_set_yet_makes_nothing_old() {
    let dir = tempfile::tempdir().unwrap();
    let hands = Hands::at(5000);
    let (state, owner) = State::open(config(dir.path(), &hands)).unwrap();
    state.accept_events(vec![info("from 1970")]).await.unwrap();
    owner.close().await;
    hands.set(NOW);
    let (state, owner) = State::open(config(dir.path(), &hands)).unwrap();
    state.accept_events(vec![info("now")]).await.unwrap();
    assert_eq!(events(&state).await.len(), 2);
    owner.close().await;
}
