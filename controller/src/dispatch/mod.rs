//! Jobs: which hosts one is for, sending it, and accounting for every answer.
//!
//! [`resolve`], [`rollout`], [`account`], [`order`] and [`report`] are pure; [`desk`], [`replies`] and [`live`] talk to the
//! broker.

pub mod account;
mod answers;
pub mod desk;
pub mod live;
pub mod order;
pub mod replies;
pub mod report;
pub mod resolve;
pub mod rollout;
