//! One netlink socket to the kernel's load balancer, blocking, with a bound on every wait. Sends questions and hands
//! out the items of the answers; does not know what is asked.

use std::io;
use std::time::Duration;

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_GENERIC;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};

use super::attributes::Malformed;
use super::error::IpvsError;
use super::exchange::{Answer, Answers, Ask, family, family_request, request};

/// Room for one datagram. The kernel fills up to 32 KiB as soon as it has seen that we take as much.
const DATAGRAM_BYTES: usize = 64 << 10;
/// The kernel answers out of its memory, within microseconds; one that does not in this time hangs.
const ANSWER_WAIT: Duration = Duration::from_secs(3);

/// The socket, the number of its last question, and two buffers that are used again and again.
pub(super) struct Channel {
    socket: Socket,
    family: u16,
    sequence: u32,
    out: Vec<u8>,
    inbox: Vec<u8>,
}

/// Why one try did not do.
pub(super) enum Failed {
    /// The table changed meanwhile: worth another try.
    Torn,
    Errno(i32),
    Error(IpvsError),
}

impl From<IpvsError> for Failed {
    fn from(error: IpvsError) -> Self {
        Self::Error(error)
    }
}

impl Channel {
    /// A socket, and the number of the kernel's family. The kernel must have it: see [`super::Ipvs::open_at`].
    pub(super) fn open() -> Result<Self, IpvsError> {
        let doing = "open";
        let failed = |source| IpvsError::Socket { doing, source };
        let socket = Socket::new(NETLINK_GENERIC).map_err(failed)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_WAIT))
            .map_err(|errno| failed(errno.into()))?;
        let mut channel = Self {
            socket,
            family: 0,
            sequence: 0,
            out: Vec::new(),
            inbox: Vec::with_capacity(DATAGRAM_BYTES),
        };
        channel.sequence += 1;
        family_request(&mut channel.out, channel.sequence);
        let mut found = None;
        let outcome = channel.exchange("find the family IPVS", Ask::One, |bytes| {
            found = Some(family(bytes)?);
            Ok(())
        });
        match outcome {
            Err(Failed::Errno(errno)) if is(errno, Errno::NOENT) => {
                let what = "no generic netlink family IPVS".to_owned();
                return Err(IpvsError::NoKernel { what });
            }
            outcome => settled("find the family IPVS", outcome)?,
        }
        channel.family = found.ok_or_else(|| IpvsError::Answer {
            doing,
            what: "no family".to_owned(),
        })?;
        Ok(channel)
    }

    /// Writes a question, to be sent by [`Channel::exchange`].
    pub(super) fn ask(&mut self, command: u8, ask: Ask, fill: impl FnOnce(&mut Vec<u8>)) {
        self.sequence = self.sequence.wrapping_add(1);
        request(
            &mut self.out,
            self.family,
            command,
            ask,
            self.sequence,
            fill,
        );
    }

    /// Sends what [`Channel::ask`] wrote and hands every item of the answer to `take`. A dump is read to its end even when
    /// it is of no use any more, so that the next question finds the socket empty.
    pub(super) fn exchange(
        &mut self,
        doing: &'static str,
        ask: Ask,
        mut take: impl FnMut(&[u8]) -> Result<(), Malformed>,
    ) -> Result<(), Failed> {
        self.send(doing)?;
        let mut torn_at_all = false;
        let mut bad: Option<Malformed> = None;
        loop {
            self.receive(doing)?;
            for answer in Answers::of(&self.inbox, self.sequence) {
                match answer.map_err(|malformed| answer_error(doing, malformed))? {
                    Answer::Item { bytes, torn } => {
                        torn_at_all |= torn;
                        if let Err(malformed) = take(bytes) {
                            bad = bad.or(Some(malformed));
                        }
                        if ask == Ask::One {
                            return outcome(doing, false, bad);
                        }
                    }
                    Answer::End { errno: 0, torn } => {
                        return outcome(doing, torn_at_all || torn, bad);
                    }
                    Answer::Error { errno: 0 } => return outcome(doing, torn_at_all, bad),
                    Answer::End { errno, .. } | Answer::Error { errno } => {
                        return Err(Failed::Errno(errno));
                    }
                    Answer::Other => {}
                }
            }
        }
    }

    fn send(&self, doing: &'static str) -> Result<(), IpvsError> {
        loop {
            match self.socket.send(&self.out, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(IpvsError::Socket { doing, source }),
            }
        }
    }

    /// The next datagram, into the inbox.
    fn receive(&mut self, doing: &'static str) -> Result<(), IpvsError> {
        loop {
            self.inbox.clear();
            match self.socket.recv(&mut self.inbox, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(IpvsError::Deadline {
                        doing,
                        limit: ANSWER_WAIT,
                    });
                }
                Err(source) => return Err(IpvsError::Socket { doing, source }),
            }
        }
    }
}

fn outcome(doing: &'static str, torn: bool, bad: Option<Malformed>) -> Result<(), Failed> {
    match bad {
        Some(malformed) => Err(answer_error(doing, malformed).into()),
        None if torn => Err(Failed::Torn),
        None => Ok(()),
    }
}

fn answer_error(doing: &'static str, malformed: Malformed) -> IpvsError {
    IpvsError::Answer {
        doing,
        what: malformed.to_string(),
    }
}

/// What a try came to, for whoever does not try again.
pub(super) fn settled<T>(doing: &'static str, outcome: Result<T, Failed>) -> Result<T, IpvsError> {
    outcome.map_err(|failed| match failed {
        Failed::Error(error) => error,
        Failed::Torn => IpvsError::Interrupted { doing, tries: 1 },
        Failed::Errno(errno) if is(errno, Errno::PERM) || is(errno, Errno::ACCESS) => {
            IpvsError::NoRights { doing }
        }
        Failed::Errno(errno) => IpvsError::Refused {
            doing,
            source: io::Error::from_raw_os_error(errno),
        },
    })
}

pub(super) fn is(errno: i32, known: Errno) -> bool {
    errno == known.raw_os_error()
}
