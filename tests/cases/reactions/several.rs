//! Two `muster serve`, of which one reacts: either is killed at any time while events flow. Every event is acted upon once,
//! or again and marked so; and both have the same rows in the end.
//!
//! `MUSTER_REACTIONS_SECONDS` (30), `MUSTER_REACTIONS_AGENTS` (4) and `MUSTER_REACTIONS_EVENTS` (20 in a second) make it
//! longer and larger; `cargo nextest run --profile long` gives it the time. Fifty agents and 500 events/s want a release
//! build on two cores: `MUSTER_BIN_DIR=$PWD/target/release`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Instant;

use muster_harness::eventually_within;

use super::peers::{Post, Receiver};
use super::*;

/// From one kill to the next: the one that is left needs to take over, mostly.
const BETWEEN_KILLS: Duration = Duration::from_secs(7);

/// Of so many events one is reacted to.
const ONE_OF: usize = 5;

fn asked(name: &str, default: usize) -> usize {
    let asked = std::env::var(name).ok().and_then(|text| text.parse().ok());
    asked.unwrap_or(default)
}

#[tokio::test]
async fn nothing_is_missed_nor_done_twice_unmarked_when_either_is_killed() -> Result<()> {
    let seconds = asked("MUSTER_REACTIONS_SECONDS", 30);
    let agents = asked("MUSTER_REACTIONS_AGENTS", 4);
    let per_second = asked("MUSTER_REACTIONS_EVENTS", 20);
    let receiver = Receiver::start().await?;
    let sections = receiver.sections(&["good", "digest"], "")
        + r#"
[reactions]
budget = "100000/1h"
host_budget = "100000/1h"
[[reaction]]
name = "each"
on = ["test.said"]
when = 'key=kept'
budget = "100000/1h"
webhook = ["good"]
[[reaction]]
name = "digest"
on = ["test.said"]
when = 'key=kept'
group_by = ["host"]
window = "3s"
budget = "100000/1h"
webhook = ["digest"]
"#;
    let mut stage = Stage::fleet(agents).await?;
    for number in 0..2 {
        let name = format!("serve-{number}");
        let muster = stage.fleet.second_desk(&name)?;
        stage.serves.push(Serve::start(muster, &name, &sections)?);
    }
    stage.await_serving().await?;

    let began = Instant::now();
    let (mut said, mut kept, mut killed) = (0, 0, 0);
    while began.elapsed() < Duration::from_secs(u64::try_from(seconds)?) {
        while said < usize::try_from(began.elapsed().as_millis())? * per_second / 1000 {
            let what = if said % ONE_OF == 0 { "kept" } else { "other" };
            kept += usize::from(said % ONE_OF == 0);
            stage.say(said % agents, &format!("say {said} of {what}\n"))?;
            said += 1;
        }
        let kill_at = BETWEEN_KILLS * (killed + 1);
        if began.elapsed() > kill_at {
            // In no order that could suit them.
            let victim = usize::from(uuid::Uuid::now_v7().as_bytes()[15] % 2);
            stage.serves[victim].kill().await?;
            stage.serves[victim].restart()?;
            killed += 1;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    for to in ["good", "digest"] {
        let acted = eventually_within(to, LIMIT * 2, async || {
            let acted = Acted::of(&receiver.posts(to));
            let there = acted.events.len();
            (there >= kept)
                .then_some(acted)
                .ok_or_else(|| format!("{there} of {kept} to {to}\n{}", stage.logs()))
        })
        .await?;
        assert_eq!(acted.events.len(), kept, "events to {to}");
        assert_eq!(
            acted.in_several,
            BTreeSet::new(),
            "events in more than one firing to {to}"
        );
        assert_eq!(
            acted.unmarked,
            BTreeMap::new(),
            "firings that were done again to {to} and not marked"
        );
        println!(
            "{to}: {kept} events, {} firings, {} of them again, {killed} kills",
            acted.firings, acted.again
        );
    }

    // One firing is one fact in the history, whoever tells it.
    let fired = stage.told(&["reaction.fired"]).await?;
    let ids: BTreeSet<&str> = fired
        .iter()
        .filter_map(|event| event["message_id"].as_str())
        .collect();
    assert_eq!(ids.len(), fired.len());
    assert!(stage.told(&["reaction.failed"]).await?.is_empty());

    let homes: Vec<PathBuf> = stage
        .serves
        .iter()
        .map(|serve| serve.muster.home().to_owned())
        .collect();
    eventually_within("both have the same rows", LIMIT, async || {
        let rows = homes
            .iter()
            .map(|home| rows(home))
            .collect::<Result<Vec<_>>>();
        let rows = rows.map_err(|error| format!("{error:#}"))?;
        (rows[0] == rows[1] && rows[0].contains("events"))
            .then_some(())
            .ok_or_else(|| rows.join("\n"))
    })
    .await
}

/// What came to a receiver.
#[derive(Default)]
struct Acted {
    events: BTreeSet<String>,
    in_several: BTreeSet<String>,
    firings: usize,
    again: usize,
    unmarked: BTreeMap<String, usize>,
}

impl Acted {
    fn of(posts: &[Post]) -> Self {
        let mut acted = Self::default();
        let mut firings: BTreeMap<&str, Vec<&Post>> = BTreeMap::new();
        for post in posts {
            firings.entry(&post.id).or_default().push(post);
        }
        for (id, posts) in &firings {
            let unmarked = posts
                .iter()
                .filter(|post| post.body["again"] != true)
                .count();
            if unmarked > 1 {
                acted.unmarked.insert((*id).to_owned(), unmarked);
            }
            let events = posts[0].body["events"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            for event in events {
                let id = event["id"].as_str().unwrap_or_default().to_owned();
                if !acted.events.insert(id.clone()) {
                    acted.in_several.insert(id);
                }
            }
        }
        acted.firings = firings.len();
        acted.again = posts.len() - firings.len();
        acted
    }
}

/// The tables of a `muster serve`: for each its number of rows, and a sum over all of them but for where reading goes on.
fn rows(home: &std::path::Path) -> Result<String> {
    let script = r#"
import hashlib, pathlib, sqlite3, sys
for path in sorted(pathlib.Path(sys.argv[1]).rglob("serve/*.sqlite")):
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT IN ('position', 'meta', 'counters', 'seen', 'hosts') ORDER BY name").fetchall():
        rows = sorted(map(repr, db.execute(f"SELECT * FROM {table}")))
        print(path.name, table, len(rows), hashlib.sha256("\n".join(rows).encode()).hexdigest())
"#;
    let output = Command::new("/usr/bin/python3")
        .args(["-c", script])
        .arg(home.join(".cache"))
        .output()
        .context("read the tables")?;
    anyhow::ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
