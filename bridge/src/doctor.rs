//! `causeway doctor`: everything that has to be right for Causeway to run, looked at one after the other,
//! and what to do about what is not.
//!
//! It may run beside a running Causeway, and where none runs. It changes nothing on this machine; on
//! the homeserver it makes a room only where that is asked for.

mod calls;
mod here;
mod homeserver;
mod native;
mod room;
mod sound;

use std::path::Path;

use serde::Serialize;

use crate::{
    config::{self, Config, ConfigError},
    registration::Registration,
};

/// What was found of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is as it should be.
    Ok,
    /// Causeway runs with it, and somebody may miss something.
    Warning,
    /// Causeway does not run with it.
    Failed,
    /// It could not be looked at, because something before it is not right.
    Skipped,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Which, in a word or two; the same in every run.
    pub name: &'static str,
    /// What came of it.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, state: State::Ok, found: harmless(found), fix: None }
    }

    fn failed(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, state: State::Failed, found: harmless(found), fix: Some(harmless(fix)) }
    }

    fn warning(name: &'static str, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, state: State::Warning, found: harmless(found), fix: Some(harmless(fix)) }
    }

    fn skipped(name: &'static str, why: impl Into<String>) -> Self {
        Self { name, state: State::Skipped, found: harmless(why), fix: None }
    }
}

/// Most characters of what is said of one thing: a path and an error with its causes fit.
const MAX_CHARS: usize = 2_000;

/// What others may have written, in one line that does nothing to a terminal.
fn harmless(text: impl Into<String>) -> String {
    let text: String = text.into();
    // They have no control character, and turn the line around all the same.
    let turns = |c: char| matches!(c, '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let shown = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if c.is_control() || turns(c) => '\u{fffd}',
        c => c,
    };
    text.chars().take(MAX_CHARS).map(shown).collect()
}

/// Longest answer that is read: what is asked for has a few hundred bytes.
const MAX_ANSWER: usize = 1024 * 1024;

/// The JSON of an answer, if it is that and not endless.
async fn json_of(mut answer: reqwest::Response) -> Option<serde_json::Value> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.ok()? {
        if bytes.len() + chunk.len() > MAX_ANSWER {
            return None;
        }
        bytes.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&bytes).ok()
}

/// How to look.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Makes a private room as for a group, has a ghost speak in it, and leaves nothing of it but the
    /// ghost's account.
    pub try_room: bool,
}

/// Looks at everything; `show` sees each as it is found.
///
/// # Errors
/// [`std::io::Error`]: nothing can be looked at, because the system gives no threads.
pub fn examine(
    file: Option<&Path>,
    overrides: &[(&str, String)],
    options: Options,
    show: &mut dyn FnMut(Check),
) -> std::io::Result<()> {
    let loaded = config::find(file).and_then(|file| {
        let config = config::load(&file, overrides)?;
        Ok((file, config))
    });
    let (file, config) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            show(no_config(&error));
            return Ok(());
        }
    };
    show(Check::ok("configuration", file.display().to_string()));
    let registration = here::registration(&file, &config, show);
    here::files(&config, show);
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(look(&file, &config, registration, options, show));
    Ok(())
}

fn no_config(error: &ConfigError) -> Check {
    let fix = match error {
        ConfigError::NoFile => {
            "make one with `causeway init --server-name YOUR.SERVER`, or name yours: `--config FILE`"
        }
        ConfigError::Unreadable(_, error) => config::unread_remedy(error),
        ConfigError::Malformed(..) | ConfigError::UnknownKey(..) | ConfigError::Value(..) => {
            "change that; `causeway config schema` describes every key"
        }
    };
    Check::failed("configuration", error.to_string(), fix)
}

async fn look(
    file: &Path,
    config: &Config,
    registration: Option<Registration>,
    options: Options,
    show: &mut dyn FnMut(Check),
) {
    here::databases(config, show).await;
    homeserver::look(file, config, registration.as_ref(), options, show).await;
    native::look(file, config, show).await;
    calls::look(file, config, registration.as_ref(), show).await;
}

/// What is said of a key of the configuration file, with the line that is to be changed.
fn key(file: &Path, name: &str, value: &str) -> String {
    let (section, key) = name.split_once('.').unwrap_or(("", name));
    format!("in {} write, under `{section}:`, `{key}: {value}`", file.display())
}
