//! What a homeserver must have so that its users come into calls here.

use reqwest::Method;
use ruma::UserId;
use serde::Deserialize;
use serde_json::Value;

use super::{Matrix, MatrixError};

/// What is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// The listener that we use.
    #[error("its listener at homeserver.address has no `openid` among its `resources`")]
    OpenId,
    /// What it tells clients in place of our address.
    #[error("it sends clients to {0} for calls, and not to {1} (`matrix_rtc.transports`)")]
    Transport(String, String),
    /// MSC4140: who crashes in a call stays in it.
    #[error("it has no delayed events (`max_event_delay_duration`)")]
    Delayed,
}

#[derive(Deserialize)]
struct Transports {
    #[serde(default)]
    rtc_transports: Vec<Value>,
}

impl Matrix {
    /// What the homeserver lacks for calls of its users by the focus at `url`.
    ///
    /// # Errors
    /// [`MatrixError`]: it cannot be said.
    pub async fn lacks_for_calls(&self, bot: &UserId, url: &str) -> Result<Vec<Lack>, MatrixError> {
        let mut lacks = Vec::new();
        // Any token: whoever is asked says that he does not know it.
        match self.userinfo("causeway").await {
            Err(MatrixError::UnknownToken | MatrixError::Refused(401, ..)) | Ok(_) => {}
            Err(MatrixError::Refused(..)) => lacks.push(Lack::OpenId),
            Err(error) => return Err(error),
        }
        let first = self.rtc_transports(bot).await?.into_iter().next().unwrap_or_default();
        let theirs = first.get("livekit_service_url").and_then(Value::as_str);
        if theirs != Some(url) {
            let theirs = theirs.unwrap_or("nowhere").to_owned();
            lacks.push(Lack::Transport(theirs, url.to_owned()));
        }
        let features = self.versions().await?.unstable_features;
        if features.get("org.matrix.msc4140") != Some(&Value::Bool(true)) {
            lacks.push(Lack::Delayed);
        }
        Ok(lacks)
    }

    /// `GET /_matrix/client/unstable/org.matrix.msc4143/rtc/transports` – where clients go for calls;
    /// nowhere, where the homeserver does not know the question (MSC4143).
    async fn rtc_transports(&self, bot: &UserId) -> Result<Vec<Value>, MatrixError> {
        let path = ["_matrix", "client", "unstable", "org.matrix.msc4143", "rtc", "transports"];
        let said = self.call("rtc_transports", Method::GET, &path).soon().acting_as(bot);
        match said.send::<Transports>().await {
            Ok(said) => Ok(said.rtc_transports),
            Err(MatrixError::Refused(404 | 405, ..)) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}
