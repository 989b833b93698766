//! A LiveKit for the demo, which carries calls of more than four.

use causeway_livekit::{Binary, BuildError, LiveKit, Settings, StartError};

use super::{DemoError, causeway::Causeway, files::folder, progress::Progress};
use crate::init;

/// Why there is nothing that carries bigger calls.
#[derive(Debug, thiserror::Error)]
pub enum LiveKitError {
    /// It could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Starts a LiveKit, and Causeway anew so that it uses it.
pub(super) async fn beside(
    causeway: &mut Causeway,
    progress: &Progress,
) -> Result<LiveKit, DemoError> {
    let said = |text: &str| progress.say(text);
    let binary = Binary::ensure(&folder()?, said).await.map_err(LiveKitError::from)?;
    let dir = causeway.dir().join("livekit");
    let webhook = Some(format!("{}/livekit/jwt/sfu_webhook", causeway.native_url()));
    let settings = Settings { webhook, ..Settings::default() };
    progress.say("starting LiveKit");
    let livekit = LiveKit::start(&binary, &dir, &settings).await.map_err(LiveKitError::from)?;
    let secret = dir.join("secret");
    init::replace_private(&secret, livekit.secret().as_bytes())?;
    for (key, value) in [
        ("API_URL", livekit.api_url()),
        ("PUBLIC_URL", livekit.url()),
        ("API_KEY", livekit.key().to_owned()),
        ("API_SECRET_FILE", secret.display().to_string()),
    ] {
        causeway.set_env(&format!("CAUSEWAY__CALLS__LIVEKIT__{key}"), &value);
    }
    causeway.stop().await?;
    causeway.start().await?;
    Ok(livekit)
}
