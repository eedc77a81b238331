//! statsd: `name:value|type`, many in one datagram of at most the network's MTU (statsd's `docs/metric_types.md`).
//!
//! Gauges and states are gauges, counters are increments (`c`), and what a rule says is a timing (`ms`). A sign before a
//! gauge's value would change it by so much, so a negative gauge is first set to 0, in the same datagram.

use std::fmt::Write as _;

use super::plan::Counters;
use super::points::{Point, Shape, Value};
use super::template::{NAME_BYTES_MAX, Style};
use super::{Frames, Packing, Protocol, Spec, Wire, pack};

/// The row.
pub static SPEC: Spec = Spec {
    kind: "statsd",
    protocols: &[
        Protocol {
            name: "udp",
            port: 8125,
            wire: Wire::Datagrams,
        },
        Protocol {
            name: "tcp",
            port: 8125,
            wire: Wire::Stream,
        },
    ],
    template: "{host}.{collector}.{table}.{labels}.{field}",
    style: Style::Path,
    counters: Counters::Increment,
    takes_words: false,
    discovers: false,
    encode,
};

/// Bytes written to a connection at once.
const WRITE_BYTES_MAX: usize = 64 << 10;

fn encode(points: &[Point], packing: &Packing) -> Frames {
    let tcp = packing.protocol == "tcp";
    let lines = points.iter().map(|point| {
        let mut line = line(point).unwrap_or_default();
        if tcp {
            line.push('\n');
        }
        line.into_bytes()
    });
    let (bytes_max, between): (usize, &[u8]) = if tcp {
        (WRITE_BYTES_MAX, b"")
    } else {
        (packing.mtu, b"\n")
    };
    let (good, bad): (Vec<_>, Vec<_>) = lines.partition(|line| line.len() > 1);
    let mut frames = pack(good.into_iter(), bytes_max, between);
    frames.left_out += u64::try_from(bad.len()).unwrap_or(u64::MAX);
    frames
}

/// The line or lines of a figure; none for a word.
fn line(point: &Point) -> Option<String> {
    let (name, value) = (&point.name, &point.value);
    if name.len() > NAME_BYTES_MAX || matches!(value, Value::Word(_)) {
        return None;
    }
    let mut line = String::with_capacity(name.len() + 24);
    let written = match point.shape {
        Shape::Count => write!(line, "{name}:{value}|c"),
        Shape::Timing => write!(line, "{name}:{value}|ms"),
        Shape::Gauge if value.is_negative() => write!(line, "{name}:0|g\n{name}:{value}|g"),
        Shape::Gauge => write!(line, "{name}:{value}|g"),
    };
    written.ok().map(|()| line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(name: &str, shape: Shape, value: Value) -> Point {
        Point {
            host: "lb1".to_owned(),
            name: name.to_owned(),
            shape,
            value,
            at_ms: 0,
        }
    }

    fn packed(points: &[Point], protocol: &'static str, mtu: usize) -> (Vec<String>, u64) {
        let frames = encode(points, &Packing { protocol, mtu });
        let texts = frames
            .frames
            .iter()
            .map(|frame| String::from_utf8_lossy(&frame.bytes).into_owned());
        (texts.collect(), frames.left_out)
    }

    #[test]
    fn lines_are_written_by_kind() {
        let points = [
            point("a", Shape::Gauge, Value::Whole(u64::MAX)),
            point("b", Shape::Gauge, Value::Float(-1.5)),
            point("c", Shape::Count, Value::Whole(0)),
            point("d", Shape::Timing, Value::Float(1e21)),
            point("e", Shape::Gauge, Value::Word("up".to_owned())),
            point("f", Shape::Gauge, Value::Float(-0.0)),
        ];
        let lines =
            "a:18446744073709551615|g\nb:0|g\nb:-1.5|g\nc:0|c\nd:1000000000000000000000|ms\nf:0|g";
        assert_eq!(packed(&points, "udp", 1432), (vec![lines.to_owned()], 1));
        assert_eq!(
            packed(&points, "tcp", 1432),
            (vec![format!("{lines}\n")], 1)
        );
    }

    #[test]
    fn datagrams_are_filled_and_never_longer_than_they_may_be() {
        let points: Vec<Point> = (0..100)
            .map(|number| point(&format!("name.{number}"), Shape::Gauge, Value::Float(-1.0)))
            .collect();
        for mtu in [40, 64, 512] {
            let (datagrams, left_out) = packed(&points, "udp", mtu);
            assert_eq!(left_out, 0);
            let lines: Vec<&str> = datagrams.iter().flat_map(|text| text.split('\n')).collect();
            assert_eq!(lines.len(), 200);
            for (at, text) in datagrams.iter().enumerate() {
                assert!(text.len() <= mtu && !text.ends_with('\n'));
                // Zero and value of one gauge are never parted, and the next would not have fitted in.
                assert!(text.split('\n').count() % 2 == 0);
                if let Some(next) = datagrams.get(at + 1) {
                    let first: Vec<&str> = next.split('\n').take(2).collect();
                    assert!(text.len() + 1 + first.join("\n").len() > mtu);
                }
            }
        }
        assert_eq!(packed(&points, "udp", 10), (Vec::new(), 100));
    }
}
