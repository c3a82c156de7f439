//! (being written)
pub fn run(_c: crate::config::Config, _a: &crate::cli::ServeArgs) -> Result<(), std::io::Error> {
    Ok(())
}
