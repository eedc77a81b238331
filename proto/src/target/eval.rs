//! The parsed expression and its evaluation over one host. Pure; knows nothing of the text it came from.

use std::cmp::Ordering;

use regex::bytes::Regex;

use super::pattern::Pattern;
use super::{HOST_KEY, Subject};

#[derive(Clone)]
pub(super) enum Expr {
    Test {
        key: String,
        negated: bool,
        test: Test,
    },
    Not(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
}

/// What the value of a key must be.
#[derive(Clone)]
pub(super) enum Test {
    OneOf(Vec<Pattern>),
    Found(Regex),
    Number { wanted: Comparison, than: f64 },
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Expr {
    pub(super) fn holds(&self, subject: &dyn Subject) -> bool {
        match self {
            Self::Test { key, negated, test } => {
                let accepted = if key == HOST_KEY {
                    test.accepts(subject.host())
                } else {
                    subject.value(key).is_some_and(|value| test.accepts(&value))
                };
                accepted != *negated
            }
            Self::Not(inner) => !inner.holds(subject),
            Self::And(parts) => parts.iter().all(|part| part.holds(subject)),
            Self::Or(parts) => parts.iter().any(|part| part.holds(subject)),
        }
    }

    pub(super) fn named_hosts(&self) -> Option<Vec<&str>> {
        let mut names = Vec::new();
        self.only_names(&mut names).then_some(names)
    }

    /// Adds the names that this part lists; false if it is anything but a list of exact names.
    fn only_names<'a>(&'a self, names: &mut Vec<&'a str>) -> bool {
        match self {
            Self::Test {
                key,
                negated: false,
                test: Test::OneOf(patterns),
            } if key == HOST_KEY => patterns
                .iter()
                .all(|pattern| pattern.exact().map(|name| push_once(names, name)).is_some()),
            Self::Or(parts) => parts.iter().all(|part| part.only_names(names)),
            _ => false,
        }
    }

    pub(super) fn keys(&self) -> Vec<&str> {
        let mut keys = Vec::new();
        self.add_keys(&mut keys);
        keys
    }

    fn add_keys<'a>(&'a self, keys: &mut Vec<&'a str>) {
        match self {
            Self::Test { key, .. } if key == HOST_KEY => {}
            Self::Test { key, .. } => push_once(keys, key),
            Self::Not(inner) => inner.add_keys(keys),
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|part| part.add_keys(keys)),
        }
    }
}

impl Test {
    fn accepts(&self, value: &str) -> bool {
        match self {
            Self::OneOf(patterns) => patterns.iter().any(|pattern| pattern.matches(value)),
            Self::Found(regex) => regex.is_match(value.as_bytes()),
            Self::Number { wanted, than } => number(value)
                .and_then(|value| value.partial_cmp(than))
                .is_some_and(|order| wanted.accepts(order)),
        }
    }
}

impl Comparison {
    fn accepts(self, order: Ordering) -> bool {
        match self {
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual => order.is_ge(),
        }
    }
}

/// A decimal number, such as `8`, `-0.5` or `1e9`; nothing that is infinite or not a number.
pub(super) fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

fn push_once<'a>(list: &mut Vec<&'a str>, item: &'a str) {
    if !list.contains(&item) {
        list.push(item);
    }
}
