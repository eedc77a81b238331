//! The shape of a snapshot: which series it has, with which labels, in which order. Hosts that are alike have the same
//! one, and a host keeps it from one snapshot to the next; so it is kept once.

use std::collections::HashSet;
use std::sync::Arc;

use muster_proto::snapshot::fields::{Reading, Sample, Series};

use super::catalog::Code;

/// Longest value of a label in bytes; figures with a longer one are left out.
const LABEL_BYTES_MAX: usize = 512;

/// Names and values of the labels of one or several figures.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Labels(pub(super) Box<[(&'static str, Box<str>)]>);

/// Which figures a snapshot has.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Shape {
    /// What each figure is.
    pub(super) codes: Box<[Code]>,
    /// The labels of each.
    pub(super) labels: Box<[Arc<Labels>]>,
    /// Whether each is a word, whose number is kept in place of a figure.
    pub(super) words: Box<[bool]>,
}

/// Every shape and set of labels that is in use.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    shapes: HashSet<Arc<Shape>>,
    labels: HashSet<Arc<Labels>>,
}

impl Labels {
    fn are(&self, found: &Sample<'_>) -> bool {
        let own = self.0.iter().map(|(name, value)| (*name, value.as_ref()));
        own.eq(found
            .labels
            .iter()
            .map(|(name, value)| (*name, value.as_ref())))
    }
}

impl Shape {
    /// How many figures it has.
    pub(super) fn len(&self) -> usize {
        self.codes.len()
    }

    /// Whether its figure number `at` is what `sample` is one of.
    pub(super) fn fits(&self, at: usize, sample: &Sample<'_>) -> bool {
        let series = self.codes.get(at).and_then(|code| code.series());
        series == Some(sample.series)
            && self.words.get(at) == Some(&is_word(sample))
            && self.labels.get(at).is_some_and(|labels| labels.are(sample))
    }

    /// Where the figures of `series` are.
    pub(super) fn places(&self, series: Series) -> impl Iterator<Item = usize> {
        let code = Code::of(series);
        let all = self.codes.iter().enumerate();
        all.filter(move |(_, found)| Some(**found) == code)
            .map(|(at, _)| at)
    }
}

impl Shapes {
    /// The shape of these samples, up to `figures_max` of them.
    pub(super) fn of(&mut self, samples: &[Sample<'_>], figures_max: usize) -> Arc<Shape> {
        let kept = || samples.iter().filter(|sample| is_kept(sample));
        let mut codes = Vec::new();
        let mut labels: Vec<Arc<Labels>> = Vec::new();
        let mut words = Vec::new();
        for sample in kept().take(figures_max) {
            let Some(code) = Code::of(sample.series) else {
                continue;
            };
            let known = labels.last().filter(|labels| labels.are(sample)).cloned();
            let set = known.unwrap_or_else(|| self.labels(sample));
            codes.push(code);
            labels.push(set);
            words.push(is_word(sample));
        }
        let shape = Shape {
            codes: codes.into(),
            labels: labels.into(),
            words: words.into(),
        };
        if let Some(known) = self.shapes.get(&shape) {
            return known.clone();
        }
        let shape = Arc::new(shape);
        self.shapes.insert(shape.clone());
        shape
    }

    fn labels(&mut self, sample: &Sample<'_>) -> Arc<Labels> {
        let pairs = sample.labels.iter();
        let labels = Labels(
            pairs
                .map(|(name, value)| (*name, value.as_ref().into()))
                .collect(),
        );
        if let Some(known) = self.labels.get(&labels) {
            return known.clone();
        }
        let labels = Arc::new(labels);
        self.labels.insert(labels.clone());
        labels
    }

    /// Forgets what nobody has any more.
    pub(super) fn sweep(&mut self) {
        self.shapes.retain(|shape| Arc::strong_count(shape) > 1);
        self.labels.retain(|labels| Arc::strong_count(labels) > 1);
    }

    /// How many shapes and sets of labels there are.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.shapes.len(), self.labels.len())
    }
}

/// Whether a sample is one that is kept at all.
pub(super) fn is_kept(sample: &Sample<'_>) -> bool {
    let mut labels = sample.labels.iter();
    labels.all(|(_, value)| value.len() <= LABEL_BYTES_MAX)
}

fn is_word(sample: &Sample<'_>) -> bool {
    matches!(sample.reading, Reading::Word(_))
}
