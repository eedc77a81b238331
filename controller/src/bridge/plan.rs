//! Which figures go out, under which name, and as what: decided once for every declared figure, from the config's rules.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use muster_proto::snapshot::fields::{self, Kind, Series};

use super::template::Template;

/// What becomes of a counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Counters {
    /// Its total, as a gauge.
    Total,
    /// What was added since the snapshot before; nothing where it began anew.
    Increment,
    /// How fast it grows, per second, as a gauge.
    Rate,
}

/// What becomes of the figures that match.
#[derive(Debug, Clone)]
pub struct Rule {
    /// `COLLECTOR/TABLE.FIELD`, with `*` for any characters.
    pub series: String,
    /// Their name; none: they do not go out.
    pub name: Option<Template>,
    /// Of counters.
    pub counters: Counters,
    /// Whether they are samples of a distribution, for sinks that tell those from gauges.
    pub timing: bool,
}

/// The rules, applied to every declared figure.
#[derive(Debug, Clone, Default)]
pub struct Plan(HashMap<Series, Arc<Rule>>);

impl Plan {
    /// The first rule that matches holds; what none matches stays here. `collectors` narrows it down, unless empty.
    ///
    /// # Errors
    /// The number of a rule that matches no figure at all, which is a mistake.
    pub fn new(rules: Vec<Rule>, collectors: &[String]) -> Result<Self, usize> {
        let rules: Vec<Arc<Rule>> = rules.into_iter().map(Arc::new).collect();
        let mut useful = HashSet::new();
        let mut plan = HashMap::new();
        for series in fields::all() {
            let name = format!("{}/{series}", series.collector);
            let matching = |rule: &Arc<Rule>| is_like(&rule.series, &name);
            useful.extend((0..rules.len()).filter(|at| rules.get(*at).is_some_and(matching)));
            let wanted =
                collectors.is_empty() || collectors.iter().any(|one| one == series.collector);
            let rule = rules.iter().find(|rule| matching(rule));
            if let Some(rule) = rule.filter(|rule| wanted && rule.name.is_some()) {
                plan.insert(series, Arc::clone(rule));
            }
        }
        match (0..rules.len()).find(|at| !useful.contains(at)) {
            Some(useless) => Err(useless),
            None => Ok(Self(plan)),
        }
    }

    /// What becomes of a figure.
    #[must_use]
    pub fn of(&self, series: Series) -> Option<&Rule> {
        self.0.get(&series).map(AsRef::as_ref)
    }

    /// Whether anything of a collector goes out.
    #[must_use]
    pub fn wants(&self, collector: &str) -> bool {
        self.0.keys().any(|series| series.collector == collector)
    }

    /// Whether any of a collector's counters has to be compared with the snapshot before.
    #[must_use]
    pub fn compares(&self, collector: &str) -> bool {
        self.0.iter().any(|(series, rule)| {
            series.collector == collector
                && series.field.kind == Kind::Counter
                && rule.counters != Counters::Total
        })
    }
}

/// Whether `text` is like `pattern`, in which `*` stands for any characters.
#[must_use]
pub fn is_like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::template::Style;
    use super::*;

    fn rule(series: &str, name: Option<&str>) -> Rule {
        Rule {
            series: series.to_owned(),
            name: name.map(|name| Template::parse(name, Style::Path).unwrap()),
            counters: Counters::Rate,
            timing: false,
        }
    }

    #[test]
    fn the_first_rule_that_matches_holds() {
        let rules = vec![
            rule("lvs/virtual_server.connections", Some("conns")),
            rule("lvs/virtual_server.*", None),
            rule("*", Some("{series}")),
        ];
        let plan = Plan::new(rules, &["lvs".to_owned()]).unwrap();
        let of = |name| plan.of(fields::find("lvs", name).unwrap());
        assert!(of("virtual_server.connections").is_some());
        assert!(of("virtual_server.in_bytes").is_none());
        assert!(of("total.in_bytes").is_some());
        assert!(
            plan.of(fields::find("host", "load.load1").unwrap())
                .is_none()
        );
        assert!(plan.wants("lvs") && !plan.wants("host") && plan.compares("lvs"));
        assert_eq!(
            Plan::new(vec![rule("*", None), rule("lsv/*", None)], &[]).unwrap_err(),
            1
        );
    }

    #[test]
    fn patterns_match_as_they_look() {
        for (pattern, text, want) in [
            ("*", "", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("a*b*c", "a.b.c", true),
            ("a*b*c", "a.c.b", false),
            ("ab*ba", "aba", false),
            ("**", "x", true),
        ] {
            assert_eq!(is_like(pattern, text), want, "{pattern} {text}");
        }
    }
}
