//! Exit codes, those of the mautrix bridges where they have one (`docs/install.md`).

use causeway_bridge::{
    app::RunError,
    config::{ConfigError, WrongValue},
    demo::DemoError,
    init::InitError,
    registration::RegistrationError,
};

/// What went wrong, and the exit code that says so.
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) error: anyhow::Error,
}

impl Failure {
    /// For a program, on one line.
    pub(super) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({"error": {"exit": self.code, "what": format!("{:#}", self.error)}})
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let code = match error {
            ConfigError::Value(..) => 11,
            ConfigError::NoFile
            | ConfigError::Unreadable(..)
            | ConfigError::Malformed(..)
            | ConfigError::UnknownKey(..) => 10,
        };
        Self { code, error: error.into() }
    }
}

impl From<WrongValue> for Failure {
    fn from(error: WrongValue) -> Self {
        Self { code: 11, error: error.into() }
    }
}

impl From<RegistrationError> for Failure {
    fn from(error: RegistrationError) -> Self {
        let code = match error {
            RegistrationError::Unreadable(..) => 20,
            RegistrationError::Malformed(..) => 21,
            RegistrationError::NotCovered(..) => 22,
        };
        Self { code, error: error.into() }
    }
}

impl From<InitError> for Failure {
    fn from(error: InitError) -> Self {
        Self { code: 11, error: error.into() }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Self { code: error.exit_code(), error: error.into() }
    }
}

impl From<DemoError> for Failure {
    fn from(error: DemoError) -> Self {
        Self { code: error.exit_code(), error: error.into() }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { code: 1, error }
    }
}
