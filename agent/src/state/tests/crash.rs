//! Killed at any moment: what was answered is there.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use super::*;

const DIR: &str = "MUSTER_TEST_STATE_DIR";
const ROUNDS: u64 = 25;

fn number_of(job: JobId) -> u64 {
    job.unix_ms() - NOW
}

fn job_of(number: u64) -> JobId {
    JobId::from_parts(NOW + number, [3; 10])
}

/// The process that is killed: stores without end, and says on its standard output what was answered.
#[test]
#[ignore = "run by `a_kill_loses_nothing_that_was_answered`"]
fn writer() {
    let dir = std::env::var(DIR).unwrap();
    let first: u64 = std::env::var("MUSTER_TEST_FIRST").unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (state, _owner) = State::open(config(Path::new(&dir), &Hands::at(NOW))).unwrap();
        state.recover().await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for worker in 0..4 {
            let state = state.clone();
            tasks.spawn(async move {
                let mut number = first + worker;
                loop {
                    work(&state, number).await;
                    number += 4;
                }
            });
        }
        tasks.join_all().await;
    });
}

async fn work(state: &State, number: u64) {
    let say = |what: &str| {
        let mut out = std::io::stdout();
        writeln!(out, "\n{what} {number}")
            .and_then(|()| out.flush())
            .unwrap();
    };
    let new = NewJob {
        id: job_of(number),
        action: "script.run".to_owned(),
        idempotent: false,
        dry_run: false,
        received_at_ms: NOW,
        issued_at_ms: NOW,
        deliver_by_ms: NOW + 60_000,
        started_at_ms: Some(NOW),
        request: vec![0; 300],
    };
    assert_eq!(state.begin_job(new).await.unwrap(), Begun::New);
    say("begun");
    state
        .accept_events(vec![info(format!("{number}"))])
        .await
        .unwrap();
    say("event");
    state
        .finish_job(result(job_of(number), Outcome::Succeeded))
        .await
        .unwrap();
    say("finished");
}

fn start(dir: &Path, first: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "state::tests::crash::writer",
            "--ignored",
            "--nocapture",
        ])
        .env(DIR, dir)
        .env("MUSTER_TEST_FIRST", first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[derive(Default)]
struct Answered {
    begun: BTreeSet<u64>,
    events: BTreeSet<u64>,
    finished: BTreeSet<u64>,
}

impl Answered {
    fn take(&mut self, line: &str) -> bool {
        let Some((what, number)) = line.split_once(' ') else {
            return false;
        };
        let Ok(number) = number.parse() else {
            return false;
        };
        match what {
            "begun" => self.begun.insert(number),
            "event" => self.events.insert(number),
            "finished" => self.finished.insert(number),
            _ => false,
        }
    }
}

#[tokio::test]
async fn a_kill_loses_nothing_that_was_answered() {
    let dir = tempfile::tempdir().unwrap();
    let mut answered = Answered::default();
    for round in 0..ROUNDS {
        let mut child = start(dir.path(), round * 100_000);
        let mut out = BufReader::new(child.stdout.take().unwrap());
        // Another number of lines each time, so that the kill comes at another point of its work.
        let mut left = 1 + round * 7;
        let mut line = String::new();
        while left > 0 && out.read_line(&mut line).unwrap() > 0 {
            left -= u64::from(answered.take(line.trim()));
            line.clear();
        }
        assert_eq!(left, 0, "the writer ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
        while out.read_line(&mut line).unwrap() > 0 {
            answered.take(line.trim());
            line.clear();
        }
    }
    check(dir.path(), &answered).await;
}

async fn check(dir: &Path, answered: &Answered) {
    let (state, owner) = open(dir);
    assert_eq!(state.status().borrow().damaged, 0);
    state.recover().await.unwrap();
    for number in &answered.begun {
        assert!(
            state.job(job_of(*number)).await.unwrap().is_some(),
            "job {number} was recorded"
        );
    }
    let found = events(&state).await;
    assert!(
        found.windows(2).all(|pair| pair[0].seq < pair[1].seq),
        "numbers rise over all lives"
    );
    let events: BTreeSet<u64> = found
        .iter()
        .map(|event| event.summary.parse().unwrap())
        .collect();
    assert!(
        answered.events.is_subset(&events),
        "{:?}",
        answered.events.difference(&events)
    );
    let results = results(&state).await;
    let ended: BTreeSet<u64> = results.iter().map(|result| number_of(result.job)).collect();
    assert_eq!(ended.len(), results.len(), "one answer each");
    assert!(
        answered.begun.is_subset(&ended),
        "what was begun and not finished is answered as interrupted"
    );
    let succeeded: BTreeSet<u64> = results
        .iter()
        .filter(|r| r.outcome == Outcome::Succeeded)
        .map(|r| number_of(r.job))
        .collect();
    assert!(answered.finished.is_subset(&succeeded));
    assert!(!answered.finished.is_empty());
    owner.close().await;
}
