//! A full disk: nothing runs that is not recorded, events wait in memory, and all goes on when there is space again.

use std::fs;
use std::process::Command;

use super::*;

const DIR: &str = "MUSTER_TEST_FULL_DIR";

fn job(number: u8) -> NewJob {
    NewJob {
        id: job_id(number),
        action: "script.run".to_owned(),
        idempotent: false,
        dry_run: false,
        received_at_ms: NOW,
        issued_at_ms: NOW,
        deliver_by_ms: NOW + 60_000,
        started_at_ms: Some(NOW),
        request: vec![0; 1000],
    }
}

/// Runs in a mount namespace of its own, where the directory is a disk of 4 MiB.
#[test]
#[ignore = "run by `a_full_disk_stops_jobs_and_loses_no_event`"]
fn inside() {
    let dir = std::env::var(DIR).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        full_and_empty_again(Path::new(&dir)).await;
        full_at_the_start(Path::new(&dir)).await;
    });
}

#[test]
fn a_full_disk_stops_jobs_and_loses_no_event() {
    let dir = tempfile::tempdir().unwrap();
    let test = std::env::current_exe().unwrap();
    let script = "mount -t tmpfs -o size=4m tmpfs \"$1\" && exec \"$2\" --exact state::tests::full::inside --ignored --nocapture";
    // A user who is not root may do this in a user namespace of its own.
    let unshare = if rustix::process::geteuid().is_root() {
        "-m"
    } else {
        "-rm"
    };
    let status = Command::new("unshare")
        .args([unshare, "sh", "-c", script, "sh"])
        .arg(dir.path())
        .arg(test)
        .env(DIR, dir.path())
        .status()
        .unwrap();
    assert!(status.success());
}

/// Takes all the space that is left, to the last page.
fn fill(dir: &Path) -> std::path::PathBuf {
    let balloon = dir.join("balloon");
    let mut file = fs::File::create(&balloon).unwrap();
    // The error is the aim.
    while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
    balloon
}

async fn full_and_empty_again(dir: &Path) {
    let (state, owner) = open(dir);
    assert_eq!(state.begin_job(job(1)).await.unwrap(), Begun::New);
    state.accept_events(vec![info("before")]).await.unwrap();
    let balloon = fill(dir);
    // The database has some room of its own: use it up.
    let mut stored = 0;
    while state.status().borrow().unwritable.is_none() && stored < 2000 {
        state
            .accept_events(vec![info(format!("fill {stored} {}", "x".repeat(4000)))])
            .await
            .unwrap();
        stored += 1;
    }
    assert!(
        state.status().borrow().unwritable.is_some(),
        "after {stored}"
    );
    // A few jobs may still fit between pages; one that does not is refused.
    let refused = state.begin_job(job(2)).await;
    assert!(
        matches!(refused, Err(StateError::Unusable { .. })),
        "{refused:?}"
    );
    state
        .accept_events(vec![event(Severity::Error, "while full")])
        .await
        .unwrap();
    state
        .finish_job(result(job_id(1), Outcome::Succeeded))
        .await
        .unwrap();
    assert!(state.status().borrow().held >= 2);

    fs::remove_file(&balloon).unwrap();
    eventually("it is written again", &state, |status| {
        status.unwritable.is_none() && status.held == 0
    })
    .await;
    let found = events(&state).await;
    let named = |name: &str| found.iter().filter(|event| event.summary == name).count();
    assert_eq!((named("before"), named("while full")), (1, 1));
    let filled = found
        .iter()
        .filter(|event| event.summary.starts_with("fill "))
        .count();
    let dropped = usize::try_from(state.status().borrow().depth.dropped).unwrap();
    assert_eq!(filled + dropped, stored, "every one is there or counted");
    assert_eq!(results(&state).await.len(), 1);
    assert!(matches!(
        state.begin_job(job(1)).await.unwrap(),
        Begun::Known(_)
    ));
    assert_eq!(state.begin_job(job(2)).await.unwrap(), Begun::New);
    assert_eq!(state.status().borrow().damaged, 0);
    owner.close().await;
}

/// A start on a full disk: the agent starts all the same, and comes round.
async fn full_at_the_start(dir: &Path) {
    let balloon = fill(dir);
    let (state, owner) = open(dir);
    state
        .accept_events(vec![event(Severity::Error, "at a full start")])
        .await
        .unwrap();
    fs::remove_file(&balloon).unwrap();
    eventually("it is written", &state, |status| {
        status.unwritable.is_none() && status.held == 0
    })
    .await;
    assert!(
        events(&state)
            .await
            .iter()
            .any(|event| event.summary == "at a full start")
    );
    assert_eq!(state.recover().await.unwrap().interrupted, 1);
    assert_eq!(state.status().borrow().damaged, 0);
    owner.close().await;
}
