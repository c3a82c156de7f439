use crate::options::Options;
use anyhow::Result;
pub(super) async fn run(_: &Options) -> Result<bool> {
    Ok(true)
}
