//! Whatever is in the file: the agent starts, says so, and goes on with a new one.

use std::fs;
use std::path::PathBuf;

use super::*;

fn file(dir: &Path) -> PathBuf {
    dir.join("state.redb")
}

fn set_aside(dir: &Path) -> usize {
    let names = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.starts_with("state.redb.damaged-"))
        .count()
}

/// A file with something in every table.
async fn filled(dir: &Path) -> Vec<u8> {
    let (state, owner) = open(dir);
    state
        .accept_events(
            (0..200)
                .map(|n| info(format!("{n} {}", "x".repeat(200))))
                .collect(),
        )
        .await
        .unwrap();
    state.begin_job(new_job(1)).await.unwrap();
    state
        .finish_job(result(job_id(1), Outcome::Succeeded))
        .await
        .unwrap();
    state.begin_job(new_job(2)).await.unwrap();
    owner.close().await;
    fs::read(file(dir)).unwrap()
}

fn new_job(number: u8) -> NewJob {
    NewJob {
        id: job_id(number),
        action: "script.run".to_owned(),
        idempotent: false,
        dry_run: false,
        received_at_ms: NOW,
        issued_at_ms: NOW,
        deliver_by_ms: NOW + 60_000,
        started_at_ms: Some(NOW),
        request: vec![1],
    }
}

/// Opens whatever is in `dir`, uses it, and gives whether it was found damaged.
async fn usable(dir: &Path, what: &str) -> bool {
    let hands = Hands::at(NOW + 5);
    let (state, owner) =
        State::open(config(dir, &hands)).unwrap_or_else(|error| panic!("{what}: {error}"));
    state.accept_events(vec![info("after")]).await.unwrap();
    let mut probe = new_job(99);
    probe.issued_at_ms = NOW + 10;
    assert_eq!(state.begin_job(probe).await.unwrap(), Begun::New, "{what}");
    let found = events(&state).await;
    assert!(found.iter().any(|event| event.summary == "after"), "{what}");
    let damaged = state.status().borrow().damaged > 0;
    let told = found
        .iter()
        .filter(|event| event.topic == "agent.state.damaged")
        .count();
    assert_eq!(
        (told, set_aside(dir)),
        (usize::from(damaged), usize::from(damaged)),
        "{what}"
    );
    if damaged {
        let newest_before = 200;
        assert!(
            found.iter().all(|event| event.seq > newest_before),
            "{what}: numbers are given twice"
        );
        // What ran before is not known any more, so nothing of before is run.
        assert_eq!(
            state.begin_job(new_job(1)).await.unwrap(),
            Begun::Lost,
            "{what}"
        );
    } else {
        assert!(
            matches!(state.begin_job(new_job(1)).await.unwrap(), Begun::Known(_)),
            "{what}"
        );
        assert_eq!(found.len(), 201, "{what}: nothing is missing");
    }
    owner.close().await;
    damaged
}

#[tokio::test]
async fn truncated_files_are_set_aside() {
    let whole = tempfile::tempdir().unwrap();
    let bytes = filled(whole.path()).await;
    let sizes = [
        0,
        1,
        7,
        100,
        511,
        512,
        4095,
        4096,
        4097,
        20_000,
        bytes.len() / 2,
        bytes.len() - 4096,
        bytes.len() - 1,
    ];
    for size in sizes {
        let dir = tempfile::tempdir().unwrap();
        fs::write(file(dir.path()), &bytes[..size]).unwrap();
        let what = format!("{size} of {} bytes", bytes.len());
        // The last pages may be free ones, whose loss is none.
        assert!(
            usable(dir.path(), &what).await || size > bytes.len() / 2,
            "{what}"
        );
    }
}

#[tokio::test]
async fn flipped_bits_never_stop_the_agent_nor_pass_unseen() {
    let whole = tempfile::tempdir().unwrap();
    let bytes = filled(whole.path()).await;
    let mut damaged = 0;
    let step = bytes.len() / 150;
    // All of the header, then all over the file.
    let places = (0..320).step_by(5).chain((320..bytes.len()).step_by(step));
    for at in places {
        let dir = tempfile::tempdir().unwrap();
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(file(dir.path()), &flipped).unwrap();
        damaged += usize::from(usable(dir.path(), &format!("bit {} of byte {at}", at % 8)).await);
    }
    assert!(damaged > 3, "{damaged}");
}

#[tokio::test]
async fn what_is_not_ours_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(file(dir.path()), "this is no database\n".repeat(1000)).unwrap();
    assert!(usable(dir.path(), "text").await);

    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(file(dir.path())).unwrap();
    assert!(usable(dir.path(), "a directory").await);

    let dir = tempfile::tempdir().unwrap();
    let other = redb::Database::create(file(dir.path())).unwrap();
    let write = other.begin_write().unwrap();
    write
        .open_table(redb::TableDefinition::<u64, u64>::new("outbox"))
        .unwrap()
        .insert(1, 2)
        .unwrap();
    write.commit().unwrap();
    drop(other);
    assert!(usable(dir.path(), "another program's database").await);
}

#[tokio::test]
async fn only_a_few_damaged_files_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..6 {
        fs::write(file(dir.path()), format!("damage {number}")).unwrap();
        let (state, owner) = State::open(config(dir.path(), &Hands::at(NOW + number))).unwrap();
        state.accept_events(vec![info("x")]).await.unwrap();
        owner.close().await;
    }
    assert_eq!(set_aside(dir.path()), 3);
    assert!(
        dir.path()
            .join(format!("state.redb.damaged-{}", NOW + 5))
            .exists(),
        "the newest are"
    );
}

#[tokio::test]
async fn a_second_agent_is_told_so() {
    let dir = tempfile::tempdir().unwrap();
    let (_state, owner) = open(dir.path());
    let error = State::open(config(dir.path(), &Hands::at(NOW)))
        .err()
        .unwrap();
    assert!(matches!(error, OpenError::InUse { .. }));
    let path = file(dir.path());
    assert_eq!(
        error.to_string(),
        format!(
            "another muster-agent uses {}; stop it, or give this one a state_dir of its own",
            path.display()
        )
    );
    owner.close().await;
    let (_state, owner) = open(dir.path());
    owner.close().await;
}

#[test]
fn a_directory_that_can_not_be_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let blocked = dir.path().join("file");
    fs::write(&blocked, "").unwrap();
    let error = State::open(config(&blocked.join("state"), &Hands::at(NOW)))
        .err()
        .unwrap();
    assert!(matches!(error, OpenError::Denied { .. }), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("could not make the directory "),
        "{error}"
    );
}
