//! Log lines on standard error.

use tracing_subscriber::{
    EnvFilter, Layer as _, Registry, fmt, layer::SubscriberExt as _, reload,
    util::SubscriberInitExt as _,
};

use super::RunError;
use crate::config::{LogFormat, Logging};

/// Has the log say more or less from now on.
#[derive(Clone)]
pub(super) struct Level(reload::Handle<EnvFilter, Registry>);

impl Level {
    pub(super) fn set(&self, logging: &Logging) -> Result<(), RunError> {
        self.0.reload(filter(logging)?).map_err(|error| RunError::Logging(error.to_string()))
    }
}

fn filter(logging: &Logging) -> Result<EnvFilter, RunError> {
    logging.level.parse().map_err(|error: tracing_subscriber::filter::ParseError| {
        RunError::Logging(error.to_string())
    })
}

/// Starts logging for the whole process.
pub(super) fn start(logging: &Logging) -> Result<Level, RunError> {
    let (filter, handle) = reload::Layer::new(filter(logging)?);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = match logging.format {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|error| RunError::Logging(error.to_string()))?;
    Ok(Level(handle))
}
