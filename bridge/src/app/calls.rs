//! What calls have beside the native server, with the secrets that belong to it.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use causeway_server::{ApiSecret, LiveKit, Mesh, Turn, TurnCredentials};

use super::RunError;
use crate::{
    config::Config,
    init::{self, InitError},
};

/// The server for bigger calls, if one is configured.
pub(crate) fn livekit(config: &Config) -> Result<Option<LiveKit>, RunError> {
    let livekit = &config.calls.livekit;
    if !livekit.is_set() {
        return Ok(None);
    }
    let file = (livekit.api_secret_file.as_path(), "calls.livekit.api_secret_file");
    Ok(Some(LiveKit {
        api_url: livekit.api_url.clone(),
        public_url: livekit.public_url.clone(),
        api_key: livekit.api_key.clone(),
        api_secret: secret(config, file)?,
    }))
}

/// STUN and TURN.
pub(super) fn mesh(config: &Config) -> Result<Mesh, RunError> {
    let mesh = &config.calls.mesh;
    let (stun, relay_only) = (mesh.stun.clone(), mesh.relay_only);
    let from = &mesh.turn;
    if from.urls.is_empty() {
        return Ok(Mesh { stun, turn: None, relay_only });
    }
    let credentials = if from.username.is_empty() {
        let file = (from.secret_file.as_path(), "calls.mesh.turn.secret_file");
        TurnCredentials::Shared(secret(config, file)?)
    } else {
        let file = (from.password_file.as_path(), "calls.mesh.turn.password_file");
        TurnCredentials::Static(from.username.clone(), secret(config, file)?)
    };
    let turn = Some(Turn { urls: from.urls.clone(), credentials });
    Ok(Mesh { stun, turn, relay_only })
}

/// Looks whether the secrets of LiveKit and TURN can be read, and whether others can: whoever has that of
/// LiveKit may enter every call.
///
/// # Errors
/// [`RunError::Native`], for the first that cannot be read, or that all may read.
pub fn check_secrets(config: &Config) -> Result<(), RunError> {
    livekit(config)?;
    mesh(config)?;
    let (livekit, turn) = (&config.calls.livekit, &config.calls.mesh.turn);
    for (file, key) in [
        (&livekit.api_secret_file, "calls.livekit.api_secret_file"),
        (&turn.secret_file, "calls.mesh.turn.secret_file"),
        (&turn.password_file, "calls.mesh.turn.password_file"),
    ] {
        let mode = fs::metadata(file).map_or(0, |is| is.permissions().mode());
        if !file.as_os_str().is_empty() && mode & 0o004 != 0 {
            let (file, key, mode) = (file.display(), config.key(key), mode & 0o777);
            return Err(RunError::Native(format!(
                "{key}: all may read {file} (mode {mode:o}); `chmod 600 {file}`, and give it to the user \
                 that Causeway runs as"
            )));
        }
    }
    Ok(())
}

fn secret(config: &Config, (file, key): (&Path, &str)) -> Result<ApiSecret, RunError> {
    let why = match init::read_token(file) {
        Ok(read) => return Ok(ApiSecret::new(read.expose())),
        Err(InitError::Unread(_, error)) => format!("cannot be read: {error}"),
        Err(_) => "holds no secret, on one line".to_owned(),
    };
    let (file, key) = (file.display(), config.key(key));
    Err(RunError::Native(format!(
        "{key}: {file} {why}; write the secret there, for Causeway to read"
    )))
}
