//! What happens in a call that one takes part in, as lines.

use std::collections::{BTreeMap, BTreeSet};

use causeway_protocol::{
    api::{CallState, CallTopology},
    ids::{AccountId, DeviceId},
};
use serde_json::{Value, json};

use super::{super::harmless::one_line, heard::Heard};
use crate::{
    calling::{Told, guest_of, stand_in},
    calls::{Brought, Happened, Over, Served, Signal},
};

/// Louder than this is speech.
pub(super) const SPEAKS: f32 = 0.02;
/// The line to the server for calls.
pub(super) const CUT: &str = "the line to the server is cut, and made anew; sound goes on";
/// Where what is said is not sealed on its way.
pub(super) const CLEAR: &str = "the server can hear this call";
pub(super) const NOT_TAKEN: &str =
    "the server could hear this call, so this device does not go there (--may-degrade would)";
/// From so many on it is said what each has to send.
const MANY: usize = 4;
/// Bits a second that carry a voice, beside it: 50 packets with 50 bytes around them.
const AROUND: u32 = 20_000;
/// Refusals of one device that are shown one by one; of more only how many they are, as they double.
const MOST_REFUSED: u32 = 8;
/// Offers and answers of one device in one epoch that are shown.
const MOST_OFFERED: u32 = 16;

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
    brought: Brought,
    refused: BTreeMap<DeviceId, u32>,
    /// In which epoch a device offered how often.
    offered: BTreeMap<DeviceId, (u32, u32)>,
    /// To how many of how many it is connected.
    progress: (usize, usize),
    /// Whether the server that carries it can hear it.
    is_clear: bool,
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
        let brought = Brought::default();
        let (offered, progress, is_clear) = (BTreeMap::new(), (0, 0), false);
        Self {
            heard,
            me,
            group,
            bitrate,
            state,
            speaking,
            brought,
            refused,
            offered,
            progress,
            is_clear,
        }
    }

    /// Who a device is.
    fn who(&self, device: DeviceId) -> String {
        let it = self.state.natives().find(|it| it.device == device);
        let account = it.map(|it| it.account.to_string());
        let mirror = || guest_of(&self.state, device).map(|guest| guest.mirror.clone());
        account
            .or_else(mirror)
            .or_else(|| (device == self.me.1).then(|| self.me.0.to_string()))
            .unwrap_or_else(|| format!("device {device}"))
    }

    /// What is new with this.
    pub(super) fn lines(&mut self, told: &Told) -> Vec<Line> {
        match told {
            Told::State(state) => self.state(state),
            Told::Signalled(from, to, epoch, signal) => {
                if !self.is_shown(*from, *epoch) {
                    return Vec::new();
                }
                self.signalled(*from, *to, *epoch, signal)
            }
            Told::Sound(happened) => self.sound(happened),
            Told::Untold(device, why) => vec![self.about(
                "call_untold",
                *device,
                &json!({"why": why}),
                Some(format!("{} cannot be told how to connect: {why}", self.who(*device))),
            )],
            Told::Moves { with, refused: None } => vec![self.about(
                "call_upgrade",
                *with,
                &json!({}),
                Some(format!("no way was found to {}: the server for bigger calls is to carry the call", self.who(*with))),
            )],
            Told::Moves { with, refused: Some(why) } => vec![self.about(
                "call_upgrade",
                *with,
                &json!({"why": why}),
                Some(format!("no way was found to {}, and the server for bigger calls does not carry the call: {why}", self.who(*with))),
            )],
            Told::Clear { taken } => {
                self.is_clear = *taken;
                let text = if *taken { CLEAR } else { NOT_TAKEN };
                vec![
                    self.line(json!({"type": "call_clear", "taken": taken}), Some(text.to_owned())),
                ]
            }
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
        self.is_clear &= now.topology != CallTopology::Mesh;
        lines.extend(self.carried(before.topology, now));
        for it in now.natives() {
            let was = before.natives().find(|was| was.device == it.device);
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
        for it in now.guests() {
            let was = before.guests().find(|was| stand_in(was) == stand_in(it));
            if was.map_or((true, false), |was| (was.muted, was.hand)) != (it.muted, it.hand) {
                let on = if it.muted { "off" } else { "on" };
                let hand = if it.hand { "up" } else { "down" };
                let text = format!("{}: microphone {on}, hand {hand}", it.mirror);
                let more = json!({"muted": it.muted, "hand": it.hand});
                lines.push(self.about("group_call_set", stand_in(it), &more, Some(text)));
            }
        }
        let (was, is) = (before.participants.len(), now.participants.len());
        if is >= MANY && is > was {
            let (up, down) = (sent(now, self.bitrate), kbps(self.bitrate, is));
            let text =
                format!("{is} in the call: each sends about {up} kbit/s and receives about {down}");
            let json = json!({
                "type": "call_bandwidth", "participants": is, "up_kbps": up, "down_kbps": down,
            });
            lines.push(self.line(json, Some(text)));
        }
        lines
    }

    /// Whether an offer or answer is one that can be taken, and not one too many: whoever floods the
    /// others with them does not fill their screens.
    fn is_shown(&mut self, from: DeviceId, epoch: u32) -> bool {
        let mut there = self.state.natives();
        let is_there = from == self.me.1 || there.any(|it| it.device == from);
        if !is_there || epoch > self.state.epoch || epoch + 1 < self.state.epoch {
            return false;
        }
        let offered = self.offered.entry(from).or_default();
        if offered.0 != epoch {
            *offered = (epoch, 0);
        }
        offered.1 = offered.1.saturating_add(1);
        offered.1 <= MOST_OFFERED
    }

    fn signalled(&self, from: DeviceId, to: DeviceId, epoch: u32, signal: &Signal) -> Vec<Line> {
        let (kind, restart) = match signal {
            Signal::Offer { restart, .. } => ("group_call_offer", *restart),
            Signal::Answer { .. } => ("group_call_answer", false),
            Signal::Ice { .. } | Signal::Bye { .. } | Signal::Key { .. } => return Vec::new(),
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
            Happened::Progress(connected, of) => {
                // Nobody to be connected to: a server carries it.
                if *of == 0 || self.progress == (*connected, *of) {
                    self.progress = (*connected, *of);
                    return Vec::new();
                }
                self.progress = (*connected, *of);
                self.line(
                    json!({"type": "call_progress", "connected": connected, "of": of}),
                    Some(format!("connected {connected}/{of}")),
                )
            }
            Happened::Levels(levels) => return self.speaks(levels),
            Happened::Refused(device, why) => {
                let times = self.refused.entry(*device).or_default();
                *times = times.saturating_add(1);
                let times = *times;
                if times > MOST_REFUSED && !times.is_power_of_two() {
                    return Vec::new();
                }
                let more = json!({"why": why.to_string(), "times": times});
                self.about("call_refused", *device, &more, None)
            }
            Happened::SinkFailed(kind) => self.line(
                json!({"type": "call_sink_failed", "why": kind.to_string()}),
                Some(format!("what is heard can no longer be written: {kind}")),
            ),
            Happened::Served(served) => return self.served(served),
            Happened::Abroad(focus, served) => return self.abroad(focus, served),
            // Is for the others, and comes to nobody here; and what a screen shows.
            Happened::Say { .. } | Happened::Quality(_) => return Vec::new(),
        }]
    }

    fn served(&mut self, served: &Served) -> Vec<Line> {
        let (what, text) = match served {
            Served::Joined => ("joined", None),
            Served::Published => ("published", Some("the server carries what is said".to_owned())),
            Served::NotLetSpeak => {
                ("not_let_speak", Some("the server lets nobody hear this device".to_owned()))
            }
            Served::Cut => ("cut", Some(CUT.to_owned())),
            Served::Resumed => {
                ("resumed", Some("the line to the server is there again".to_owned()))
            }
            Served::Brings(brought) => {
                let before = std::mem::replace(&mut self.brought, brought.clone());
                let news = brought.sealed.difference(&before.sealed);
                let text =
                    news.map(|device| format!("{} speaks, and gave no key", self.who(*device)));
                let text = text.collect::<Vec<_>>().join("; ");
                // While a call moves, sound may come before its key.
                let moves = self.state.topology != CallTopology::Sfu;
                let text = if moves { String::new() } else { text };
                let guests = self.state.guests();
                let guests = guests.filter(|it| brought.heard.contains(&stand_in(it)));
                let guests: Vec<_> = guests.map(|it| &it.mirror).collect();
                let is_native = |device: &&DeviceId| guest_of(&self.state, **device).is_none();
                let heard: Vec<_> = brought.heard.iter().filter(is_native).collect();
                let json = json!({
                    "type": "call_brought", "heard": heard, "guests": guests,
                    "sealed": brought.sealed,
                });
                return vec![self.line(json, (!text.is_empty()).then_some(text))];
            }
            Served::Over(Over::Left) => ("left", None),
            Served::Over(why) => {
                let json = json!({"type": "call_served", "what": "over", "why": why.to_string()});
                return vec![self.line(json, Some(why.to_string()))];
            }
        };
        vec![self.line(json!({"type": "call_served", "what": what}), text)]
    }

    /// What happens where somebody of another homeserver speaks.
    fn abroad(&self, focus: &str, served: &Served) -> Vec<Line> {
        let what = match served {
            Served::Joined => "joined",
            Served::Cut => "cut",
            Served::Resumed => "resumed",
            Served::Over(Over::Left) => "left",
            Served::Over(_) => "over",
            Served::Published | Served::NotLetSpeak | Served::Brings(_) => return Vec::new(),
        };
        let why = match served {
            Served::Over(why) if *why != Over::Left => Some(why.to_string()),
            _ => None,
        };
        let text =
            why.as_ref().map(|why| format!("those who speak at {focus} are not heard: {why}"));
        let json = json!({"type": "call_abroad", "focus": focus, "what": what, "why": why});
        vec![self.line(json, text)]
    }

    /// What carries it, where that is another than before.
    fn carried(&self, before: CallTopology, now: &CallState) -> Option<Line> {
        let count = now.participants.len();
        let text = match now.topology {
            same if same == before => return None,
            CallTopology::Prepare => format!("moving to the server: {count} in the call"),
            CallTopology::Dual => "both carry the call: directly, and the server".to_owned(),
            CallTopology::Sfu if self.is_clear => format!("by the server; {CLEAR}"),
            CallTopology::Sfu => {
                "by the server, which can see who is in the call, not what is said".to_owned()
            }
            CallTopology::Shrink => format!("moving away from the server: {count} in the call"),
            CallTopology::Mesh => "each talks to each again, without the server".to_owned(),
            CallTopology::Reconnecting => "the server for calls is away".to_owned(),
            CallTopology::Ended | CallTopology::Unknown => return None,
        };
        let json = json!({
            "type": "call_carried", "by": now.topology, "epoch": now.epoch, "participants": count,
            "clear": self.is_clear,
        });
        Some(self.line(json, Some(text)))
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
        let it = self.state.natives().find(|it| it.device == device);
        let account = it.map(|it| &it.account);
        let mut json = match guest_of(&self.state, device) {
            Some(it) => json!({
                "type": kind, "mirror": it.mirror, "device": it.device, "via": it.via,
            }),
            None => json!({"type": kind, "account": account, "device": device}),
        };
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

/// What each sends, in thousands of bits a second: to a server once, directly to each.
fn sent(state: &CallState, bitrate: u32) -> u32 {
    match state.topology {
        CallTopology::Sfu | CallTopology::Reconnecting => kbps(bitrate, 2),
        CallTopology::Prepare | CallTopology::Dual | CallTopology::Shrink => {
            kbps(bitrate, state.participants.len() + 1)
        }
        CallTopology::Mesh | CallTopology::Ended | CallTopology::Unknown => {
            kbps(bitrate, state.participants.len())
        }
    }
}

/// What one of so many receives, in thousands of bits a second.
pub(super) fn kbps(bitrate: u32, participants: usize) -> u32 {
    let others = u32::try_from(participants.saturating_sub(1)).unwrap_or(u32::MAX);
    (bitrate + AROUND).saturating_mul(others) / 1_000
}

#[cfg(test)]
mod tests {
    use causeway_protocol::{api::CallState, ids::DeviceId};

    use super::{MOST_OFFERED, Teller};
    use crate::{
        calling::Told,
        calls::{Happened, Refused, Signal},
        cli::call::heard::tests::state,
    };

    fn shown(teller: &mut Teller, from: u8, epoch: u32) -> usize {
        let (from, to) = (DeviceId::new([from; 32]), DeviceId::new([9; 32]));
        let signal = Signal::Offer { sdp: "v=0".into(), restart: false };
        (0..1_000)
            .map(|_| teller.lines(&Told::Signalled(from, to, epoch, signal.clone())).len())
            .sum()
    }

    #[test]
    fn each_step_is_a_line_that_says_what_the_server_learns() {
        let me = ("ben:a.example".parse().unwrap(), DeviceId::new([9; 32]));
        let mut teller = Teller::new(me, "team".into(), 24_000, state(1, "mesh"));
        let count = state(1, "mesh").participants.len();
        for (version, topology, says) in [
            (2, "prepare", format!("moving to the server: {count} in the call")),
            (3, "dual", "both carry the call".to_owned()),
            (4, "sfu", "can see who is in the call, not what is said".to_owned()),
            (5, "reconnecting", "the server for calls is away".to_owned()),
            (6, "sfu", "by the server".to_owned()),
            (7, "shrink", format!("moving away from the server: {count} in the call")),
            (8, "mesh", "without the server".to_owned()),
        ] {
            let lines = teller.lines(&Told::State(Box::new(state(version, topology))));
            let mut carried = lines.iter().filter(|line| line.json["type"] == "call_carried");
            let line = carried.next().unwrap();
            assert_eq!((&line.json["by"], carried.next().is_none()), (&topology.into(), true));
            assert!(line.text.as_ref().unwrap().contains(&says), "{topology}: {:?}", line.text);
        }
    }

    #[test]
    fn a_flood_of_offers_and_of_junk_fills_no_screen() {
        let state: CallState = state(1, "mesh");
        let me = ("ben:a.example".parse().unwrap(), DeviceId::new([9; 32]));
        let mut teller = Teller::new(me, "team".into(), 24_000, state.clone());
        teller.lines(&Told::State(Box::new(state)));
        assert_eq!(shown(&mut teller, 0x11, 4), MOST_OFFERED as usize);
        // Of an epoch that is not, and of somebody who is not there.
        assert_eq!(shown(&mut teller, 0x11, 9), 0);
        assert_eq!(shown(&mut teller, 0x77, 4), 0);
        let refused = Told::Sound(Happened::Refused(DeviceId::new([0x77; 32]), Refused::TooMany));
        let lines: Vec<_> = (0..1_000).flat_map(|_| teller.lines(&refused)).collect();
        assert_eq!(lines.len(), 14);
        assert_eq!(lines.last().unwrap().json["times"], 512);
    }
}
