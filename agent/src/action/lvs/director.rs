//! The table of virtual servers, as the actions need it: read, read one anew, set a weight. [`Kernel`] is the real one.

use std::path::PathBuf;

use super::plan::{Load, RealServer, VirtualServer};
use crate::ipvs::{Destination, DestinationKey, Entry, Ipvs, IpvsError, ServiceKey};

/// Where the table is.
pub(super) trait Director: Send + Sync {
    /// Opens it, for one job's work on a thread that may block.
    fn open(&self) -> Result<Box<dyn Table>, Fault>;
}

/// The table, opened. Every call blocks for a bounded time.
pub(super) trait Table {
    /// Every virtual server.
    fn all(&mut self) -> Result<Vec<VirtualServer>, Fault>;

    /// One virtual server as it is now; none where it is gone.
    fn one(&mut self, key: &ServiceKey) -> Result<Option<VirtualServer>, Fault>;

    /// Changes nothing of the real server but its weight.
    fn set_weight(
        &mut self,
        key: &ServiceKey,
        real: &DestinationKey,
        weight: u32,
    ) -> Result<(), Fault>;
}

/// Why something could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    /// The kernel balances nothing: it has no IPVS.
    Absent,
    /// The virtual or real server is not there any more.
    Gone,
    /// Anything else, in words.
    Other(String),
}

/// The table in the kernel.
pub(super) struct Kernel {
    pub(super) proc: PathBuf,
}

impl Director for Kernel {
    fn open(&self) -> Result<Box<dyn Table>, Fault> {
        Ok(Box::new(Ipvs::open_at(&self.proc)?))
    }
}

impl Table for Ipvs {
    fn all(&mut self) -> Result<Vec<VirtualServer>, Fault> {
        let table = self.table()?;
        if let Some(why) = table.skipped_why {
            tracing::warn!(
                skipped = table.skipped,
                why,
                "a part of the table of virtual servers could not be understood"
            );
        }
        let server = |entry: Entry| virtual_server(entry.service.key, entry.destinations);
        Ok(table.entries.into_iter().map(server).collect())
    }

    fn one(&mut self, key: &ServiceKey) -> Result<Option<VirtualServer>, Fault> {
        match self.destinations(key) {
            Ok(destinations) => Ok(Some(virtual_server(*key, destinations))),
            Err(IpvsError::NoService { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn set_weight(
        &mut self,
        key: &ServiceKey,
        real: &DestinationKey,
        weight: u32,
    ) -> Result<(), Fault> {
        Self::set_weight(self, key, real, weight)?;
        Ok(())
    }
}

fn virtual_server(key: ServiceKey, destinations: Vec<Destination>) -> VirtualServer {
    let real = |real: Destination| RealServer {
        key: real.key,
        weight: real.weight,
        load: Load {
            active: real.active_connections.into(),
            inactive: real.inactive_connections.into(),
            persistent: real.persistent_connections.into(),
        },
    };
    VirtualServer {
        key,
        reals: destinations.into_iter().map(real).collect(),
    }
}

impl From<IpvsError> for Fault {
    fn from(error: IpvsError) -> Self {
        match error {
            IpvsError::NoKernel { .. } => Self::Absent,
            IpvsError::NoService { .. } | IpvsError::NoDestination { .. } => Self::Gone,
            other => Self::Other(other.to_string()),
        }
    }
}
