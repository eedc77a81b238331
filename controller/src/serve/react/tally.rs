//! What reactions have done, for `/metrics`: counted from this program's start, for the history has it all. Pure.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::decision::Suppressed;

/// As many label sets as the config has rules, with their actions and the few outcomes and reasons.
type Counts = Family<Vec<(&'static str, String)>, Counter>;

/// The counts. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    actions: Counts,
    suppressed: Counts,
    under_way: Gauge,
}

impl Tally {
    /// An action of `rule` has ended.
    pub(crate) fn ended(&self, rule: &str, action: &str, good: bool) {
        let outcome = if good { "done" } else { "failed" };
        let labels = [("reaction", rule), ("action", action), ("outcome", outcome)];
        let labels = labels.map(|(name, value)| (name, value.to_owned()));
        self.actions.get_or_create(&labels.into()).inc();
    }

    /// `rule` did not act.
    pub(crate) fn suppressed(&self, rule: &str, it: &Suppressed) {
        let labels = [("reaction", rule), ("reason", it.reason.name())];
        let labels = labels.map(|(name, value)| (name, value.to_owned()));
        let events = u64::try_from(it.events.len()).unwrap_or(u64::MAX);
        self.suppressed.get_or_create(&labels.into()).inc_by(events);
    }

    /// So many firings are being carried out.
    pub(crate) fn under_way(&self, firings: usize) {
        self.under_way
            .set(i64::try_from(firings).unwrap_or(i64::MAX));
    }

    /// Hands the counts to whoever shows them.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Actions of reactions that have ended";
        registry.register("reaction_actions", help, self.actions.clone());
        let help = "Events that a reaction was not to act upon, by reason";
        registry.register("reaction_suppressed_events", help, self.suppressed.clone());
        let help = "Firings of reactions that are being carried out";
        registry.register("reaction_firings_under_way", help, self.under_way.clone());
    }
}
