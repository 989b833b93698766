//! A call on the screen: who is in it, how each is connected, who speaks, and the keys.

use std::collections::BTreeMap;

use causeway_protocol::{
    api::{CallGuest, CallParticipant, CallState, CallTopology},
    ids::DeviceId,
};
use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::{
    Frame,
    style::{Modifier, Style},
    text::Line as Row,
    widgets::Paragraph,
};

use super::{
    super::harmless::one_line,
    tell::{CLEAR, CUT, NOT_TAKEN, SPEAKS, kbps},
};
use crate::{
    calling::{Command, Told, is_muted_by_another, stand_in},
    calls::{Brought, Happened, Over, Served},
};

const KEYS: &str = "m microphone  h hand  q leaves";
/// Characters of a level.
const BAR: usize = 10;

/// What is shown.
pub(super) struct View {
    pub(super) me: DeviceId,
    pub(super) group: String,
    pub(super) bitrate: u32,
    pub(super) state: CallState,
    pub(super) progress: (usize, usize),
    /// Others to whom there is a way, or is none any more.
    pub(super) ways: BTreeMap<DeviceId, bool>,
    /// Whom the server for calls brings.
    pub(super) brought: Brought,
    pub(super) levels: BTreeMap<Option<DeviceId>, f32>,
    pub(super) muted: bool,
    pub(super) hand: bool,
    pub(super) notice: String,
    /// Whether the server that carries it can hear it.
    pub(super) is_clear: bool,
}

impl View {
    /// Takes in what happens.
    pub(super) fn take(&mut self, told: &Told) {
        match told {
            Told::State(state) => {
                self.ways.retain(|device, _| state.natives().any(|it| it.device == *device));
                self.is_clear &= state.topology != CallTopology::Mesh;
                let muted = |state: &CallState| {
                    state.natives().find(|it| it.device == self.me).map(|it| it.muted)
                };
                let (was, now) = (muted(&self.state), muted(state));
                if now.is_some_and(|now| is_muted_by_another(was, self.muted, now)) {
                    self.muted = true;
                    "Somebody who may has muted you".clone_into(&mut self.notice);
                }
                self.state = (**state).clone();
            }
            Told::Sound(Happened::Connected(device)) => drop(self.ways.insert(*device, true)),
            Told::Sound(Happened::Broken(device)) => drop(self.ways.remove(device)),
            Told::Sound(Happened::Failed(device)) => drop(self.ways.insert(*device, false)),
            Told::Sound(Happened::Progress(connected, of)) => self.progress = (*connected, *of),
            Told::Sound(Happened::Levels(levels)) => self.levels.clone_from(levels),
            Told::Sound(Happened::SinkFailed(kind)) => {
                self.notice = format!("What is heard can no longer be written: {kind}");
            }
            Told::Sound(Happened::Served(served)) => self.served(served),
            Told::Sound(
                Happened::Abroad(..)
                | Happened::Refused(..)
                | Happened::Say { .. }
                | Happened::Quality(_),
            )
            | Told::Signalled(..) => {}
            Told::Moves { refused, .. } => {
                self.notice = refused.clone().unwrap_or_else(|| {
                    "Somebody is not reached: the server for bigger calls is to carry the call"
                        .to_owned()
                });
            }
            Told::Clear { taken } => {
                self.is_clear = *taken;
                if !taken {
                    NOT_TAKEN.clone_into(&mut self.notice);
                }
            }
            Told::Untold(_, why) => self.notice.clone_from(why),
            Told::Away(error) => self.notice = format!("{error}; the call goes on, trying again"),
            Told::Back => self.notice.clear(),
        }
    }

    fn served(&mut self, served: &Served) {
        match served {
            Served::Brings(brought) => self.brought = brought.clone(),
            Served::Cut => CUT.clone_into(&mut self.notice),
            Served::NotLetSpeak => self.notice = Over::Ended.to_string(),
            Served::Joined | Served::Published | Served::Resumed | Served::Over(Over::Left) => {
                self.notice.clear();
            }
            Served::Over(why) => {
                self.brought = Brought::default();
                self.notice = why.to_string();
            }
        }
    }

    /// What a key means.
    pub(super) fn key(&mut self, key: KeyEvent) -> Option<Command> {
        if key.kind == KeyEventKind::Release {
            return None;
        }
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                Some(Command::Leave)
            }
            KeyCode::Char('m' | 'M') => {
                self.muted = !self.muted;
                Some(Command::Mute(self.muted))
            }
            KeyCode::Char('h' | 'H') => {
                self.hand = !self.hand;
                Some(Command::Hand(self.hand))
            }
            KeyCode::Char('q' | 'Q') => Some(Command::Leave),
            _ => None,
        }
    }

    /// The rows, the last of which says the keys.
    pub(super) fn rows(&self) -> Vec<String> {
        let count = self.state.participants.len();
        let (connected, of) = self.progress;
        let by = match self.state.topology {
            CallTopology::Mesh => "each talks to each",
            CallTopology::Prepare | CallTopology::Dual => "moving to the server",
            CallTopology::Sfu if self.is_clear => "by the server",
            CallTopology::Sfu => "by the server, which can see who is in it, not what is said",
            CallTopology::Shrink => "moving away from the server",
            CallTopology::Reconnecting => "the server is away",
            CallTopology::Ended => "over",
            CallTopology::Unknown => "in a way that is newer than this client",
        };
        let mut rows = vec![
            format!("Call in {}: {count} in it, {by}, connected {connected}/{of}", self.group),
            format!("About {} kbit/s each way", kbps(self.bitrate, count)),
            String::new(),
        ];
        rows.extend(self.state.natives().map(|it| self.person(it)));
        rows.extend(self.state.guests().map(|it| self.guest(it)));
        rows.push(if self.is_clear { CLEAR.to_owned() } else { String::new() });
        rows.push(self.notice.clone());
        rows.push(KEYS.to_owned());
        rows.iter().map(|row| one_line(row)).collect()
    }

    fn person(&self, it: &CallParticipant) -> String {
        let is_me = it.device == self.me;
        let way = match self.ways.get(&it.device) {
            _ if is_me => "you",
            _ if it.lost => "lost",
            Some(true) => "connected",
            _ if self.brought.heard.contains(&it.device) => "by server",
            _ if self.brought.sealed.contains(&it.device) => "no key",
            Some(false) => "no way",
            None => "connecting",
        };
        let whose = (!is_me).then_some(it.device);
        let level = self.levels.get(&whose).copied().unwrap_or_default();
        let (muted, hand) = if is_me { (self.muted, self.hand) } else { (it.muted, it.hand) };
        let speaks = if level > SPEAKS && !muted { "speaks" } else { "" };
        format!(
            "  {:<28} {way:<10} [{:<BAR$}] {speaks:<6} {} {}",
            it.account.to_string(),
            bar(level),
            if muted { "muted" } else { "     " },
            if hand { "hand up" } else { "" }
        )
    }

    fn guest(&self, it: &CallGuest) -> String {
        let device = stand_in(it);
        let way = if self.brought.heard.contains(&device) { "by server" } else { "Matrix" };
        let level = self.levels.get(&Some(device)).copied().unwrap_or_default();
        let speaks = if level > SPEAKS && !it.muted { "speaks" } else { "" };
        let muted = if it.muted { "muted" } else { "     " };
        let hand = if it.hand { " hand up" } else { "" };
        let level = bar(level);
        format!("  {:<28} {way:<10} [{level:<BAR$}] {speaks:<6} {muted}{hand}", it.mirror)
    }

    /// Draws all of it.
    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let rows = self.rows();
        let last = rows.len().saturating_sub(1);
        let styled = rows.into_iter().enumerate().map(|(n, row)| {
            let modifier = match n {
                0 => Modifier::BOLD,
                n if n == last => Modifier::DIM,
                _ => Modifier::empty(),
            };
            Row::styled(row, Style::new().add_modifier(modifier))
        });
        frame.render_widget(Paragraph::new(styled.collect::<Vec<_>>()), frame.area());
    }
}

/// A level of 0 to 1, so that speech fills most of it.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 10")]
fn bar(level: f32) -> String {
    let filled = (level.clamp(0.0, 1.0).sqrt() * 10.0).round() as usize;
    "#".repeat(filled.min(BAR))
}
