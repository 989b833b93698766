//! `causeway registration --homeserver-snippet`: what the homeserver's own configuration needs.

use causeway_bridge::{config::Config, registration::homeserver};

use super::{Failure, Output};

/// Where the focus is while nobody has said where.
const EXAMPLE: &str = "https://causeway.example.org/livekit/jwt";

pub(super) fn show(config: &Config, output: Output) -> Result<(), Failure> {
    let url = &config.calls.focus_url;
    let (url, note) = if url.is_empty() {
        let note =
            "# calls.focus_url is not set: write it, and put it in the place of this example.\n";
        (EXAMPLE, note)
    } else {
        (url.as_str(), "")
    };
    let text = homeserver::snippet(url)?;
    output.show(format!("{note}{text}").trim_end(), &homeserver::synapse(url))
}
