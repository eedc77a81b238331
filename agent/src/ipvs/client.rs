//! Questions to the kernel and changes of its table. The thin side: what bytes mean is decided in the codec.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::attributes::Malformed;
use super::error::IpvsError;
use super::exchange::Ask;
use super::name::{DestinationKey, Family, ServiceKey};
use super::socket::{Channel, Failed, is, settled};
use super::types::{Daemon, Destination, Info, Service, Timeouts};
use super::{decode, encode, uapi};

/// Time for a whole dump, tries included: a hundred thousand real servers take about a second.
const DUMP_WAIT: Duration = Duration::from_secs(20);
/// Tries before a table that does not hold still is given up.
const TRIES: u32 = 5;

/// A virtual server with its real servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The virtual server.
    pub service: Service,
    /// Its real servers, in the kernel's order.
    pub destinations: Vec<Destination>,
}

/// The whole table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Virtual servers, in the kernel's order.
    pub entries: Vec<Entry>,
    /// How many things the kernel told of that could not be understood and are missing here.
    pub skipped: u32,
    /// What was wrong with the first of them.
    pub skipped_why: Option<String>,
}

/// A connection to the kernel's load balancer. One question at a time; whoever wants more opens more.
pub struct Ipvs {
    channel: Channel,
}

/// What was skipped in a dump, and why.
#[derive(Default)]
struct Skipped {
    count: u32,
    why: Option<Malformed>,
}

impl Ipvs {
    /// Opens a socket and finds the kernel's family. Asking a kernel for a family that it does not have makes it load
    /// the module, which is not for us to decide: where `/proc/net/ip_vs` is missing, nothing is asked.
    ///
    /// No single wait of what this gives is longer than three seconds, no dump longer than twenty.
    ///
    /// # Errors
    /// [`IpvsError::NoKernel`] where there is no ip_vs; [`IpvsError::Socket`] where there is no netlink.
    pub fn open() -> Result<Self, IpvsError> {
        Self::open_at(Path::new("/proc"))
    }

    /// The same, with `/proc` at another place.
    ///
    /// # Errors
    /// As [`Ipvs::open`].
    pub fn open_at(proc: &Path) -> Result<Self, IpvsError> {
        let sign = proc.join("net/ip_vs");
        if let Err(error) = std::fs::metadata(&sign) {
            let what = format!("{}: {error}", sign.display());
            return Err(IpvsError::NoKernel { what });
        }
        Ok(Self {
            channel: Channel::open()?,
        })
    }

    /// Every virtual server, in the kernel's order.
    ///
    /// # Errors
    /// [`IpvsError`].
    pub fn services(&mut self) -> Result<Vec<Service>, IpvsError> {
        let until = Instant::now() + DUMP_WAIT;
        Ok(self.services_until(until)?.0)
    }

    /// The real servers of one virtual server, in the kernel's order.
    ///
    /// # Errors
    /// [`IpvsError::NoService`] where there is no such virtual server, and other [`IpvsError`]s.
    pub fn destinations(&mut self, service: &ServiceKey) -> Result<Vec<Destination>, IpvsError> {
        let until = Instant::now() + DUMP_WAIT;
        let mut skipped = Skipped::default();
        let destinations = self.destinations_until(service, until, &mut skipped)?;
        // The kernel dumps nothing, without an error, for a virtual server that is not there.
        if destinations.is_empty() && self.service(service)?.is_none() {
            return Err(IpvsError::NoService { service: *service });
        }
        Ok(destinations)
    }

    /// One virtual server; none where it is not there.
    ///
    /// # Errors
    /// [`IpvsError`].
    pub fn service(&mut self, key: &ServiceKey) -> Result<Option<Service>, IpvsError> {
        const DOING: &str = "read a virtual server";
        self.channel.ask(uapi::CMD_GET_SERVICE, Ask::One, |out| {
            encode::service_key(out, key);
        });
        let mut found = None;
        let outcome = self.channel.exchange(DOING, Ask::One, |bytes| {
            found = Some(decode::service(decode::nested(bytes, uapi::ATTR_SERVICE)?)?);
            Ok(())
        });
        match outcome {
            Err(Failed::Errno(errno)) if is(errno, Errno::SRCH) || is(errno, Errno::NOENT) => {
                Ok(None)
            }
            outcome => settled(DOING, outcome).map(|()| found),
        }
    }

    /// Every virtual server with its real servers. The kernel has no moment at which all of it is read: what is added
    /// or removed meanwhile may be in or not, but nothing is in twice, and a virtual server that was removed meanwhile
    /// is not shown as one without real servers.
    ///
    /// # Errors
    /// [`IpvsError`].
    pub fn table(&mut self) -> Result<Table, IpvsError> {
        let until = Instant::now() + DUMP_WAIT;
        let (services, mut skipped) = self.services_until(until)?;
        let mut entries = Vec::with_capacity(services.len());
        for service in services {
            let destinations = self.destinations_until(&service.key, until, &mut skipped)?;
            if destinations.is_empty() && self.service(&service.key)?.is_none() {
                continue;
            }
            entries.push(Entry {
                service,
                destinations,
            });
        }
        Ok(Table {
            entries,
            skipped: skipped.count,
            skipped_why: skipped.why.map(|why| why.to_string()),
        })
    }

    /// Version and size of the connection table.
    ///
    /// # Errors
    /// [`IpvsError`].
    pub fn info(&mut self) -> Result<Info, IpvsError> {
        self.one("read the version", uapi::CMD_GET_INFO, decode::info)
    }

    /// Timeouts of connections.
    ///
    /// # Errors
    /// [`IpvsError`].
    pub fn timeouts(&mut self) -> Result<Timeouts, IpvsError> {
        self.one("read the timeouts", uapi::CMD_GET_CONFIG, decode::timeouts)
    }

    /// The sync daemons that run.
    ///
    /// # Errors
    /// [`IpvsError`].
    pub fn daemons(&mut self) -> Result<Vec<Daemon>, IpvsError> {
        const DOING: &str = "read the sync daemons";
        self.retried(DOING, Instant::now() + DUMP_WAIT, |ipvs| {
            ipvs.channel.ask(uapi::CMD_GET_DAEMON, Ask::Dump, |_| {});
            let mut daemons = Vec::new();
            ipvs.channel.exchange(DOING, Ask::Dump, |bytes| {
                daemons.push(decode::daemon(decode::nested(bytes, uapi::ATTR_DAEMON)?)?);
                Ok(())
            })?;
            Ok(daemons)
        })
    }

    /// Changes a real server that is there: weight, thresholds and forwarding become those of `destination`, which is
    /// best one that was just read and changed in one point. Its counters and connections stay.
    ///
    /// # Errors
    /// [`IpvsError::NoService`], [`IpvsError::NoDestination`], [`IpvsError::NoRights`], and other [`IpvsError`]s.
    pub fn set_destination(
        &mut self,
        service: &ServiceKey,
        destination: &Destination,
    ) -> Result<(), IpvsError> {
        const DOING: &str = "change a real server";
        self.channel.ask(uapi::CMD_SET_DEST, Ask::Done, |out| {
            encode::service_key(out, service);
            encode::destination(out, destination);
        });
        match self.channel.exchange(DOING, Ask::Done, |_| Ok(())) {
            Err(Failed::Errno(errno)) if is(errno, Errno::SRCH) => {
                Err(IpvsError::NoService { service: *service })
            }
            Err(Failed::Errno(errno)) if is(errno, Errno::NOENT) => Err(IpvsError::NoDestination {
                service: *service,
                destination: destination.key,
            }),
            outcome => settled(DOING, outcome),
        }
    }

    /// Gives a real server another weight and leaves everything else of it as it is now. Returns it as it was before.
    ///
    /// # Errors
    /// As [`Ipvs::set_destination`].
    pub fn set_weight(
        &mut self,
        service: &ServiceKey,
        destination: &DestinationKey,
        weight: u32,
    ) -> Result<Destination, IpvsError> {
        let before = self
            .destinations(service)?
            .into_iter()
            .find(|known| known.key == *destination)
            .ok_or(IpvsError::NoDestination {
                service: *service,
                destination: *destination,
            })?;
        let mut after = before.clone();
        after.weight = weight;
        self.set_destination(service, &after)?;
        Ok(before)
    }

    fn services_until(&mut self, until: Instant) -> Result<(Vec<Service>, Skipped), IpvsError> {
        const DOING: &str = "read the virtual servers";
        self.retried(DOING, until, |ipvs| {
            let mut skipped = Skipped::default();
            let mut services: Vec<Service> = Vec::new();
            ipvs.channel.ask(uapi::CMD_GET_SERVICE, Ask::Dump, |_| {});
            ipvs.channel.exchange(DOING, Ask::Dump, |bytes| {
                let read = decode::nested(bytes, uapi::ATTR_SERVICE).and_then(decode::service);
                services.extend(skipped.sort(read));
                Ok(())
            })?;
            let mut keys = HashSet::with_capacity(services.len());
            if services.iter().all(|service| keys.insert(service.key)) {
                Ok((services, skipped))
            } else {
                Err(Failed::Torn) // the kernel finds its place again by counting, and what it counts has moved
            }
        })
    }

    fn destinations_until(
        &mut self,
        service: &ServiceKey,
        until: Instant,
        skipped: &mut Skipped,
    ) -> Result<Vec<Destination>, IpvsError> {
        const DOING: &str = "read the real servers";
        let family: Family = service.family();
        let (destinations, more) = self.retried(DOING, until, |ipvs| {
            let mut skipped = Skipped::default();
            let mut destinations: Vec<Destination> = Vec::new();
            ipvs.channel.ask(uapi::CMD_GET_DEST, Ask::Dump, |out| {
                encode::service_key(out, service);
            });
            ipvs.channel.exchange(DOING, Ask::Dump, |bytes| {
                let inside = decode::nested(bytes, uapi::ATTR_DEST);
                let read = inside.and_then(|inside| decode::destination(inside, family));
                destinations.extend(skipped.sort(read));
                Ok(())
            })?;
            if are_different(&destinations) {
                Ok((destinations, skipped))
            } else {
                Err(Failed::Torn)
            }
        })?;
        skipped.count += more.count;
        skipped.why = skipped.why.or(more.why);
        Ok(destinations)
    }

    /// A question with one answer.
    fn one<T>(
        &mut self,
        doing: &'static str,
        command: u8,
        decode: fn(&[u8]) -> Result<T, Malformed>,
    ) -> Result<T, IpvsError> {
        self.channel.ask(command, Ask::One, |_| {});
        let mut found = None;
        let outcome = self.channel.exchange(doing, Ask::One, |bytes| {
            found = Some(decode(bytes)?);
            Ok(())
        });
        settled(doing, outcome)?;
        found.ok_or_else(|| IpvsError::Answer {
            doing,
            what: "no answer in the answer".to_owned(),
        })
    }

    /// Tries until the table holds still.
    fn retried<T>(
        &mut self,
        doing: &'static str,
        until: Instant,
        mut once: impl FnMut(&mut Self) -> Result<T, Failed>,
    ) -> Result<T, IpvsError> {
        for _ in 0..TRIES {
            if Instant::now() >= until {
                return Err(IpvsError::Deadline {
                    doing,
                    limit: DUMP_WAIT,
                });
            }
            match once(self) {
                Err(Failed::Torn) => {}
                outcome => return settled(doing, outcome),
            }
        }
        Err(IpvsError::Interrupted {
            doing,
            tries: TRIES,
        })
    }
}

impl Skipped {
    /// What was read; what was not is counted.
    fn sort<T>(&mut self, read: Result<T, Malformed>) -> Option<T> {
        read.inspect_err(|why| {
            self.count += 1;
            self.why = self.why.or(Some(*why));
        })
        .ok()
    }
}

/// Whether no two have the same key. Few are compared each with each, which allocates nothing.
fn are_different(destinations: &[Destination]) -> bool {
    const FEW: usize = 32;
    if destinations.len() > FEW {
        let mut keys = HashSet::with_capacity(destinations.len());
        return destinations.iter().all(|one| keys.insert(one.key));
    }
    destinations.iter().enumerate().all(|(at, one)| {
        let rest = destinations.get(at + 1..).unwrap_or_default();
        rest.iter().all(|other| other.key != one.key)
    })
}
