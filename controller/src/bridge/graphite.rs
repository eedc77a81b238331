//! Graphite's carbon: `path value time` lines (port 2003), or pickled lists of the same (port 2004).
//!
//! Carbon answers nothing; what it has already it takes again without harm, since path and time say where it goes.

use std::fmt::Write as _;

use super::plan::Counters;
use super::points::{Point, Value};
use super::template::{NAME_BYTES_MAX, Style};
use super::{Frame, Frames, Packing, Protocol, Spec, Wire, pack, pickle};

/// The row.
pub static SPEC: Spec = Spec {
    kind: "graphite",
    protocols: &[
        Protocol {
            name: "plain",
            port: 2003,
            wire: Wire::Stream,
        },
        Protocol {
            name: "pickle",
            port: 2004,
            wire: Wire::Stream,
        },
    ],
    template: "{host}.{collector}.{table}.{labels}.{field}",
    style: Style::Path,
    counters: Counters::Total,
    takes_words: false,
    discovers: false,
    encode,
};

/// Bytes written at once.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Figures of one pickle: carbon refuses those over 1 MiB, and these have half of it at the most.
const PICKLE_FIGURES_MAX: usize = 400;

fn encode(points: &[Point], packing: &Packing) -> Frames {
    let is_good = |point: &&Point| {
        !matches!(point.value, Value::Word(_)) && point.name.len() <= NAME_BYTES_MAX
    };
    let good: Vec<&Point> = points.iter().filter(is_good).collect();
    let mut frames = if packing.protocol == "pickle" {
        Frames {
            frames: good.chunks(PICKLE_FIGURES_MAX).map(pickled).collect(),
            left_out: 0,
        }
    } else {
        pack(good.iter().map(|point| line(point)), WRITE_BYTES_MAX, b"")
    };
    frames.left_out += u64::try_from(points.len() - good.len()).unwrap_or(u64::MAX);
    frames
}

fn line(point: &Point) -> Vec<u8> {
    let mut line = String::with_capacity(point.name.len() + 40);
    // Strings can be written to.
    let _ = writeln!(
        line,
        "{} {} {}",
        point.name,
        point.value,
        point.at_ms / 1000
    );
    line.into_bytes()
}

fn pickled(points: &[&Point]) -> Frame {
    let body = pickle::list(points);
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    Frame {
        bytes: [length.to_be_bytes().as_slice(), &body].concat(),
        figures: u64::try_from(points.len()).unwrap_or(u64::MAX),
        about: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::points::Shape;

    #[test]
    fn lines_have_path_value_and_seconds() {
        let point = |name: &str, value| Point {
            host: "lb1".to_owned(),
            name: name.to_owned(),
            shape: Shape::Gauge,
            value,
            at_ms: 1_700_000_000_999,
        };
        let points = [
            point("a.b", Value::Whole(7)),
            point("c", Value::Float(-0.25)),
            point("d", Value::Word("up".to_owned())),
            point(&"n".repeat(2000), Value::Whole(7)),
        ];
        let packing = Packing {
            protocol: "plain",
            mtu: 0,
        };
        let frames = encode(&points, &packing);
        let frame = Frame {
            bytes: b"a.b 7 1700000000\nc -0.25 1700000000\n".to_vec(),
            figures: 2,
            about: Vec::new(),
        };
        assert_eq!((frames.frames, frames.left_out), (vec![frame], 2));
    }
}
