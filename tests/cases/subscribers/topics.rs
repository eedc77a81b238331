//! The facts that the schemas are made from: every topic that the sources and the log packs name is in the table; and
//! `muster schema` prints what is kept.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use muster_harness::Muster;
use muster_proto::action::ACTIONS;
use muster_proto::topics::TOPICS;
use serde_json::Value;

/// First words of topics.
const FAMILIES: [&str; 12] = [
    "agent",
    "fleet",
    "haproxy",
    "host",
    "keepalived",
    "kernel",
    "lvs",
    "muster",
    "process",
    "reaction",
    "service",
    "tail",
];

/// Texts of that form which are no topics: what some have in common, and keepalived's files.
const OTHERS: [&str; 4] = [
    "host.filesystem.usage",
    "keepalived.data",
    "keepalived.json",
    "keepalived.stats",
];

fn workspace() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

fn files(folder: &Path, ending: &str, into: &mut Vec<PathBuf>) -> Result<()> {
    for entry in folder
        .read_dir()
        .with_context(|| folder.display().to_string())?
    {
        let path = entry?.path();
        if path.is_dir() {
            files(&path, ending, into)?;
        } else if path.to_string_lossy().ends_with(ending) {
            into.push(path);
        }
    }
    Ok(())
}

fn known() -> BTreeSet<&'static str> {
    TOPICS.iter().map(|topic| topic.name).collect()
}

#[test]
fn every_topic_of_the_packs_is_in_the_table() -> Result<()> {
    let mut packs = Vec::new();
    files(
        &workspace().join("agent/src/tail/packs"),
        ".toml",
        &mut packs,
    )?;
    let mut count = 0;
    for pack in packs {
        let text = std::fs::read_to_string(&pack)?;
        let table: toml::Table = text.parse()?;
        for rule in table["rule"].as_array().context("the pack's rules")? {
            let topic = rule["topic"].as_str().context("a rule's topic")?;
            assert!(known().contains(topic), "{topic} of {}", pack.display());
            count += 1;
        }
    }
    assert!(count > 50, "{count} rules");
    Ok(())
}

#[test]
fn every_topic_of_the_sources_is_in_the_table() -> Result<()> {
    let mut sources = Vec::new();
    for folder in ["agent/src", "controller/src"] {
        files(&workspace().join(folder), ".rs", &mut sources)?;
    }
    let actions: BTreeSet<&str> = ACTIONS.iter().map(|action| action.name).collect();
    let mut found = BTreeSet::new();
    for source in sources {
        let path = source.strip_prefix(workspace())?;
        let path = path.to_string_lossy().into_owned();
        if path.contains("test") || path.contains("/cmd/") || path.contains("/action/") {
            continue;
        }
        let text = std::fs::read_to_string(&source)?;
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let code = code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            for literal in line.split('"').skip(1).step_by(2) {
                let family = literal.split('.').next().unwrap_or_default();
                let is_topic = literal.contains('.')
                    && FAMILIES.contains(&family)
                    && muster_proto::event::is_topic(literal)
                    && !actions.contains(literal)
                    && !OTHERS.contains(&literal);
                if is_topic && !line.contains("include_str!") {
                    found.insert((literal.to_owned(), path.clone()));
                }
            }
        }
    }
    let strange: Vec<_> = found
        .iter()
        .filter(|(topic, _)| !known().contains(topic.as_str()))
        .collect();
    assert!(strange.is_empty(), "{strange:?}");
    assert!(found.len() > 60, "{}", found.len());
    Ok(())
}

#[tokio::test]
async fn schemas_are_printed_as_they_are_kept() -> Result<()> {
    let home = tempfile::tempdir()?;
    let muster = Muster::at(home.path())?;
    let kept = |name: &str| -> Result<Value> {
        let path = workspace().join("proto/schema").join(name);
        Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
    };
    for (arguments, file) in [
        (["schema", "--asyncapi"], "asyncapi.json"),
        (["schema", "event"], "muster.event-1.json"),
        (
            ["schema", "muster.job-opened/1"],
            "muster.job-opened-1.json",
        ),
        (["schema", "snapshot.lvs"], "snapshot.lvs.json"),
    ] {
        assert_eq!(
            muster.succeed(&arguments).await?.json()?,
            kept(file)?,
            "{arguments:?}"
        );
    }
    let listed = muster
        .succeed(&["schema", "-o", "ndjson"])
        .await?
        .json_lines()?;
    let mut schemas = Vec::new();
    files(&workspace().join("proto/schema"), ".json", &mut schemas)?;
    assert_eq!(
        listed.len() + 1,
        schemas.len(),
        "all but the document itself"
    );
    let text = muster.succeed(&["schema"]).await?.stdout;
    let event = text.lines().find(|line| line.starts_with("muster.event/1"));
    assert!(
        event.is_some_and(|line| line.contains("muster.events  {topic}.{host}")),
        "{text}"
    );
    let output = muster.run(&["schema", "evnt"]).await?;
    assert_eq!(output.code, 2, "{output:?}");
    Ok(())
}
