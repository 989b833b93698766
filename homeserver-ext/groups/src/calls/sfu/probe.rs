//! What a server says of itself to who has just come in: its version, and where sound would go.

use std::{net::SocketAddr, time::Duration};

use livekit_protocol::{
    LeaveRequest, leave_request::Action, signal_request::Message as Request,
    signal_response::Message as Response,
};
use tokio::time::{Instant, timeout_at};

use super::{
    Access, Over,
    wire::{Came, Wire},
};

/// How long its ways are waited for, and how long after the last of them.
const FIRST: Duration = Duration::from_secs(3);
const MORE: Duration = Duration::from_millis(500);
/// Ways that are looked at.
const MOST: usize = 32;

/// What it says.
pub(in crate::calls) struct Probed {
    pub(in crate::calls) version: String,
    /// Where it says that it listens for sound.
    pub(in crate::calls) udp: Vec<SocketAddr>,
    pub(in crate::calls) tcp: Vec<SocketAddr>,
}

/// Comes in, listens, and leaves.
pub(in crate::calls) async fn probe(access: &Access) -> Result<Probed, Over> {
    let (mut wire, first) = Wire::open(access, &access.token, None).await?;
    let Response::Join(join) = first else { return Err(Over::NotUnderstood) };
    let version = join.server_info.map(|it| it.version).filter(|it| !it.is_empty());
    let version = version.unwrap_or(join.server_version);
    let mut probed = Probed { version, udp: Vec::new(), tcp: Vec::new() };
    let mut until = Instant::now() + FIRST;
    while let Ok(Ok(came)) = timeout_at(until, wire.next()).await {
        match came {
            Came::Message(message) => {
                let Response::Trickle(trickle) = *message else { continue };
                let Some((at, is_tcp)) = way(&trickle.candidate_init) else { continue };
                let ways = if is_tcp { &mut probed.tcp } else { &mut probed.udp };
                if ways.len() < MOST && !ways.contains(&at) {
                    ways.push(at);
                }
                until = Instant::now() + MORE;
            }
            Came::PingDue => break,
        }
    }
    let leave = LeaveRequest {
        reason: livekit_protocol::DisconnectReason::ClientInitiated.into(),
        action: Action::Disconnect.into(),
        ..Default::default()
    };
    wire.send(Request::Leave(leave)).await.ok();
    wire.close().await;
    Ok(probed)
}

/// Where a candidate is (RFC 8839, "candidate" attribute), and whether by TCP.
fn way(json: &str) -> Option<(SocketAddr, bool)> {
    let init: serde_json::Value = serde_json::from_str(json).ok()?;
    let candidate = init.get("candidate")?.as_str()?.strip_prefix("candidate:")?;
    let mut parts = candidate.split(' ').skip(2);
    let is_tcp = match parts.next()? {
        it if it.eq_ignore_ascii_case("udp") => false,
        it if it.eq_ignore_ascii_case("tcp") => true,
        _ => return None,
    };
    let mut parts = parts.skip(1);
    let ip = parts.next()?.parse().ok()?;
    Some((SocketAddr::new(ip, parts.next()?.parse().ok()?), is_tcp))
}

#[cfg(test)]
mod tests {
    use super::way;

    #[test]
    fn a_candidate_says_where_and_how() {
        let udp = r#"{"candidate":"candidate:1 1 udp 2130706431 1.1.1.1 7882 typ host"}"#;
        let tcp =
            r#"{"candidate":"candidate:2 1 TCP 167 2606:4700::1 7881 typ host tcptype passive"}"#;
        assert_eq!(way(udp), Some(("1.1.1.1:7882".parse().unwrap(), false)));
        assert_eq!(way(tcp), Some(("[2606:4700::1]:7881".parse().unwrap(), true)));
        for none in ["", "{}", r#"{"candidate":""}"#, r#"{"candidate":"candidate:1 1 udp 2 a 1"}"#]
        {
            assert_eq!(way(none), None, "{none}");
        }
    }
}
