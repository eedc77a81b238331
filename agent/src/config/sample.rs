//! The documented config with every key, as `muster-agent config default` prints it. It parses to the defaults.

use crate::collect::COLLECTORS;

/// The whole text: the agent's own sections, then each collector's.
#[must_use]
pub fn sample() -> String {
    let collectors = COLLECTORS.iter().map(|spec| spec.sample.trim_end());
    let sections: Vec<&str> = std::iter::once(include_str!("sample.toml").trim_end())
        .chain(collectors)
        .collect();
    sections.join("\n\n") + "\n"
}
