//! The agent, as a library: what the daemon `muster-agent` and the tests build on.

pub mod action;
pub mod app;
mod boot;
pub mod check;
pub mod cli;
pub mod collect;
pub mod config;
pub mod facts;
mod http;
pub mod inventory;
pub mod ipvs;
pub mod job;
mod liveness;
mod presence;
mod publish;
mod report;
mod stack;
pub mod state;
mod systemd;
pub mod tail;
pub mod tick;

pub use app::run;
pub use config::Config;
