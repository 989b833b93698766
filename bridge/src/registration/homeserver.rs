//! What a homeserver's own configuration needs so that its users come into calls.

use serde_json::{Value, json};

use super::RegistrationError;

/// What stands before it: a list that is the operator's own cannot be given whole.
const HEAD: &str = "\
# For Synapse's homeserver.yaml, so that its users come into calls of bridged groups; restart it then.
# Keys that are there already are to be made one with these, above all experimental_features.
# The listener at Causeway's homeserver.address needs `openid` too:
#   resources: [{ names: [client, openid] }]
";

/// Keys of Synapse's `homeserver.yaml`; `focus` is where clients find what lets them into calls.
pub fn synapse(focus: &str) -> Value {
    json!({
        // Who crashes in a call leaves it by an event that was scheduled before (MSC4140).
        "max_event_delay_duration": "24h",
        "rc_delayed_event_mgmt": { "per_second": 1, "burst_count": 20 },
        "matrix_rtc": { "transports": [{ "type": "livekit", "livekit_service_url": focus }] },
        "experimental_features": {
            "msc4140_enabled": true,
            "msc4143_enabled": true,
            "msc4222_enabled": true,
            "msc4075_enabled": true,
        },
    })
}

/// The same as it is written there.
///
/// # Errors
/// None that can happen.
pub fn snippet(focus: &str) -> Result<String, RegistrationError> {
    let text = serde_saphyr::to_string(&synapse(focus));
    text.map(|text| format!("{HEAD}{text}"))
        .map_err(|error| RegistrationError::Malformed("its text".to_owned(), error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::{snippet, synapse};

    #[test]
    fn what_is_printed_is_what_is_meant() {
        let focus = "https://causeway.example.org/livekit/jwt";
        let text = snippet(focus).unwrap();
        let read: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read, synapse(focus));
        assert!(text.starts_with("# For Synapse"), "{text}");
    }
}
