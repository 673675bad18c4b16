#[derive(Debug, clap::Args)]
pub struct Options {}
pub fn run(_: &Options) -> anyhow::Result<()> {
    anyhow::bail!("bench: not yet")
}
