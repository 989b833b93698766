//! History that a member gives on purpose to one who came later (protocol §2.2, type `H`).
//!
//! The words are the giver's, whoever is said to have said them: nobody has verified them, and
//! whoever shows them says so. They are no messages: nothing is answered, counted or carried on.

use std::collections::HashMap;

use causeway_protocol::{
    content::ContentType,
    device::DeviceOf,
    envelope::Kind,
    ids::{AccountId, DeviceId, Epoch, GroupId, MemberId, ShareId, Timestamp},
    olm_plaintext::{HistoryPage, MAX_PAGES, OlmPlaintext, PastText, Route},
    roster::{Log, Member, Role, is_dropped_in_channel},
};
use causeway_store::Tx;

use super::{Machine, MachineError, Needs, Past, SealError, Trust, reach::Reach, work::Work};
use crate::{
    entropy,
    storage::{
        Whole as _,
        accounts::KnownDevice,
        ops,
        owed::WAIT_MS,
        shares::{self, Came, Noted, Owed},
    },
};

/// Shares that may wait to be given at once.
const MAX_WAITING: i64 = 16;
/// Pages that are sealed for one device by one commit.
const PAGES_AT_ONCE: u16 = 8;
/// Clocks differ by no more than this.
const CLOCKS_MS: u64 = 24 * 3_600_000;

/// What is on its way to a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sharing {
    /// What it is called.
    pub share: ShareId,
    /// The devices that get it.
    pub devices: Vec<DeviceId>,
    /// Texts that are on its pages.
    pub texts: usize,
    /// Texts that are too long for a page, and stay here.
    pub left_out: usize,
}

/// Why nothing is shared.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// Nothing may be sent in this group now.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// There is nobody to give it to.
    #[error("this member has no other device in the group")]
    NoDevice,
    /// What the bridge reads, its server does, and the room.
    #[error("this is the bridge, whose server would read it: history is not shared with it")]
    Bridge,
    /// Only admins are heard there.
    #[error("only admins write in this group, and only they share what was said")]
    Channel,
    /// A person has not taken this identity for the account's.
    #[error("this member is not who that account is known to be ({0})")]
    NotWho(&'static str),
    /// No text fits.
    #[error("there is nothing to share")]
    Nothing,
    /// Share it in parts.
    #[error("this would be {0} pages, and a share has at most {MAX_PAGES}")]
    TooMuch(usize),
    /// Some have to go out first.
    #[error("{MAX_WAITING} shares wait to go out already")]
    TooMany,
    /// The machine itself failed.
    #[error(transparent)]
    Machine(#[from] MachineError),
}

/// What came of a page.
pub(super) enum Heard {
    New(Past),
    Known,
    /// More than is taken, which was said.
    Silently,
    /// An op that is not here may say that its giver is a member.
    NoRoster,
    Refused(&'static str),
}

impl Machine {
    /// Keeps `texts`, oldest first, for all devices of a member but this one; [`Self::chores`] gives them. The
    /// same account's other devices are meant where `to` is its own identity.
    ///
    /// # Errors
    /// [`ShareError`]: nothing is kept.
    pub async fn share_history(
        &self,
        tx: &mut Tx,
        now: Timestamp,
        group: GroupId,
        to: &MemberId,
        texts: Vec<PastText>,
    ) -> Result<Sharing, ShareError> {
        let mut work = Work::new(self, tx, now);
        let (_, log) = work.may_send(group).await?;
        let me = self.me().record.device_id;
        if !may_share(&log, &self.me().device()) {
            return Err(ShareError::Channel);
        }
        let member = log.head().member(to).ok_or(ShareError::NoDevice)?;
        if member.role == Role::Bridge {
            return Err(ShareError::Bridge);
        }
        let trust = work.trust(&member.account, to).await?;
        if trust.is_wrong() {
            return Err(ShareError::NotWho(trust.name()));
        }
        let devices: Vec<_> = member.devices.iter().filter(|device| **device != me).collect();
        if devices.is_empty() {
            return Err(ShareError::NoDevice);
        }
        let (laid, left_out) = HistoryPage::lay_out(texts);
        let pages = match u16::try_from(laid.len()) {
            Ok(0) => return Err(ShareError::Nothing),
            Ok(pages) if pages <= MAX_PAGES => pages,
            Ok(_) | Err(_) => return Err(ShareError::TooMuch(laid.len())),
        };
        let conn = work.conn();
        if shares::waiting(conn).await.map_err(MachineError::from)? >= MAX_WAITING {
            return Err(ShareError::TooMany);
        }
        let share = ShareId::new(entropy::bytes().map_err(MachineError::from)?);
        let texts = laid.iter().map(Vec::len).sum();
        let pages_of = (group, share, pages);
        let devices: Vec<DeviceId> = devices.into_iter().copied().collect();
        work.keep_pages(pages_of, laid).await?;
        for device in &devices {
            let owed = Owed { share, device: *device, group, pages, next_page: 0 };
            shares::owe(work.conn(), &owed, now).await.map_err(MachineError::from)?;
        }
        work.finish().await?;
        Ok(Sharing { share, devices, texts, left_out })
    }

    /// Whether something of a share has not reached the server yet.
    ///
    /// # Errors
    /// [`MachineError`].
    pub async fn is_sharing(
        &self,
        tx: &mut Tx,
        group: GroupId,
        sharing: &Sharing,
    ) -> Result<bool, MachineError> {
        let Sharing { share, devices, .. } = sharing;
        Ok(shares::is_waiting(tx.conn(), &group, share, devices).await?)
    }
}

impl Work<'_> {
    async fn keep_pages(
        &mut self,
        (group, share, pages): (GroupId, ShareId, u16),
        laid: Vec<Vec<PastText>>,
    ) -> Result<(), MachineError> {
        let (vault, me) = (self.vault(), self.machine.me().record.device_id);
        for (page, texts) in (0..pages).zip(laid) {
            // Whom it is for is put in when it is sealed.
            let route = Route { group, from: me, to: me };
            let page_of = HistoryPage { share, page, pages, texts };
            let bytes = OlmPlaintext::History(route, page_of).to_bytes();
            let bytes = bytes.whole("share_pages")?;
            shares::keep_page(self.conn(), vault, &share, page, &bytes).await?;
        }
        Ok(())
    }

    /// Gives what is to be shared, as far as there are sessions.
    pub(super) async fn give_shares(&mut self, needs: &mut Needs) -> Result<(), MachineError> {
        let now = self.now;
        for owed in shares::owed(self.conn(), now).await? {
            let log = match self.may_send(owed.group).await {
                Ok((_, log)) => log,
                Err(SealError::Machine(error)) => return Err(error),
                Err(SealError::NotMember(_) | SealError::Closed) => {
                    shares::let_go(self.conn(), &owed).await?;
                    continue;
                }
                Err(_) => {
                    shares::put_off(self.conn(), &owed, now.plus_ms(WAIT_MS)).await?;
                    continue;
                }
            };
            let head = log.head();
            let to = head.devices().find(|device| device.device_id == owed.device);
            let may_have = |to: &DeviceOf| !is_bridge(head.counts(to));
            let may_give = may_share(&log, &self.machine.me().device());
            let Some(to) = to.filter(may_have).filter(|_| may_give) else {
                shares::let_go(self.conn(), &owed).await?;
                continue;
            };
            let known = match self.reach(&log, &to).await? {
                Reach::Session(known) => known,
                other => {
                    let next = self.wait_for(other, needs);
                    shares::put_off(self.conn(), &owed, next).await?;
                    continue;
                }
            };
            self.give_pages(&owed, &known).await?;
        }
        Ok(())
    }

    async fn give_pages(&mut self, owed: &Owed, known: &KnownDevice) -> Result<(), MachineError> {
        let (vault, now) = (self.vault(), self.now);
        let mut next = owed.next_page;
        for page in (owed.next_page..owed.pages).take(PAGES_AT_ONCE.into()) {
            let kept = shares::page(self.conn(), vault, &owed.share, page).await?;
            let kept = OlmPlaintext::parse(&kept).whole("share_pages")?;
            let OlmPlaintext::History(route, texts) = kept else { break };
            let route = Route { to: owed.device, ..route };
            let bytes = OlmPlaintext::History(route, texts).to_bytes().whole("share_pages")?;
            if !self.send_direct(owed.group, known, Kind::Direct, &bytes).await? {
                shares::given(self.conn(), owed, next).await?;
                shares::put_off(self.conn(), owed, now.plus_ms(WAIT_MS)).await?;
                return Ok(());
            }
            next = page + 1;
        }
        shares::given(self.conn(), owed, next).await?;
        Ok(())
    }

    /// Judges a page that `peer` gave: by the newest roster, in which both of us are.
    pub(super) async fn hear_past(
        &mut self,
        (group, epoch): (GroupId, Epoch),
        peer: &KnownDevice,
        page: &HistoryPage,
    ) -> Result<Heard, MachineError> {
        let Some(log) = self.log(&group).await? else { return Ok(Heard::NoRoster) };
        let (head, me, by) = (log.head(), self.machine.me().device(), peer.record.device());
        let Some(mine) = head.counts(&me) else { return Ok(Heard::Refused("not_a_member")) };
        if mine.role == Role::Bridge || self.machine.0.follows_server {
            return Ok(Heard::Refused("not_for_a_bridge"));
        }
        let sharer = head.counts(&by).filter(|member| member.account == peer.account);
        let Some(sharer) = sharer else {
            let is_ahead = epoch > head.epoch();
            return Ok(if is_ahead { Heard::NoRoster } else { Heard::Refused("not_a_member") });
        };
        if is_bridge(Some(sharer)) {
            return Ok(Heard::Refused("not_by_a_bridge"));
        }
        if !may_share(&log, &by) {
            return Ok(Heard::Refused("dropped_in_channel"));
        }
        let trust: Trust = self.trust(&sharer.account, &by.member_id).await?;
        if trust.is_wrong() {
            return Ok(Heard::Refused(trust.name()));
        }
        let HistoryPage { share, page: number, pages, texts } = page;
        let (member, device) = (by.member_id, by.device_id);
        let came = Came { group, member, device, share: *share, page: *number, pages: *pages };
        let now = self.now;
        match shares::note(self.conn(), &came, now).await? {
            Noted::New => {}
            Noted::Known => return Ok(Heard::Known),
            Noted::Differs => return Ok(Heard::Refused("another_share")),
            Noted::TooManyBegun => return Ok(Heard::Refused("too_many_shares")),
            Noted::TooMany { is_first: true } => return Ok(Heard::Refused("too_much_shared")),
            Noted::TooMany { is_first: false } => return Ok(Heard::Silently),
        }
        let texts = match self.believed(&log, texts).await? {
            Ok(texts) => texts,
            Err(reason) => return Ok(Heard::Refused(reason)),
        };
        let by = sharer.account.clone();
        Ok(Heard::New(Past { by, by_member: member, share: *share, texts }))
    }

    /// The texts with the accounts that are said to have said them, if those have been in the group.
    async fn believed(
        &mut self,
        log: &Log,
        texts: &[PastText],
    ) -> Result<Result<Vec<(AccountId, PastText)>, &'static str>, MachineError> {
        let me = self.machine.me().record.device_id;
        let mut known: HashMap<DeviceId, Option<Member>> = HashMap::new();
        let mut believed = Vec::with_capacity(texts.len());
        for text in texts {
            if text.sent_at > self.now.plus_ms(CLOCKS_MS) {
                return Ok(Err("bad_date"));
            }
            let author = if let Some(author) = known.get(&text.device) {
                author.clone()
            } else {
                let author = self.who_was(log, &text.device).await?;
                known.insert(text.device, author.clone());
                author
            };
            let Some(author) = author else { return Ok(Err("author_not_in_group")) };
            if text.mirror.is_some() && author.role != Role::Bridge {
                return Ok(Err("not_the_bridge"));
            }
            // What this device has said it knows itself.
            if text.device != me {
                believed.push((author.account, text.clone()));
            }
        }
        Ok(Ok(believed))
    }

    /// The member whose device this is in the group, or was when it last counted.
    async fn who_was(
        &mut self,
        log: &Log,
        device: &DeviceId,
    ) -> Result<Option<Member>, MachineError> {
        let is_it = |of: &DeviceOf| of.device_id == *device;
        if let Some(of) = log.head().devices().find(is_it) {
            return Ok(log.head().counts(&of).cloned());
        }
        let went = log.entries().iter().rev().find_map(|entry| {
            let of = entry.taken_out.iter().find(|of| is_it(of))?;
            Some((*of, entry.epoch.0.checked_sub(1)?))
        });
        let Some((of, before)) = went else { return Ok(None) };
        let roster = ops::roster(self.conn(), &log.head().group(), Epoch(before)).await?;
        Ok(roster.counts(&of).cloned())
    }
}

/// Whether it is the bridge, which neither gives nor gets history.
fn is_bridge(member: Option<&Member>) -> bool {
    member.is_some_and(|member| member.role == Role::Bridge)
}

/// Whether a device is heard: of a channel's members the admins are.
fn may_share(log: &Log, device: &DeviceOf) -> bool {
    !is_dropped_in_channel(log.head(), device, ContentType::Text as u8)
}
