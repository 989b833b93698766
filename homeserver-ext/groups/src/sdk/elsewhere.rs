//! Who answers at an address where the native server should be.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;

use super::{
    call::{CallError, body},
    http::{Http, client_builder},
};

/// Longest that this is looked into: there is an answer already.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a homeserver says of its versions is a few lines.
const MAX_BYTES: usize = 64 << 10;

/// `error` in the words of what was found out, where a Matrix homeserver is at the address.
pub(super) async fn told_apart(http: &Http, error: CallError) -> CallError {
    let knows_nothing = error.is_refusal("M_UNRECOGNIZED")
        || matches!(error, CallError::Foreign { status: StatusCode::NOT_FOUND, .. });
    if !knows_nothing || !is_homeserver(http.base()).await {
        return error;
    }
    CallError::Refused {
        status: StatusCode::NOT_FOUND.as_u16(),
        errcode: "M_UNRECOGNIZED".to_owned(),
        error: format!(
            "{} is the Matrix homeserver, and the native server has an address of its own: the one \
             that the homeserver's /.well-known/matrix/client names, or the operator knows \
             (native.listen)",
            http.base()
        ),
        taken: Vec::new(),
    }
}

async fn is_homeserver(base: &str) -> bool {
    let asked = async {
        let client = client_builder().timeout(PATIENCE).build().ok()?;
        let answer = client.get(format!("{base}/_matrix/client/versions")).send().await.ok()?;
        let said = body(answer, MAX_BYTES).await.ok()?;
        serde_json::from_slice::<Value>(&said).ok()?.get("versions").map(Value::is_array)
    };
    asked.await == Some(true)
}
