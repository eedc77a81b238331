#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use muster_proto::metric::Metrics;
use muster_proto::snapshot::fields::{self, Reading};
use serde_json::{Value, json};

use super::store::{Bounds, SeriesStore};

const BOUNDS: Bounds = Bounds {
    series_max: 1000,
    per_host_max: 100,
    points: 4,
};

fn metrics(host: &str, at_s: u64, snapshot: Value) -> Metrics {
    Metrics {
        host: host.parse().unwrap(),
        collector: "host".to_owned(),
        at_ms: at_s * 1000,
        seq: at_s,
        snapshot,
    }
}

fn interface(name: &str, total: u64) -> Value {
    json!({"name": name, "operstate": "up", "rx_bytes": {"total": total}, "tx_bytes": {"total": 1, "per_s": 0.25}})
}

fn snapshot(free: u64, interfaces: &[Value]) -> Value {
    json!({"memory": {"free_bytes": free}, "network": {"interfaces": interfaces}})
}

/// Reading and rate by `host labels`.
fn newest(store: &SeriesStore, name: &str, now_s: u64) -> Vec<(String, String, Option<f64>)> {
    let series = fields::find("host", name).unwrap();
    let shown = store.newest(series, now_s * 1000);
    shown
        .map(|shown| {
            let labels: Vec<&str> = shown
                .labels
                .iter()
                .map(|(_, value)| value.as_ref())
                .collect();
            let name = format!("{} {}", shown.host, labels.join(","));
            (
                name.trim().to_owned(),
                shown.reading.to_string(),
                shown.per_s,
            )
        })
        .collect()
}

fn history(store: &SeriesStore, name: &str) -> Vec<Vec<(u64, f64)>> {
    let series = fields::find("host", name).unwrap();
    store.history(series).map(|(_, _, points)| points).collect()
}

#[test]
fn the_newest_is_exact_and_a_few_before_it_are_kept() {
    let mut store = SeriesStore::new(BOUNDS);
    for at in 1..=6 {
        let free = 9_007_199_254_740_000 + at;
        let snapshot = snapshot(free, &[interface("eth0", at * 1000), interface("eth1", 7)]);
        store.take(&metrics("a", at * 10, snapshot), at * 10_000);
    }
    assert_eq!(store.count(), 7);
    let free = newest(&store, "memory.free_bytes", 60);
    assert_eq!(
        free,
        [("a".to_owned(), "9007199254740006".to_owned(), None)]
    );
    let rx = newest(&store, "interface.rx_bytes", 60);
    let want = [("a eth0", "6000", Some(100.0)), ("a eth1", "7", Some(0.0))];
    let want = want.map(|(name, reading, per_s)| (name.to_owned(), reading.to_owned(), per_s));
    assert_eq!(rx, want);
    assert_eq!(
        newest(&store, "interface.tx_bytes", 60)[0].2,
        Some(0.25),
        "the agent's own rate goes first"
    );
    assert_eq!(newest(&store, "interface.operstate", 60)[0].1, "up");
    let rates = history(&store, "interface.rx_bytes");
    assert_eq!(
        rates[0],
        [
            (30_000, 100.0),
            (40_000, 100.0),
            (50_000, 100.0),
            (60_000, 100.0)
        ]
    );
    let early = history(&store, "memory.free_bytes");
    assert_eq!(
        early[0].iter().map(|(at, _)| *at).collect::<Vec<_>>(),
        [30_000, 40_000, 50_000, 60_000]
    );
}

#[test]
fn figures_that_come_and_go_leave_the_others_their_history() {
    let mut store = SeriesStore::new(BOUNDS);
    let both = [interface("eth0", 10), interface("eth1", 10)];
    store.take(&metrics("a", 10, snapshot(1, &both)), 10_000);
    store.take(&metrics("a", 20, snapshot(2, &both[1..])), 20_000);
    let three = [
        interface("eth1", 30),
        interface("eth2", 1),
        interface("eth0", 2),
    ];
    store.take(&metrics("a", 30, snapshot(3, &three)), 30_000);
    assert_eq!(
        history(&store, "memory.free_bytes"),
        [[(10_000, 1.0), (20_000, 2.0), (30_000, 3.0)]]
    );
    assert_eq!(store.count(), 10);
    let names: Vec<String> = newest(&store, "interface.rx_bytes", 30)
        .into_iter()
        .map(|row| row.0)
        .collect();
    assert_eq!(names, ["a eth1", "a eth2", "a eth0"]);
    // What is old, or of the past, changes nothing.
    store.take(&metrics("a", 30, snapshot(9, &[])), 31_000);
    assert_eq!(newest(&store, "memory.free_bytes", 31)[0].1, "3");
    store.take(&metrics("a", 40, json!({"memory": "torn"})), 41_000);
    assert_eq!(store.count(), 10);
}

#[test]
fn a_reset_has_no_rate_and_other_words_are_other_words() {
    let mut store = SeriesStore::new(BOUNDS);
    let with = |total: u64, word: &str| {
        snapshot(
            1,
            &[json!({"name": "eth0", "operstate": word, "rx_bytes": {"total": total}})],
        )
    };
    store.take(&metrics("a", 10, with(1000, "up")), 10_000);
    store.take(&metrics("a", 20, with(10, "down")), 20_000);
    assert_eq!(newest(&store, "interface.rx_bytes", 20)[0].2, None);
    let series = fields::find("host", "interface.operstate").unwrap();
    let shown = store.newest(series, 20_000).next().unwrap();
    assert_eq!(shown.reading, Reading::Word("down"));
}

#[test]
fn what_is_beyond_the_bounds_is_counted_and_the_rest_kept() {
    let mut store = SeriesStore::new(Bounds {
        series_max: 10,
        per_host_max: 4,
        points: 2,
    });
    let interfaces: Vec<Value> = (0..10)
        .map(|at| interface(&format!("eth{at}"), at))
        .collect();
    for host in ["a", "b", "c", "d"] {
        for at in [10, 20] {
            store.take(&metrics(host, at, snapshot(1, &interfaces)), at * 1000);
        }
    }
    assert_eq!(store.count(), 10);
    let left_out: Vec<(String, usize)> = store
        .left_out()
        .map(|(host, count)| (host.to_string(), count))
        .collect();
    let want =
        [("a", 27), ("b", 27), ("c", 29), ("d", 31)].map(|(host, count)| (host.to_owned(), count));
    assert_eq!(left_out, want);
    // Room that comes free is used.
    store.forget(&"a".parse().unwrap());
    store.take(&metrics("d", 30, snapshot(1, &interfaces)), 30_000);
    assert_eq!(store.count(), 10);
}

#[test]
fn what_is_not_heard_of_is_not_shown_and_goes() {
    let mut store = SeriesStore::new(BOUNDS);
    for at in [10, 20] {
        store.take(&metrics("a", at, snapshot(at, &[])), at * 1000);
        store.take(&metrics("b", at, snapshot(at, &[])), at * 1000);
    }
    store.take(&metrics("b", 50, snapshot(7, &[])), 50_000);
    assert_eq!(newest(&store, "memory.free_bytes", 58).len(), 2);
    assert_eq!(newest(&store, "memory.free_bytes", 59).len(), 1);
    store.sweep(630_000);
    assert_eq!(store.count(), 1);
    store.sweep(710_000);
    assert_eq!((store.count(), store.shapes()), (0, (0, 0)));
}

#[test]
fn some_that_are_asked_for_in_between_make_the_next_one_not_late() {
    let mut store = SeriesStore::new(BOUNDS);
    for at in [0, 60, 120, 121, 122, 123, 124] {
        store.take(&metrics("a", at, snapshot(at, &[])), at * 1000);
    }
    assert_eq!(newest(&store, "memory.free_bytes", 180).len(), 1);
    // A shorter interval is believed after a while.
    for at in 0..60 {
        store.take(
            &metrics("a", 126 + 2 * at, snapshot(at, &[])),
            (126 + 2 * at) * 1000,
        );
    }
    assert_eq!(newest(&store, "memory.free_bytes", 258).len(), 1);
    assert_eq!(newest(&store, "memory.free_bytes", 259).len(), 0);
}
