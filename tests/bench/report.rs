//! Medians and spreads.

use serde_json::{Value, json};

/// Samples of one figure.
#[derive(Clone, Debug)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    pub(crate) fn new(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        Self(values)
    }

    /// These and others of the same figure.
    pub(crate) fn and(&self, others: &Self) -> Self {
        Self::new(self.0.iter().chain(&others.0).copied().collect())
    }

    /// The value that a share `at` (0 to 1) of all are below; NaN without samples.
    pub(crate) fn quantile(&self, at: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "few samples"
        )]
        let index = (last as f64 * at).round() as usize;
        self.0.get(index).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "median": self.median(), "min": self.quantile(0.0), "max": self.quantile(1.0), "samples": self.0.len() })
    }

    pub(crate) fn row(&self, name: &str) -> String {
        let Self(all) = self;
        format!(
            "{name:<36} {:>9.1} {:>9.1} {:>9.1} {:>7}",
            self.quantile(0.0),
            self.median(),
            self.quantile(1.0),
            all.len()
        )
    }
}

/// The heading of [`Samples::row`]s.
pub(crate) fn heading() -> String {
    format!(
        "{:<36} {:>9} {:>9} {:>9} {:>7}",
        "milliseconds", "min", "median", "max", "samples"
    )
}
