//! What happens in a call that one takes part in, as lines.

use std::collections::{BTreeMap, BTreeSet};

use causeway_protocol::{
    api::CallState,
    ids::{AccountId, DeviceId},
};
use serde_json::{Value, json};

use super::{super::harmless::one_line, heard::Heard};
use crate::{
    calling::Told,
    calls::{Happened, Signal},
};

/// Louder than this is speech.
pub(super) const SPEAKS: f32 = 0.02;
/// From so many on it is said what each has to send.
const MANY: usize = 4;
/// Bits a second that carry a voice, beside it: 50 packets with 50 bytes around them.
const AROUND: u32 = 20_000;
/// Refusals of one device that are shown.
const MOST_REFUSED: u32 = 8;

/// A line; people are not told all that programs are.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) json: Value,
    pub(super) text: Option<String>,
}

/// What was told so far.
pub(super) struct Teller {
    heard: Heard,
    me: (AccountId, DeviceId),
    group: String,
    bitrate: u32,
    state: CallState,
    speaking: BTreeSet<DeviceId>,
    refused: BTreeMap<DeviceId, u32>,
}

impl Teller {
    pub(super) fn new(
        me: (AccountId, DeviceId),
        group: String,
        bitrate: u32,
        state: CallState,
    ) -> Self {
        let heard = Heard::default();
        let (speaking, refused) = (BTreeSet::new(), BTreeMap::new());
        // Nobody is in it for whom nothing was told yet.
        let state = CallState { participants: Vec::new(), ..state };
        Self { heard, me, group, bitrate, state, speaking, refused }
    }

    /// Who a device is.
    fn who(&self, device: DeviceId) -> String {
        let it = self.state.participants.iter().find(|it| it.device == device);
        let account = it.map(|it| it.account.to_string());
        account
            .or_else(|| (device == self.me.1).then(|| self.me.0.to_string()))
            .unwrap_or_else(|| format!("device {device}"))
    }

    /// What is new with this.
    pub(super) fn lines(&mut self, told: &Told) -> Vec<Line> {
        match told {
            Told::State(state) => self.state(state),
            Told::Signalled(from, to, epoch, signal) => self.signalled(*from, *to, *epoch, signal),
            Told::Sound(happened) => self.sound(happened),
            Told::Untold(device, why) => vec![self.about(
                "call_untold",
                *device,
                &json!({"why": why}),
                Some(format!("{} cannot be told how to connect: {why}", self.who(*device))),
            )],
            Told::Away(error) => vec![self.line(
                json!({"type": "call_server_away", "why": error.to_string()}),
                Some(format!("{error}; the call goes on without it, trying again")),
            )],
            Told::Back => {
                vec![self.line(
                    json!({"type": "call_server_back"}),
                    Some("the server is back".to_owned()),
                )]
            }
        }
    }

    fn state(&mut self, now: &CallState) -> Vec<Line> {
        let mut lines: Vec<_> = self
            .heard
            .hear(now, &self.me.0)
            .into_iter()
            .map(|line| Line { json: json!(line), text: Some(line.to_text(&self.group)) })
            .collect();
        let before = std::mem::replace(&mut self.state, now.clone());
        for it in &now.participants {
            let was = before.participants.iter().find(|was| was.device == it.device);
            if was.map_or((false, false), |was| (was.muted, was.hand)) == (it.muted, it.hand) {
                continue;
            }
            let text = format!(
                "{}: microphone {}, hand {}",
                it.account,
                if it.muted { "off" } else { "on" },
                if it.hand { "up" } else { "down" }
            );
            let more = json!({"muted": it.muted, "hand": it.hand});
            lines.push(self.about("group_call_set", it.device, &more, Some(text)));
        }
        let (was, is) = (before.participants.len(), now.participants.len());
        if is >= MANY && is > was {
            let kbps = kbps(self.bitrate, is);
            let text = format!("{is} in the call: each sends and receives about {kbps} kbit/s");
            let json = json!({
                "type": "call_bandwidth", "participants": is, "up_kbps": kbps, "down_kbps": kbps,
            });
            lines.push(self.line(json, Some(text)));
        }
        lines
    }

    fn signalled(&self, from: DeviceId, to: DeviceId, epoch: u32, signal: &Signal) -> Vec<Line> {
        let (kind, restart) = match signal {
            Signal::Offer { restart, .. } => ("group_call_offer", *restart),
            Signal::Answer { .. } => ("group_call_answer", false),
            Signal::Ice { .. } | Signal::Key { .. } | Signal::Bye { .. } => return Vec::new(),
        };
        let json = json!({
            "type": kind, "from": from, "to": to, "epoch": epoch, "restart": restart,
        });
        vec![self.line(json, None)]
    }

    fn sound(&mut self, happened: &Happened) -> Vec<Line> {
        let with = |kind, device: DeviceId, said: &str| {
            self.about(kind, device, &json!({}), Some(format!("{said} {}", self.who(device))))
        };
        vec![match happened {
            Happened::Connected(device) => with("call_connected", *device, "connected to"),
            Happened::Broken(device) => {
                with("call_broken", *device, "another way is looked for to")
            }
            Happened::Failed(device) => with("call_failed", *device, "no way was found to"),
            Happened::Progress(connected, of) => self.line(
                json!({"type": "call_progress", "connected": connected, "of": of}),
                Some(format!("connected {connected}/{of}")),
            ),
            Happened::Levels(levels) => return self.speaks(levels),
            Happened::Refused(device, why) => {
                let times = self.refused.entry(*device).or_default();
                *times = times.saturating_add(1);
                if *times > MOST_REFUSED {
                    return Vec::new();
                }
                self.about("call_refused", *device, &json!({"why": why.to_string()}), None)
            }
            Happened::SinkFailed(kind) => self.line(
                json!({"type": "call_sink_failed", "why": kind.to_string()}),
                Some(format!("what is heard can no longer be written: {kind}")),
            ),
            // No server carries a call of this client yet.
            Happened::Say { .. } | Happened::Served(_) | Happened::Quality(_) => return Vec::new(),
        }]
    }

    fn speaks(&mut self, levels: &BTreeMap<Option<DeviceId>, f32>) -> Vec<Line> {
        let loud = levels.iter().filter(|(_, level)| **level > SPEAKS);
        let now: BTreeSet<_> = loud.map(|(device, _)| device.unwrap_or(self.me.1)).collect();
        let before = std::mem::replace(&mut self.speaking, now);
        let changed = before.symmetric_difference(&self.speaking);
        let line = |device: &DeviceId| {
            let more = json!({"speaks": self.speaking.contains(device)});
            self.about("call_speaks", *device, &more, None)
        };
        changed.map(line).collect()
    }

    /// A line about a device, with more about it.
    fn about(&self, kind: &str, device: DeviceId, more: &Value, text: Option<String>) -> Line {
        let it = self.state.participants.iter().find(|it| it.device == device);
        let account = it.map(|it| &it.account);
        let mut json = json!({"type": kind, "account": account, "device": device});
        if let (Some(json), Some(more)) = (json.as_object_mut(), more.as_object()) {
            json.extend(more.clone());
        }
        self.line(json, text)
    }

    fn line(&self, mut json: Value, text: Option<String>) -> Line {
        if let Some(json) = json.as_object_mut() {
            json.insert("group".to_owned(), json!(self.state.group));
            json.insert("call".to_owned(), json!(self.state.call));
        }
        let text = text.map(|text| one_line(&format!("-- [{}] {text}", self.group)));
        Line { json, text }
    }
}

/// What one of so many sends, and receives, in thousands of bits a second.
pub(super) fn kbps(bitrate: u32, participants: usize) -> u32 {
    let others = u32::try_from(participants.saturating_sub(1)).unwrap_or(u32::MAX);
    (bitrate + AROUND).saturating_mul(others) / 1_000
}
