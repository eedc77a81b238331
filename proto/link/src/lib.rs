//! Everything about one connection to RabbitMQ; the only crate that names its client library.
//!
//! [`Session`] is one connection's life: opened with a time limit, used, ended with a reason. Whatever goes wrong on
//! the connection, a channel or a consumer ends the whole session. [`Link`] keeps one session after the other, for
//! ever, on the same path at the first start as after a failure. It must not know what the messages say.
//!
//! The library's automatic recovery is off: it gives up after sixteen tries, and was seen connected but deaf.

mod ahead;
pub mod backoff;
mod channels;
mod config;
mod connect;
mod deliver;
mod error;
mod get;
mod life;
mod message;
mod owner;
mod publish;
mod queue;
mod session;
mod span;
pub mod stamp;
mod stream;
pub mod supervise;
mod tls;
mod url;

pub use ahead::Underway;
pub use backoff::Backoff;
pub use config::{BrokerConfig, ConfigError, RawBroker};
pub use deliver::{Acker, Deliveries};
pub use error::{Ended, OpenError, PublishError, SetupError};
pub use message::{Death, Incoming, Outgoing, Receipt};
pub use owner::{AgentPlan, Link, LinkStatus};
pub use publish::Handed;
pub use queue::{Acks, Binding, Consume, QueueDecl, QueueKind, StreamOffset};
pub use session::Session;
pub use span::Span;
pub use stream::ends_before;
pub use supervise::{SuperviseError, Supervisor};
pub use url::{BrokerUrl, UrlError};
