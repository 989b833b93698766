//! What is new in a call, in lines; `tail` and `call watch` show the same.

use std::collections::BTreeMap;

use causeway_protocol::{
    api::{CallGuest, CallState, CallTopology, CallWhom},
    ids::{AccountId, CallId, DeviceId, GroupId, Timestamp},
};
use serde::Serialize;

use super::super::harmless::one_line;

/// For so long after its beginning a call rings.
const RING_MS: u64 = 60_000;
/// Calls that are remembered, those that ended among them: whoever asks again hears of them again.
const MAX_CALLS: usize = 256;

/// What was heard of calls.
#[derive(Debug, Default)]
pub(crate) struct Heard(BTreeMap<CallId, CallState>);

/// What happened in a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    /// What: `group_call_start`, `_join`, `_leave`, `_decline`, `_reaction`, `_end`.
    #[serde(rename = "type")]
    kind: &'static str,
    group: GroupId,
    call: CallId,
    version: u64,
    epoch: u32,
    topology: CallTopology,
    intent: causeway_protocol::api::CallIntent,
    /// How many take part now.
    participants: usize,
    /// Whose doing it is; none where nobody ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<AccountId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    /// The Matrix user whose doing it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    mirror: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<&'static str>,
    /// Why it ended, or somebody was put out.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// A sign of the moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    emoji: Option<String>,
    /// When it began.
    started_ms: Timestamp,
}

impl Heard {
    /// What is new with this state, for somebody of this account; nothing where it is an old one.
    pub(crate) fn hear(&mut self, now: &CallState, me: &AccountId) -> Vec<Line> {
        let before = self.0.get(&now.call);
        if before.is_some_and(|before| before.version >= now.version) {
            return Vec::new();
        }
        let is_over = now.topology == CallTopology::Ended;
        let mut lines = Vec::new();
        if before.is_none() && !is_over {
            let by = &now.started_by;
            let begun = line("group_call_start", now, (Some(&by.account), Some(by.device)), None);
            let via = by.mirror.is_some().then_some("matrix");
            lines.push(Line { mirror: by.mirror.clone(), via, ..begun });
        }
        let natives = before.into_iter().flat_map(CallState::natives);
        for it in now.natives().filter(|it| !natives.clone().any(|was| was.device == it.device)) {
            let is_starter = before.is_none() && it.device == now.started_by.device;
            if !is_starter {
                let by = (Some(&it.account), Some(it.device));
                lines.push(line("group_call_join", now, by, None));
            }
        }
        for it in natives.filter(|it| !is_over && !now.natives().any(|is| is.device == it.device)) {
            let out = now.out.iter().find(|out| out.device == it.device);
            let why = out.map(|out| out.why.clone());
            lines.push(line("group_call_leave", now, (Some(&it.account), Some(it.device)), why));
        }
        lines.extend(guests(before, now));
        let declined = before.map_or(&[][..], |before| &before.declined);
        for who in now.declined.iter().filter(|who| !declined.contains(who)) {
            lines.push(line("group_call_decline", now, (Some(who), None), None));
        }
        let declined = before.map_or(&[][..], |before| &before.declined_mirrors);
        for who in now.declined_mirrors.iter().filter(|who| !declined.contains(who)) {
            let by = line("group_call_decline", now, (None, None), None);
            lines.push(Line { mirror: Some(who.clone()), via: Some("matrix"), ..by });
        }
        lines.extend(reactions(before, now));
        // One that is over before it was heard of was still missed.
        let took_part = now.accounts.contains(me);
        if is_over && (before.is_some() || !took_part) {
            let by = (now.ended_by.as_ref(), None);
            lines.push(line("group_call_end", now, by, now.reason.clone()));
        }
        if before.is_none() && self.0.len() >= MAX_CALLS {
            self.make_room();
        }
        self.0.insert(now.call, now.clone());
        lines
    }

    /// Forgets one, which is over if any is.
    fn make_room(&mut self) {
        let mut calls = self.0.iter();
        let over = calls.find(|(_, state)| state.topology == CallTopology::Ended);
        if let Some(call) = over.or_else(|| self.0.first_key_value()).map(|(call, _)| *call) {
            self.0.remove(&call);
        }
    }
}

/// Those of Matrix who came, and who went.
fn guests(before: Option<&CallState>, now: &CallState) -> Vec<Line> {
    let was = before.into_iter().flat_map(CallState::guests);
    let same = |one: &CallGuest, other: &CallGuest| {
        (&one.mirror, &one.device) == (&other.mirror, &other.device)
    };
    let came = now.guests().filter(|it| !was.clone().any(|was| same(was, it)));
    let mut lines: Vec<_> = came.map(|it| of_guest("group_call_join", now, it)).collect();
    if now.topology != CallTopology::Ended {
        let went = was.filter(|it| !now.guests().any(|is| same(is, it)));
        lines.extend(went.map(|it| of_guest("group_call_leave", now, it)));
    }
    lines
}

/// Signs of the moment that were not there before.
fn reactions(before: Option<&CallState>, now: &CallState) -> Vec<Line> {
    let Some(before) = before else { return Vec::new() };
    let new = now.reactions.iter().filter(|it| !before.reactions.contains(it));
    let lines = new.filter_map(|it| {
        let of = match &it.who {
            CallWhom::Native { device } => {
                let by = now.natives().find(|native| native.device == *device)?;
                line("group_call_reaction", now, (Some(&by.account), Some(*device)), None)
            }
            CallWhom::Matrix { mirror, device } => Line {
                mirror: Some(mirror.clone()),
                device: Some(device.clone()),
                via: Some("matrix"),
                ..line("group_call_reaction", now, (None, None), None)
            },
        };
        Some(Line { emoji: Some(it.emoji.clone()), ..of })
    });
    lines.collect()
}

fn of_guest(kind: &'static str, now: &CallState, guest: &CallGuest) -> Line {
    Line {
        mirror: Some(guest.mirror.clone()),
        device: Some(guest.device.clone()),
        via: Some("matrix"),
        ..line(kind, now, (None, None), None)
    }
}

fn line(
    kind: &'static str,
    now: &CallState,
    (account, device): (Option<&AccountId>, Option<DeviceId>),
    reason: Option<String>,
) -> Line {
    Line {
        kind,
        group: now.group,
        call: now.call,
        version: now.version,
        epoch: now.epoch,
        topology: now.topology,
        intent: now.intent,
        participants: now.participants.len(),
        account: account.cloned(),
        device: device.map(|device| device.to_string()),
        mirror: None,
        via: None,
        reason,
        emoji: None,
        started_ms: now.started_ms,
    }
}

impl Line {
    /// Whether a device of somebody who is not in it is to ring at this moment.
    pub(crate) fn rings(&self, me: &AccountId, now: Timestamp) -> bool {
        self.kind == "group_call_start"
            && self.account.as_ref() != Some(me)
            && now.0.saturating_sub(self.started_ms.0) < RING_MS
    }

    /// For people.
    pub(crate) fn to_text(&self, group: &str) -> String {
        let who = self.mirror.clone().or_else(|| self.account.as_ref().map(ToString::to_string));
        let who = who.unwrap_or_else(|| "nobody".to_owned());
        let count = self.participants;
        let said = match (self.kind, self.reason.as_deref()) {
            ("group_call_start", _) => format!("{who} began a call, {count} in it"),
            ("group_call_join", _) => format!("{who} came into the call, {count} in it"),
            ("group_call_leave", None) => format!("{who} left the call, {count} in it"),
            ("group_call_leave", Some(why)) => {
                format!("{who} is out of the call ({why}), {count} in it")
            }
            ("group_call_reaction", _) => {
                format!("{who}: {}", self.emoji.as_deref().unwrap_or_default())
            }
            ("group_call_decline", _) => format!("{who} does not come to the call"),
            (_, Some("by_hand")) if self.account.is_some() => format!("{who} ended the call"),
            (_, why) => format!("the call is over ({})", why.unwrap_or("why is not known")),
        };
        one_line(&format!("-- [{group}] {said}"))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use causeway_protocol::{
        api::CallState,
        ids::{CallId, DeviceId, GroupId},
    };
    use serde_json::json;

    use super::Heard;

    pub(in super::super) fn state(version: u64, topology: &str) -> CallState {
        let device = DeviceId::new([0x11; 32]);
        let (call, group) = (CallId::new([0x22; 16]), GroupId::new([0x33; 32]));
        serde_json::from_value(json!({
            "call": call, "group": group, "version": version, "epoch": 4,
            "topology": topology, "intent": "audio", "started_ms": 1_763_640_000_000_u64,
            "started_by": {"account": "ann:a.example", "device": device},
            "participants": [{
                "account": "ann:a.example", "device": device, "since_ms": 1_763_640_000_000_u64,
                "muted": false, "hand": false, "connected": [], "lost": false, "via": "native",
            }],
            "accounts": ["ann:a.example"], "declined": ["ben:a.example"], "out": [],
        }))
        .unwrap()
    }

    #[test]
    fn those_of_matrix_come_and_go_as_others_do() {
        let me = "ben:a.example".parse().unwrap();
        let mut heard = Heard::default();
        heard.hear(&state(1, "sfu"), &me);
        let mut with = serde_json::to_value(state(2, "sfu")).unwrap();
        with["participants"].as_array_mut().unwrap().push(json!({
            "mirror": "@mia:a.example", "name": "Mia", "device": "PHONE", "since_ms": 0,
            "muted": false, "hand": false, "sfu": "@mia:a.example:PHONE", "via": "matrix",
        }));
        // And one of a kind that a newer server has.
        with["participants"].as_array_mut().unwrap().push(json!({"via": "telephone"}));
        let with: CallState = serde_json::from_value(with).unwrap();
        let [came] = heard.hear(&with, &me).try_into().unwrap();
        assert_eq!(came.to_text("team"), "-- [team] @mia:a.example came into the call, 2 in it");
        let came = json!(came);
        assert_eq!((&came["via"], &came["device"]), (&json!("matrix"), &json!("PHONE")));
        let [went] = heard.hear(&state(3, "sfu"), &me).try_into().unwrap();
        assert_eq!(json!(went)["type"], "group_call_leave");
    }

    #[test]
    fn what_ended_is_told_once() {
        let me = "ben:a.example".parse().unwrap();
        let mut heard = Heard::default();
        assert_eq!(heard.hear(&state(1, "mesh"), &me).len(), 2);
        assert_eq!(heard.hear(&state(2, "ended"), &me).len(), 1);
        // A list that is looked at each second has it still.
        assert_eq!(heard.hear(&state(2, "ended"), &me), []);
    }
}
