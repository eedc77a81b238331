//! `muster config default`: the config with every key.

use anyhow::Result;

use crate::cmd::Run;
use crate::context::Context;
use crate::exit::Exit;

/// Every key with its default or an example; a test holds it against the parser.
pub(crate) const SAMPLE: &str = include_str!("../../../deploy/config/muster.toml");

/// Arguments of `muster config default`.
#[derive(Debug, clap::Args)]
pub(crate) struct Default {}

impl Run for Default {
    async fn run(self, context: &Context) -> Result<Exit> {
        context.print(SAMPLE)?;
        Ok(Exit::Ok)
    }
}
