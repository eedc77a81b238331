//! Bridges: figures of the hosts' snapshots, in the words of other programs that keep figures.
//!
//! A bridge takes [`Metrics`](muster_proto::metric::Metrics) apart into declared figures ([`points`]), names them by a
//! template ([`template`], [`plan`]), and packs them into [`Frame`]s, which is all that differs between sinks: one file
//! and one row in [`BRIDGES`] each. Values only: sockets, retries and queues are in `serve/bridges`.

pub mod graphite;
mod pickle;
pub mod plan;
pub mod points;
pub mod statsd;
pub mod template;
pub mod zabbix;

use self::plan::Counters;
use self::points::Point;
use self::template::Style;

/// Every kind of sink.
pub static BRIDGES: &[&Spec] = &[&statsd::SPEC, &graphite::SPEC, &zabbix::SPEC];

/// A kind of sink: its row.
#[derive(Debug)]
pub struct Spec {
    /// Its name in the config.
    pub kind: &'static str,
    /// The ways to speak to it; the first is the default.
    pub protocols: &'static [Protocol],
    /// How its figures are called where the config does not say.
    pub template: &'static str,
    /// What is allowed in its names.
    pub style: Style,
    /// What becomes of counters where the config does not say.
    pub counters: Counters,
    /// Whether it takes states that are words.
    pub takes_words: bool,
    /// Whether it is told which objects there are.
    pub discovers: bool,
    /// Packs figures.
    pub encode: fn(&[Point], &Packing) -> Frames,
}

/// A way to speak to a sink.
#[derive(Debug)]
pub struct Protocol {
    /// Its name in the config.
    pub name: &'static str,
    /// The port where the address has none.
    pub port: u16,
    /// What carries it.
    pub wire: Wire,
}

/// What carries frames, and when they have been taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Datagrams: taken when they are sent and nobody says that there is no listener.
    Datagrams,
    /// One connection, one frame after the other, without an answer: taken when written and the peer is still there.
    Stream,
    /// A connection for each frame: taken when it is answered.
    Asked,
}

/// How frames are to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packing {
    /// Name of the protocol.
    pub protocol: &'static str,
    /// Most bytes of a datagram.
    pub mtu: usize,
}

/// Packed figures.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Frames {
    /// In the order in which they are sent.
    pub frames: Vec<Frame>,
    /// Figures that this sink can't be told: too long a name, a value that it has no words for.
    pub left_out: u64,
}

/// What is sent at once.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// How many figures are in them.
    pub figures: u64,
    /// Which, for a sink that may refuse some.
    pub about: Vec<String>,
}

/// The kind of sink with this name.
#[must_use]
pub fn find(kind: &str) -> Option<&'static Spec> {
    BRIDGES.iter().copied().find(|spec| spec.kind == kind)
}

/// Puts pieces, each of so many bytes and figures, together into frames of at most `bytes_max`; what is longer by itself
/// is left out. `between` stands between two pieces.
fn pack(pieces: impl Iterator<Item = Vec<u8>>, bytes_max: usize, between: &[u8]) -> Frames {
    let mut packed = Frames::default();
    let mut frame = Frame::default();
    for piece in pieces {
        if piece.len() > bytes_max {
            packed.left_out += 1;
            continue;
        }
        if frame.figures > 0 && frame.bytes.len() + between.len() + piece.len() > bytes_max {
            packed.frames.push(std::mem::take(&mut frame));
        }
        if frame.figures > 0 {
            frame.bytes.extend_from_slice(between);
        }
        frame.bytes.extend_from_slice(&piece);
        frame.figures += 1;
    }
    if frame.figures > 0 {
        packed.frames.push(frame);
    }
    packed
}
