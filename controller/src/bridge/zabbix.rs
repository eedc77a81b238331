//! Zabbix' trapper protocol, to a server or a proxy: values with host, item key and time, each answered with how many of
//! them there were items for ("Zabbix protocols" in its manual; sources: `src/libs/zbxcomms`, `src/libs/zbxdbcache`).
//!
//! "success" with `failed` above 0 is the usual answer where an item is missing: it is counted, never taken for a success.

pub mod discovery;
pub mod export;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::plan::Counters;
use super::points::Point;
use super::template::Style;
use super::{Frame, Frames, Packing, Protocol, Spec, Wire};

/// The row.
pub static SPEC: Spec = Spec {
    kind: "zabbix",
    protocols: &[Protocol {
        name: "trapper",
        port: 10051,
        wire: Wire::Asked,
    }],
    template: TEMPLATE,
    style: Style::Key,
    counters: Counters::Total,
    takes_words: true,
    discovers: true,
    encode,
};

/// The keys that the exported template has.
const TEMPLATE: &str = "muster.{collector}.{series}[{labels}]";

/// Values of one request at the most, as Zabbix' own sender has it.
const VALUES_MAX: usize = 250;

/// Characters of an item's key at the most.
const KEY_CHARS_MAX: usize = 2048;

/// Bytes of an answer at the most.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

const MAGIC: &[u8; 4] = b"ZBXD";

/// Flags of the header: of the protocol itself, a compressed body, lengths of eight bytes.
const FLAGS: (u8, u8, u8) = (1, 2, 4);

#[derive(Serialize)]
struct Request<'a> {
    request: &'static str,
    data: Vec<Item<'a>>,
}

#[derive(Serialize)]
struct Item<'a> {
    host: &'a str,
    key: &'a str,
    value: String,
    clock: u64,
    ns: u64,
}

/// One request for each host: an answer tells numbers, and so at least whose they are.
fn encode(points: &[Point], _: &Packing) -> Frames {
    let mut frames = Frames::default();
    let mut hosts: BTreeMap<&str, Vec<&Point>> = BTreeMap::new();
    for point in points {
        if point.name.chars().count() > KEY_CHARS_MAX {
            frames.left_out += 1;
        } else {
            hosts.entry(&point.host).or_default().push(point);
        }
    }
    for mut points in hosts.into_values() {
        // What is not in order costs the server its trends.
        points.sort_by_key(|point| point.at_ms);
        frames
            .frames
            .extend(points.chunks(VALUES_MAX).filter_map(frame));
    }
    frames
}

fn frame(points: &[&Point]) -> Option<Frame> {
    let item = |point: &&'_ Point| (point.at_ms / 1000, point.at_ms % 1000 * 1_000_000);
    let data = points.iter().map(|point| {
        let (clock, ns) = item(point);
        Item {
            host: &point.host,
            key: &point.name,
            value: point.value.to_string(),
            clock,
            ns,
        }
    });
    let request = Request {
        request: "sender data",
        data: data.collect(),
    };
    let body = serde_json::to_vec(&request).ok()?;
    let length = u32::try_from(body.len()).ok()?;
    let mut bytes = Vec::with_capacity(body.len() + 13);
    bytes.extend_from_slice(MAGIC);
    bytes.push(FLAGS.0);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&0_u32.to_le_bytes());
    bytes.extend_from_slice(&body);
    let about = points
        .iter()
        .map(|point| format!("{}:{}", point.host, point.name));
    Some(Frame {
        bytes,
        figures: u64::try_from(points.len()).unwrap_or(u64::MAX),
        about: about.collect(),
    })
}

/// How many bytes of lengths follow the first five of an answer.
///
/// # Errors
/// When it is not Zabbix that answers, or it compresses, which it does not where the request was not.
pub fn lengths_of(start: [u8; 5]) -> Result<usize, String> {
    let [magic @ .., flags] = start;
    if magic != *MAGIC || flags & FLAGS.0 == 0 {
        return Err("the answer is not Zabbix'".to_owned());
    }
    if flags & FLAGS.1 != 0 {
        return Err("the answer is compressed".to_owned());
    }
    Ok(if flags & FLAGS.2 == 0 { 8 } else { 16 })
}

/// How many bytes of an answer follow its lengths: the first half says it, the other is of no use.
///
/// # Errors
/// When that is too much.
pub fn body_of(lengths: &[u8]) -> Result<usize, String> {
    let (half, _) = lengths.split_at(lengths.len() / 2);
    let bytes = half
        .iter()
        .rev()
        .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    let good = usize::try_from(bytes)
        .ok()
        .filter(|_| bytes <= ANSWER_BYTES_MAX);
    good.ok_or_else(|| format!("an answer of {bytes} bytes is too long"))
}

/// What became of a request's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// There was an item for.
    pub processed: u64,
    /// There was none, or not of this kind.
    pub failed: u64,
}

/// Reads an answer.
///
/// # Errors
/// When the whole request was refused, or the answer says nothing of what became of its values.
pub fn answer(body: &[u8]) -> Result<Answer, String> {
    #[derive(Deserialize)]
    struct Raw {
        #[serde(default)]
        response: String,
        #[serde(default)]
        info: String,
    }
    let raw: Raw =
        serde_json::from_slice(body).map_err(|error| format!("read the answer: {error}"))?;
    if raw.response != "success" {
        return Err(format!("refused: {} {}", raw.response, raw.info)
            .trim()
            .to_owned());
    }
    let figure = |name: &str| {
        let mut parts = raw.info.split(';');
        let part =
            parts.find_map(|part| part.trim().strip_prefix(name)?.trim().strip_prefix(':'))?;
        part.trim().parse().ok()
    };
    match (figure("processed"), figure("failed")) {
        (Some(processed), Some(failed)) => Ok(Answer { processed, failed }),
        _ => Err(format!(
            "the answer does not say what failed: {:?}",
            raw.info
        )),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::points::{Shape, Value};
    use super::*;

    fn point(host: &str, name: &str, at_ms: u64) -> Point {
        Point {
            host: host.to_owned(),
            name: name.to_owned(),
            shape: Shape::Gauge,
            value: Value::Float(0.000_001),
            at_ms,
        }
    }

    #[test]
    fn a_request_is_as_the_protocol_wants_it() {
        let points = [
            point("b", "k[\"x\"]", 1_700_000_000_123),
            point("a", "late", 9),
            point("a", "early", 8),
        ];
        let packing = Packing {
            protocol: "trapper",
            mtu: 0,
        };
        let frames = encode(&points, &packing).frames;
        let bodies: Vec<&str> = frames
            .iter()
            .map(|frame| {
                let (head, body) = frame.bytes.split_at(13);
                assert_eq!(head.first_chunk(), Some(b"ZBXD\x01"));
                let length = u32::from_le_bytes(head.get(5..9).unwrap().try_into().unwrap());
                assert_eq!(usize::try_from(length).unwrap(), body.len());
                std::str::from_utf8(body).unwrap()
            })
            .collect();
        assert_eq!(
            bodies,
            [
                r#"{"request":"sender data","data":[{"host":"a","key":"early","value":"0.000001","clock":0,"ns":8000000},{"host":"a","key":"late","value":"0.000001","clock":0,"ns":9000000}]}"#,
                r#"{"request":"sender data","data":[{"host":"b","key":"k[\"x\"]","value":"0.000001","clock":1700000000,"ns":123000000}]}"#,
            ]
        );
        let many: Vec<Point> = (0..600)
            .map(|at| point("a", &format!("k{at}"), 0))
            .collect();
        let sizes: Vec<u64> = encode(&many, &packing)
            .frames
            .iter()
            .map(|frame| frame.figures)
            .collect();
        assert_eq!(sizes, [250, 250, 100]);
        assert_eq!(
            encode(&[point("a", &"k".repeat(2049), 0)], &packing).left_out,
            1
        );
    }

    #[test]
    fn answers_are_read_whatever_they_say() {
        let good = |info: &str| format!("{{\"response\":\"success\",\"info\":\"{info}\"}}");
        for (body, processed, failed) in [
            (
                good("processed: 1; failed: 2; total: 3; seconds spent: 0.060753"),
                1,
                2,
            ),
            (good("Processed 1"), 0, 0),
            (good("failed:5;processed:0"), 0, 5),
            ("{\"response\":\"failed\",\"info\":\"no\"}".to_owned(), 0, 0),
            ("{}".to_owned(), 0, 0),
            ("".to_owned(), 0, 0),
        ] {
            match answer(body.as_bytes()) {
                Ok(found) => assert_eq!(found, Answer { processed, failed }, "{body}"),
                Err(_) => assert_eq!((processed, failed), (0, 0), "{body}"),
            }
        }
        assert_eq!(lengths_of(*b"ZBXD\x01"), Ok(8));
        assert_eq!(lengths_of(*b"ZBXD\x05"), Ok(16));
        assert!(lengths_of(*b"ZBXD\x03").is_err() && lengths_of(*b"HTTP/").is_err());
        assert_eq!(body_of(&[90, 0, 0, 0, 0, 0, 0, 0]), Ok(90));
        assert_eq!(
            body_of(&[1, 1, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9]),
            Ok(257)
        );
        assert!(body_of(&[0, 0, 0, 1, 0, 0, 0, 0]).is_err());
    }
}
