//! The rules of the house, on the sources themselves: who may name whom, what has to have a row, what must not be.

mod lexer;
mod planted;
mod rules;
mod source;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use self::rules::{BORDERS, LINES_MAX, LONG, check, is_within};

/// Places of the house that rules name and nobody has built yet.
const NOT_BUILT: &[&str] = &[];

/// Not ours: what cargo builds, and git's own.
const NOT_SOURCE: &[&str] = &["target", ".git", "proto/fuzz/target"];

fn workspace() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

/// Path and text of every file; the text of Rust sources only.
fn real_tree() -> Result<BTreeMap<String, String>> {
    let root = workspace();
    let mut tree = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in folder
            .read_dir()
            .with_context(|| format!("read {}", folder.display()))?
        {
            let path = entry?.path();
            let name = path.strip_prefix(&root)?.to_string_lossy().into_owned();
            if NOT_SOURCE.contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else if name.ends_with(".rs") {
                let text =
                    std::fs::read_to_string(&path).with_context(|| format!("read {name}"))?;
                tree.insert(name, text);
            } else {
                tree.insert(name, String::new());
            }
        }
    }
    Ok(tree)
}

#[test]
fn the_tree_keeps_the_rules() -> Result<()> {
    let violations: Vec<String> = check(&real_tree()?)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(
        violations.is_empty(),
        "{} violations:\n{}",
        violations.len(),
        violations.join("\n")
    );
    Ok(())
}

/// A rule about a place that was renamed would hold for ever.
#[test]
fn every_place_that_a_rule_names_is_there() -> Result<()> {
    let tree = real_tree()?;
    let built = |area: &str| tree.keys().any(|path| is_within(path, area));
    let areas = BORDERS.iter().flat_map(|border| {
        border
            .inside
            .iter()
            .copied()
            .chain(border.but.iter().map(|(area, _)| *area))
    });
    for area in areas {
        assert_eq!(built(area), !NOT_BUILT.contains(&area), "is {area} there?");
    }
    for (path, reason) in LONG {
        let lines = tree
            .get(*path)
            .with_context(|| format!("{path} is gone"))?
            .lines()
            .count();
        assert!(
            lines > LINES_MAX && !reason.is_empty(),
            "{path} needs no row any more: {lines} lines"
        );
    }
    Ok(())
}
