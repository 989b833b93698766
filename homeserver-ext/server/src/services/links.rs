//! What a new device and the first one leave for each other while a device is linked (protocol §1.1).
//!
//! In memory on purpose: an offer lives for ten minutes, a restart forgets it, and both devices put
//! again what they have put. Nothing here is believed: the devices judge what they find.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use causeway_protocol::{
    api::{LinkState, SealedAnswer},
    device::DeviceRecord,
    device_link::{LINK_MS, MAX_LINK_BYTES},
    ids::{AccountId, LinkId, Timestamp},
};

use crate::quota::Household;

/// Offers at a time.
const MAX_OFFERS: usize = 10_000;
/// Of those, that one account has answered.
const MAX_ANSWERED: usize = 16;

/// Offers that have not ended.
#[derive(Debug, Default)]
pub(crate) struct Links(Mutex<Offers>);

#[derive(Debug, Default)]
struct Offers {
    by_id: HashMap<LinkId, Offer>,
    /// In the order in which they came, with when that was.
    order: VecDeque<(Timestamp, LinkId)>,
}

#[derive(Debug)]
struct Offer {
    by: Household,
    answer: Option<(AccountId, SealedAnswer)>,
    record: Option<DeviceRecord>,
}

/// Why an offer, or what belongs to it, was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LinkError {
    /// Put it again, or begin anew.
    #[error(
        "no such offer, or none that was answered: it ended after ten minutes, or the server was restarted"
    )]
    Unknown,
    /// Somebody else has the text.
    #[error("this offer has another {0} already")]
    Other(&'static str),
    /// Of what, bytes.
    #[error("an answer has at most {MAX_LINK_BYTES} bytes, and this has {0}")]
    TooLarge(usize),
    /// Until some have ended.
    #[error("this account answers {MAX_ANSWERED} offers already; they end after ten minutes")]
    TooMany,
    /// Milliseconds until one has ended.
    #[error("the server has as many offers as it takes")]
    Full(u64),
}

impl Links {
    /// Whether this offer is there.
    pub(crate) fn has(&self, now: Timestamp, id: &LinkId) -> bool {
        self.offers(now).by_id.contains_key(id)
    }

    /// Begins an offer; one that is there stays as it is, and ends when it would have.
    ///
    /// Where there is no room, the oldest that nobody has answered gives way, of whoever has most of
    /// those: so nobody fills the place for others. Its device puts it again.
    pub(crate) fn begin(&self, now: Timestamp, by: Household, id: LinkId) -> Result<(), LinkError> {
        let mut offers = self.offers(now);
        if offers.by_id.contains_key(&id) {
            return Ok(());
        }
        if offers.by_id.len() >= MAX_OFFERS && !offers.make_room() {
            let oldest = offers.order.front().map_or(now, |(came, _)| *came);
            return Err(LinkError::Full(oldest.plus_ms(LINK_MS).0.saturating_sub(now.0).max(1)));
        }
        offers.by_id.insert(id, Offer { by, answer: None, record: None });
        offers.order.push_back((now, id));
        Ok(())
    }

    /// What is there.
    pub(crate) fn state(&self, now: Timestamp, id: &LinkId) -> Option<LinkState> {
        let offers = self.offers(now);
        let Offer { answer, record, .. } = offers.by_id.get(id)?;
        let answer = answer.as_ref().map(|(_, answer)| answer.clone());
        Some(LinkState { answer, record: record.clone() })
    }

    /// Puts what a device of `account` answers.
    pub(crate) fn answer(
        &self,
        now: Timestamp,
        account: &AccountId,
        id: &LinkId,
        answer: SealedAnswer,
    ) -> Result<(), LinkError> {
        if answer.0.len() > MAX_LINK_BYTES {
            return Err(LinkError::TooLarge(answer.0.len()));
        }
        let mut offers = self.offers(now);
        let is_theirs = |offer: &&Offer| offer.answer.as_ref().is_some_and(|(by, _)| by == account);
        let answered = offers.by_id.values().filter(is_theirs).count();
        let offer = offers.by_id.get_mut(id).ok_or(LinkError::Unknown)?;
        match &offer.answer {
            // Whoever it is that shows the same.
            Some((_, known)) if *known == answer => Ok(()),
            Some(_) => Err(LinkError::Other("answer")),
            None if answered >= MAX_ANSWERED => Err(LinkError::TooMany),
            None => {
                offer.answer = Some((account.clone(), answer));
                Ok(())
            }
        }
    }

    /// Puts the new device's record, once it was answered.
    pub(crate) fn record(
        &self,
        now: Timestamp,
        id: &LinkId,
        record: DeviceRecord,
    ) -> Result<(), LinkError> {
        let mut offers = self.offers(now);
        let answered = offers.by_id.get_mut(id).filter(|offer| offer.answer.is_some());
        let offer = answered.ok_or(LinkError::Unknown)?;
        match &offer.record {
            Some(known) if *known == record => Ok(()),
            Some(_) => Err(LinkError::Other("record")),
            None => {
                offer.record = Some(record);
                Ok(())
            }
        }
    }

    /// Lets go of what has ended.
    pub(crate) fn let_go(&self, now: Timestamp) {
        drop(self.offers(now));
    }

    /// Those that have not ended.
    fn offers(&self, now: Timestamp) -> MutexGuard<'_, Offers> {
        let mut offers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((_, id)) =
            offers.order.pop_front_if(|(came, _)| came.plus_ms(LINK_MS) <= now)
        {
            offers.by_id.remove(&id);
        }
        offers
    }
}

impl Offers {
    /// Lets go of one offer that nobody has answered; whether there was one.
    fn make_room(&mut self) -> bool {
        let mut waiting = HashMap::<_, usize>::new();
        for offer in self.by_id.values().filter(|offer| offer.answer.is_none()) {
            *waiting.entry(offer.by).or_default() += 1;
        }
        let Some((most, _)) = waiting.into_iter().max_by_key(|(_, count)| *count) else {
            return false;
        };
        let is_theirs = |(_, id): &(Timestamp, LinkId)| {
            self.by_id.get(id).is_some_and(|offer| offer.by == most && offer.answer.is_none())
        };
        let Some(place) = self.order.iter().position(is_theirs) else { return false };
        let gone = self.order.remove(place);
        gone.is_some_and(|(_, id)| self.by_id.remove(&id).is_some())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use causeway_protocol::{
        api::SealedAnswer,
        device_link::LINK_MS,
        ids::{AccountId, LinkId, Timestamp},
    };

    use super::{Household, LinkError, Links, MAX_ANSWERED, MAX_OFFERS};

    fn house(n: usize) -> Household {
        IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(n).unwrap())).into()
    }

    fn id(n: usize) -> LinkId {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        LinkId::new(bytes)
    }

    #[test]
    fn there_are_so_many_offers_and_the_oldest_says_when_there_is_room() {
        let links = Links::default();
        for n in 0..MAX_OFFERS {
            assert_eq!(links.begin(Timestamp(1_000 + n as u64), house(n), id(n)), Ok(()));
            let by = format!("a{}:a.example", n / MAX_ANSWERED).parse().unwrap();
            // Of its own: counting those of an account walks over all of them.
            let mut offers = links.0.lock().unwrap();
            offers.by_id.get_mut(&id(n)).unwrap().answer = Some((by, SealedAnswer(vec![7; 9])));
        }
        let now = Timestamp(1_000 + MAX_OFFERS as u64);
        let left = LINK_MS - MAX_OFFERS as u64;
        let begin = |ms, n| links.begin(now.plus_ms(ms), house(1), id(n));
        assert_eq!(begin(0, MAX_OFFERS), Err(LinkError::Full(left)));
        assert_eq!(begin(0, 7), Ok(()), "it is there");
        assert_eq!(begin(left - 1, MAX_OFFERS), Err(LinkError::Full(1)));
        assert_eq!(begin(left, MAX_OFFERS), Ok(()));
        assert!(!links.has(now.plus_ms(left), &id(0)) && links.has(now.plus_ms(left), &id(1)));
        links.let_go(now.plus_ms(2 * LINK_MS));
        let offers = links.0.lock().unwrap();
        assert_eq!((offers.by_id.len(), offers.order.len()), (0, 0));
    }

    #[test]
    fn who_fills_the_place_makes_room_for_others() {
        let links = Links::default();
        let (alice, now) = ("alice:a.example".parse::<AccountId>().unwrap(), Timestamp(1));
        // Somebody's who waits, one that was answered, and then many of one address.
        links.begin(now, house(1), id(0)).unwrap();
        links.begin(now, house(9), id(1)).unwrap();
        links.answer(now, &alice, &id(1), SealedAnswer(vec![7; 99])).unwrap();
        for n in 2..MAX_OFFERS {
            links.begin(now, house(9), id(n)).unwrap();
        }
        for n in 0..100 {
            assert_eq!(links.begin(now, house(100 + n), id(MAX_OFFERS + n)), Ok(()));
            assert!(!links.has(now, &id(2 + n)), "the oldest of whoever has most");
        }
        assert!((0..2).all(|n| links.has(now, &id(n))), "a single one, and one that was answered");
        assert!((0..100).all(|n| links.has(now, &id(MAX_OFFERS + n))));
        let offers = links.0.lock().unwrap();
        assert_eq!((offers.by_id.len(), offers.order.len()), (MAX_OFFERS, MAX_OFFERS));
    }

    #[test]
    fn one_account_does_not_answer_all_of_them() {
        let links = Links::default();
        let [alice, bob] =
            ["alice:a.example", "bob:a.example"].map(|name| name.parse::<AccountId>().unwrap());
        let (now, answer) = (Timestamp(1), || SealedAnswer(vec![7; 99]));
        for n in 0..=MAX_ANSWERED {
            links.begin(now, house(n), id(n)).unwrap();
        }
        for n in 0..MAX_ANSWERED {
            assert_eq!(links.answer(now, &alice, &id(n), answer()), Ok(()));
        }
        let last = id(MAX_ANSWERED);
        assert_eq!(links.answer(now, &alice, &last, answer()), Err(LinkError::TooMany));
        assert_eq!(links.answer(now, &alice, &id(0), answer()), Ok(()), "it is there");
        assert_eq!(links.answer(now, &bob, &last, answer()), Ok(()));
    }
}
