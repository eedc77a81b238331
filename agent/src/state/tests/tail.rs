//! What readers of logs store.

use super::*;

fn batch(seq: u64, place: &str, events: &[&str]) -> Arc<TailBatch> {
    Arc::new(TailBatch {
        writer: "files".to_owned(),
        seq,
        events: events.iter().map(|summary| info(*summary)).collect(),
        places: vec![
            (b"place\0a".to_vec(), Some(place.as_bytes().to_vec())),
            (b"gone".to_vec(), None),
        ],
        alerts: vec![(("s".to_owned(), "k".to_owned()), Some(b"up".to_vec()))],
    })
}

#[tokio::test]
async fn events_and_places_are_one_and_no_batch_counts_twice() {
    let dir = tempfile::tempdir().unwrap();
    let (state, owner) = open(dir.path());
    assert_eq!(state.tail("files").await, Ok(TailStored::default()));
    state
        .accept_tail(batch(1, "one", &["a", "b"]))
        .await
        .unwrap();
    state.accept_tail(batch(2, "two", &["c"])).await.unwrap();
    // As after a commit whose answer was lost.
    state.accept_tail(batch(2, "again", &["c"])).await.unwrap();
    owner.close().await;
    let (state, owner) = open(dir.path());
    let stored = state.tail("files").await.unwrap();
    assert_eq!(stored.seq, 2);
    assert_eq!(stored.places, [(b"place\0a".to_vec(), b"two".to_vec())]);
    let key = ("s".to_owned(), "k".to_owned());
    assert_eq!(stored.alerts, [(key, b"up".to_vec())]);
    let told: Vec<_> = events(&state)
        .await
        .into_iter()
        .map(|event| event.summary)
        .collect();
    assert_eq!(told, ["a", "b", "c"]);
    let other = TailBatch {
        writer: "journal".to_owned(),
        ..TailBatch::clone(&batch(1, "cursor", &["d"]))
    };
    state.accept_tail(Arc::new(other)).await.unwrap();
    assert_eq!(state.tail("files").await.unwrap(), stored);
    assert_eq!(state.tail("journal").await.unwrap().seq, 1);
    owner.close().await;
}
