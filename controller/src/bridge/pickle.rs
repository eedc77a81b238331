//! Pickles, protocol 2, as far as carbon reads them: a list of `(path, (time, value))`. Opcodes: Python's `pickletools`.

use super::points::{Point, Value};

/// A pickled list. Words are none of carbon's values; they must not be in it.
pub(super) fn list(points: &[&Point]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(points.len() * 100 + 8);
    bytes.extend_from_slice(&[0x80, 2, b']', b'(']); // PROTO 2, EMPTY_LIST, MARK
    for point in points {
        text(&mut bytes, &point.name);
        whole(&mut bytes, point.at_ms / 1000);
        match &point.value {
            Value::Whole(value) => whole(&mut bytes, *value),
            Value::Float(value) => {
                bytes.push(b'G'); // BINFLOAT
                bytes.extend_from_slice(&value.to_be_bytes());
            }
            Value::Word(word) => text(&mut bytes, word),
        }
        bytes.extend_from_slice(&[0x86, 0x86]); // TUPLE2 of time and value, TUPLE2 of path and that
    }
    bytes.extend_from_slice(b"e."); // APPENDS, STOP
    bytes
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(b'X'); // BINUNICODE
    bytes.extend_from_slice(&u32::try_from(text.len()).unwrap_or(0).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

fn whole(bytes: &mut Vec<u8>, value: u64) {
    if let Ok(small) = i32::try_from(value) {
        bytes.push(b'J'); // BININT
        bytes.extend_from_slice(&small.to_le_bytes());
        return;
    }
    // LONG1: two's complement, little-endian; the last byte keeps its top bit for the sign.
    bytes.extend_from_slice(&[0x8a, 9]);
    bytes.extend_from_slice(&value.to_le_bytes());
    bytes.push(0);
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::bridge::points::Shape;

    /// Python itself reads them, where there is one.
    #[test]
    fn python_reads_what_was_written() {
        let point = |name: &str, value, at_ms| Point {
            host: "lb1".to_owned(),
            name: name.to_owned(),
            shape: Shape::Gauge,
            value,
            at_ms,
        };
        let points = [
            point("a.b", Value::Whole(0), 1_700_000_000_000),
            point("c", Value::Whole(u64::MAX), 5_000_000_000_000),
            point("d", Value::Whole(2_147_483_648), 0),
            point("e", Value::Float(-0.125), 1000),
        ];
        let bytes = list(&points.iter().collect::<Vec<_>>());
        assert_eq!(bytes.first_chunk(), Some(&[0x80, 2, b']', b'(']));
        let mut command = Command::new("python3");
        command.args([
            "-c",
            "import pickle,sys; print(pickle.load(sys.stdin.buffer))",
        ]);
        let Ok(mut python) = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn() else {
            return; // the end-to-end cases have carbon read them
        };
        python.stdin.take().unwrap().write_all(&bytes).unwrap();
        let output = python.wait_with_output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout).trim(),
            "[('a.b', (1700000000, 0)), ('c', (5000000000, 18446744073709551615)), ('d', (0, 2147483648)), ('e', (1, -0.125))]"
        );
    }
}
