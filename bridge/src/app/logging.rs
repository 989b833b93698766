//! Log lines on standard error.

use tracing_subscriber::EnvFilter;

use super::RunError;
use crate::config::{LogFormat, Logging};

/// Starts logging for the whole process.
pub(super) fn start(logging: &Logging) -> Result<(), RunError> {
    let failed = |error: &dyn std::fmt::Display| RunError::Logging(error.to_string());
    let filter: EnvFilter = logging.level.parse().map_err(|error| failed(&error))?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match logging.format {
        LogFormat::Text => lines.with_ansi(false).try_init(),
        LogFormat::Json => lines.json().try_init(),
    }
    .map_err(|error| failed(&error))
}
