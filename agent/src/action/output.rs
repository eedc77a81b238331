//! A running job's output on its way out: numbered pieces within a budget. It must not know where they go.

use std::sync::{Arc, Mutex, PoisonError};

use muster_proto::job::OutputStream;
use tokio::sync::mpsc;

/// Most bytes of output that one job sends while it runs; the result still holds head and tail of everything.
const OUTPUT_BYTES_MAX: u64 = 1024 * 1024;

/// Largest piece: a quarter of what a message may hold.
const PIECE_BYTES_MAX: usize = 16 * 1024;

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputPiece {
    /// Number within the job, from 0.
    pub seq: u64,
    /// Where it was written.
    pub stream: OutputStream,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Bytes that were left out before this piece.
    pub dropped_bytes: u64,
}

/// Takes a job's output. What does not fit, in the budget or in the queue behind it, is counted and left out: output
/// never holds a job up.
#[derive(Debug, Clone)]
pub struct OutputSink(Arc<Mutex<Sink>>);

#[derive(Debug)]
struct Sink {
    pieces: Option<mpsc::Sender<OutputPiece>>,
    seq: u64,
    sent_bytes: u64,
    dropped_bytes: u64,
}

impl OutputSink {
    /// A sink into `pieces`.
    #[must_use]
    pub fn new(pieces: mpsc::Sender<OutputPiece>) -> Self {
        Self::made(Some(pieces))
    }

    /// A sink that keeps nothing.
    #[must_use]
    pub fn nowhere() -> Self {
        Self::made(None)
    }

    fn made(pieces: Option<mpsc::Sender<OutputPiece>>) -> Self {
        Self(Arc::new(Mutex::new(Sink {
            pieces,
            seq: 0,
            sent_bytes: 0,
            dropped_bytes: 0,
        })))
    }

    /// Takes output over.
    pub fn write(&self, stream: OutputStream, bytes: &[u8]) {
        let mut sink = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bytes
            .chunks(PIECE_BYTES_MAX)
            .for_each(|piece| sink.send(stream, piece));
    }

    /// Says how much was left out at the end, where anything was.
    pub fn close(&self, stream: OutputStream) {
        let mut sink = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sink.dropped_bytes > 0 {
            sink.send_piece(stream, Vec::new());
        }
    }
}

impl Sink {
    fn send(&mut self, stream: OutputStream, bytes: &[u8]) {
        let bytes_count = bytes.len() as u64;
        if self.sent_bytes + bytes_count > OUTPUT_BYTES_MAX
            || !self.send_piece(stream, bytes.to_vec())
        {
            self.dropped_bytes += bytes_count;
        } else {
            self.sent_bytes += bytes_count;
        }
    }

    fn send_piece(&mut self, stream: OutputStream, bytes: Vec<u8>) -> bool {
        let Some(pieces) = &self.pieces else {
            return true;
        };
        let piece = OutputPiece {
            seq: self.seq,
            stream,
            bytes,
            dropped_bytes: self.dropped_bytes,
        };
        let sent = pieces.try_send(piece).is_ok();
        if sent {
            self.seq += 1;
            self.dropped_bytes = 0;
        }
        sent
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_numbered_and_what_is_left_out_is_counted() {
        let (sender, mut pieces) = mpsc::channel(1000);
        let sink = OutputSink::new(sender);
        sink.write(OutputStream::Stdout, &vec![b'x'; 20 * 1024]);
        assert_eq!(pieces.try_recv().unwrap().bytes.len(), PIECE_BYTES_MAX);
        let second = pieces.try_recv().unwrap();
        assert_eq!(
            (second.seq, second.bytes.len(), second.dropped_bytes),
            (1, 4096, 0)
        );
        sink.write(OutputStream::Stderr, &vec![b'x'; 2 * 1024 * 1024]);
        sink.close(OutputStream::Stderr);
        let mut sent = 20 * 1024_u64;
        let mut dropped = 0;
        let mut seq = 1;
        while let Ok(piece) = pieces.try_recv() {
            assert_eq!(piece.seq, seq + 1);
            seq = piece.seq;
            sent += piece.bytes.len() as u64;
            dropped += piece.dropped_bytes;
        }
        assert!(sent <= OUTPUT_BYTES_MAX);
        assert_eq!(sent + dropped, (20 + 2048) * 1024);
    }

    #[test]
    fn a_full_queue_never_blocks() {
        let (sender, mut pieces) = mpsc::channel(1);
        let sink = OutputSink::new(sender);
        for _ in 0..3 {
            sink.write(OutputStream::Stdout, b"abc");
        }
        assert_eq!(pieces.try_recv().unwrap().dropped_bytes, 0);
        sink.write(OutputStream::Stdout, b"d");
        let last = pieces.try_recv().unwrap();
        assert_eq!((last.seq, last.dropped_bytes), (1, 6));
    }
}
