//! `ironpost config`: the effective configuration, or the defaults, valid as input.

use crate::exit;
use crate::failure::Failure;
use common::config::Config;
use std::io::{self, Write};
use std::path::Path;

/// Prints it.
pub fn run(file: &Path, defaults: bool) -> Result<(), Failure> {
    let config =
        if defaults { Config::parse("", file, Path::new("/etc/ironpost")) } else { Config::load(file) };
    let config = config.map_err(|e| Failure::new(exit::CONFIG, e.to_string()))?;
    let text = toml::to_string(&config)
        .map_err(|e| Failure::new(exit::FAILURE, format!("cannot write TOML: {e}")))?;
    io::stdout().write_all(text.as_bytes()).map_err(|e| Failure::output(&e))
}
