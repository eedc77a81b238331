#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::json;

use super::*;
use crate::bridge::template::{Style, Template};

fn plan(name: &str, counters: Counters) -> Plan {
    let rule = Rule {
        series: "*".to_owned(),
        name: Some(Template::parse(name, Style::Path).unwrap()),
        counters,
        timing: false,
    };
    Plan::new(vec![rule], &[]).unwrap()
}

/// A snapshot with one virtual server's connections, and their rate.
fn lvs(seq: u64, total: u64, per_s: Option<f64>) -> Metrics {
    let traffic = json!({"connections": {"total": total, "per_s": per_s}});
    Metrics {
        host: "lb1".parse().unwrap(),
        collector: "lvs".to_owned(),
        at_ms: 1_000_000 + seq * 10_000,
        seq,
        snapshot: json!({"interval_ms": 10_000, "virtual_servers": [{"name": "tcp/192.0.2.1:80", "traffic": traffic}]}),
    }
}

fn figures(points: &[Point]) -> Vec<(&str, Shape, String)> {
    points
        .iter()
        .map(|point| (point.name.as_str(), point.shape, point.value.to_string()))
        .collect()
}

#[test]
fn counters_are_told_by_what_was_added_and_never_jump() {
    let plan = plan("{vip}.{field}", Counters::Increment);
    let mut memory = Memory::default();
    let mut next = |metrics: Metrics| {
        let points = points(&plan, false, &mut memory, &metrics);
        let figures = figures(&points);
        figures.first().map(|(name, shape, value)| {
            assert_eq!((*name, *shape), ("192_0_2_1_80.connections", Shape::Count));
            value.clone()
        })
    };
    let some = |value: &str| Some(value.to_owned());
    // The first that this program sees of an agent that has been running: by its rate.
    assert_eq!(next(lvs(5, 1_000_007, Some(0.7))), some("7"));
    // One after the other: exact, whatever was rounded.
    assert_eq!(
        next(lvs(6, 91_000_007, Some(9_000_000.1))),
        some("90000000")
    );
    assert_eq!(next(lvs(7, 91_000_007, Some(0.0))), some("0"));
    // Another bridge had the ones between.
    assert_eq!(next(lvs(10, 91_000_050, Some(1.2))), some("12"));
    // The counters began anew, and went on.
    assert_eq!(next(lvs(11, 3, None)), None);
    assert_eq!(next(lvs(12, 5, Some(0.2))), some("2"));
    // The same, and the new total is above the old one.
    assert_eq!(next(lvs(13, 500, None)), None);
    // The agent was started anew.
    assert_eq!(next(lvs(0, 600, None)), None);
    assert_eq!(next(lvs(1, 601, Some(0.1))), some("1"));
    // The same snapshot again.
    assert_eq!(next(lvs(1, 601, Some(0.1))), some("1"));
}

#[test]
fn a_counter_without_a_rate_is_told_once_two_in_a_row_were_seen() {
    let plan = plan("{field}", Counters::Increment);
    let mut memory = Memory::default();
    let mut next = |seq, resets: u64| {
        let metrics = Metrics {
            snapshot: json!({"virtual_servers": [{"name": "fwmark/7", "resets": resets}]}),
            ..lvs(seq, 0, None)
        };
        let points = points(&plan, false, &mut memory, &metrics);
        points.first().map(|point| point.value.to_string())
    };
    assert_eq!(next(1, 5), None);
    assert_eq!(next(2, 7).as_deref(), Some("2"));
    assert_eq!(
        next(4, 9),
        None,
        "one was missed, and nobody knows what was in it"
    );
    assert_eq!(next(5, 1), None, "it began anew");
}

#[test]
fn totals_and_rates() {
    let mut memory = Memory::default();
    let total = points(
        &plan("{vip}", Counters::Total),
        false,
        &mut memory,
        &lvs(1, u64::MAX, None),
    );
    assert_eq!(
        figures(&total),
        [("192_0_2_1_80", Shape::Gauge, u64::MAX.to_string())]
    );
    let rates = plan("{vip}", Counters::Rate);
    let rate = points(&rates, false, &mut memory, &lvs(1, 7, Some(0.125)));
    assert_eq!(
        figures(&rate),
        [("192_0_2_1_80", Shape::Gauge, "0.125".to_owned())]
    );
    assert!(points(&rates, false, &mut memory, &lvs(2, 7, None)).is_empty());
}

#[test]
fn what_gets_one_name_becomes_one_figure_as_its_field_says() {
    let server = |name: &str, connections: u64, timeout: u64| json!({"name": name, "active_connections": connections, "persistence_timeout_s": timeout});
    let servers = [
        server("tcp/192.0.2.1:53", 3, 300),
        server("udp/192.0.2.1:53", 4, 60),
    ];
    let metrics = Metrics {
        snapshot: json!({"virtual_servers": servers}),
        ..lvs(1, 0, None)
    };
    let mut memory = Memory::default();
    let plan = plan("{vip}.{field}", Counters::Total);
    let all = points(&plan, false, &mut memory, &metrics);
    assert_eq!(
        figures(&all),
        [
            (
                "192_0_2_1_53.persistence_timeout_s",
                Shape::Gauge,
                "60".to_owned()
            ),
            (
                "192_0_2_1_53.active_connections",
                Shape::Gauge,
                "7".to_owned()
            ),
        ]
    );
    let mean =
        [20.0, 40.0, 90.0]
            .into_iter()
            .enumerate()
            .fold(Value::Float(0.0), |so_far, (at, next)| {
                fold(
                    Fold::Mean,
                    &so_far,
                    Value::Float(next),
                    u64::try_from(at).unwrap() + 1,
                )
            });
    assert_eq!(mean, Value::Float(50.0));
}

#[test]
fn words_go_to_those_that_take_them() {
    let metrics = Metrics {
        host: "lb1".parse().unwrap(),
        collector: "services".to_owned(),
        at_ms: 1,
        seq: 1,
        snapshot: json!({"units": [{"name": "nginx.service", "active_state": "active"}]}),
    };
    let plan = plan("{unit}.{field}", Counters::Total);
    assert!(points(&plan, false, &mut Memory::default(), &metrics).is_empty());
    let told = points(&plan, true, &mut Memory::default(), &metrics);
    assert_eq!(
        figures(&told),
        [(
            "nginx_service.active_state",
            Shape::Gauge,
            "active".to_owned()
        )]
    );
}
