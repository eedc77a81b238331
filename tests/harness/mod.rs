//! What end-to-end tests stand on: real servers, real processes, and ways to break them.
//!
//! Everything started here ends with the value that stands for it, and with the test process, however that ends.
//! Nothing here knows what Muster does with a broker; [`fleet`] alone knows Muster's programs.

pub mod agents;
pub mod broker;
pub mod cores;
pub mod eventually;
pub mod fleet;
pub mod management;
pub mod node;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod sinks;
pub mod systemd;
pub mod uml;

pub use agents::{Agent, Fleet, FleetOptions};
pub use broker::Broker;
pub use cores::Cores;
pub use eventually::{eventually, eventually_within, want};
pub use fleet::{Muster, Output};
pub use node::NodeOptions;
pub use process::Process;
pub use proxy::{Direction, Flow, Proxy};
pub use systemd::Systemd;
pub use uml::Guest;
