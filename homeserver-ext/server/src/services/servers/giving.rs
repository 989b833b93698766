//! How far a server was given what is for its devices, and from where it is given that again: a server that
//! was put back from a copy says that it has less than it had acknowledged (protocol §7.1).

use std::sync::Arc;

use causeway_protocol::link::{Gives, Had};

use super::mark::Mark;
use crate::storage::servers::given::Streams;

/// How far one server was given its rows, by their numbers here.
#[derive(Debug)]
pub(super) struct Giving {
    streams: Arc<Streams>,
    /// It has all up to here.
    acked: i64,
    /// All up to here is in frames of the present link.
    sent: i64,
    /// What it said that it has, where that is of no stream that is ours now.
    since: Option<Had>,
    /// What it said last, in its present link.
    heard: Option<Had>,
    /// From here on it is to be given all again; none: it is not.
    wants: Option<i64>,
    /// Up to here it had all before it was put back; none: it has that again.
    again_until: Option<i64>,
    /// What is given next does not reach back to what it has.
    has_gap: bool,
}

impl Giving {
    /// As stored: it has all up to `given`, 0 where nothing was ever given.
    pub(super) const fn new(streams: Arc<Streams>, given: i64) -> Self {
        let since = if given == 0 { Some(Had { stream: None, seq: 0 }) } else { None };
        Self {
            streams,
            acked: given,
            sent: given,
            since,
            heard: None,
            wants: None,
            again_until: None,
            has_gap: false,
        }
    }

    /// The server says what it has; a link of it `begins` with that, or it `knows` this server's link of now.
    /// What it said before in the same link may come later; and at a start the homeserver may show once more
    /// what came before that, which neither begins anything nor knows of it.
    pub(super) fn hear(&mut self, had: Had, begins: bool, knows: bool) {
        if self.heard.is_none() && !begins && !knows {
            return;
        }
        let mine = Some(self.streams.mine);
        let heard = self.heard.filter(|_| !begins);
        let is_old = heard.is_some_and(|heard| {
            heard.stream == mine && (had.stream != mine || had.seq < heard.seq)
        });
        if is_old || heard == Some(had) {
            return;
        }
        self.heard = Some(had);
        let since = (had.stream != mine).then_some(had);
        let is_for_other = since.is_some() && since != self.since && self.sent > self.acked;
        self.since = since;
        let has = self.number(had);
        self.wants = (has < self.acked || is_for_other).then_some(has.min(self.acked));
    }

    /// Which of my numbers that is.
    fn number(&self, had: Had) -> i64 {
        let seq = i64::try_from(had.seq).unwrap_or(i64::MAX);
        let Some(stream) = had.stream else { return 0 };
        if stream == self.streams.mine {
            return seq;
        }
        let former = self.streams.former.iter().find(|(former, _)| *former == stream);
        // Of a stream from after a copy of mine nothing is known but what was acknowledged before.
        former.map_or(self.acked, |(_, until)| seq.min(*until))
    }

    /// Up to which of my numbers it says that it has all, where nothing here knows that it was sent so much.
    pub(super) fn beyond(&self) -> Option<i64> {
        let had = self.heard.filter(|heard| heard.stream == Some(self.streams.mine))?;
        Some(self.number(had)).filter(|has| *has > self.sent)
    }

    /// From where on it is to be given all again.
    pub(super) const fn wants(&self) -> Option<i64> {
        self.wants
    }

    /// It is given all again behind `after`. Something that it has not is not kept any more where that
    /// is before `kept_from`; whether it is.
    pub(super) fn begin_again(&mut self, after: i64, kept_from: i64) -> bool {
        let had = self.again_until.unwrap_or(self.acked).max(self.acked);
        self.again_until = (after < had).then_some(had);
        self.has_gap = after < kept_from.min(had);
        (self.acked, self.sent, self.wants) = (after, after, None);
        self.has_gap
    }

    /// A new link begins: all that is not acknowledged goes again.
    pub(super) const fn begin_link(&mut self) {
        self.sent = self.acked;
    }

    /// What a new frame gives in which this is the last of what is kept.
    pub(super) fn gives(&mut self, last: Option<i64>) -> Option<Gives> {
        let seq = last.filter(|last| *last > self.sent)?;
        let number = |of: i64| u64::try_from(of).unwrap_or(0);
        let gives = Gives {
            stream: self.streams.mine,
            after: number(self.sent),
            seq: number(seq),
            since: self.since,
            gap: std::mem::take(&mut self.has_gap),
        };
        self.sent = seq;
        Some(gives)
    }

    /// It has this.
    pub(super) fn has(&mut self, mark: Mark) {
        if let Some(seq) = mark.row() {
            self.acked = self.acked.max(seq);
        }
        if self.again_until.is_some_and(|until| until <= self.acked) {
            self.again_until = None;
        }
    }

    /// Of what is there for it up to `cursor` all is on its way: nothing more of what it lost comes.
    pub(super) fn is_put_up_to(&mut self, cursor: i64, last: Option<i64>) {
        if let Some(until) = self.again_until.filter(|until| *until <= cursor) {
            let until = last.unwrap_or(0).min(until);
            self.again_until = (self.acked < until).then_some(until);
        }
    }

    /// Whether it is being given what it had.
    pub(super) const fn is_again(&self) -> bool {
        self.again_until.is_some()
    }
}

#[cfg(test)]
mod tests {
    use causeway_protocol::ids::StreamId;

    use super::*;

    const MINE: StreamId = StreamId::new([1; 16]);
    const FORMER: StreamId = StreamId::new([2; 16]);
    const OTHER: StreamId = StreamId::new([3; 16]);

    fn giving(given: i64) -> Giving {
        let streams = Streams { mine: MINE, former: vec![(FORMER, 50)], opened: 0 };
        Giving::new(Arc::new(streams), given)
    }

    fn had(stream: StreamId, seq: u64) -> Had {
        Had { stream: Some(stream), seq }
    }

    #[test]
    fn who_has_less_than_he_acknowledged_is_given_it_again() {
        let nothing = Had::default();
        let table = [
            (100, had(MINE, 100), None),
            (100, had(MINE, 150), None),
            (100, had(MINE, 99), Some(99)),
            (100, nothing, Some(0)),
            (0, nothing, None),
            // Mine was put back, and what came after its copy is numbered anew.
            (100, had(FORMER, 40), Some(40)),
            (100, had(FORMER, 80), Some(50)),
            (50, had(FORMER, 80), None),
            (100, had(OTHER, 1), None),
        ];
        for (given, said, wants) in table {
            let mut giving = giving(given);
            giving.hear(said, true, true);
            assert_eq!(giving.wants(), wants, "{given} {said:?}");
        }
    }

    #[test]
    fn who_has_more_than_was_sent_is_seen() {
        let mut giving = giving(100);
        assert_eq!(giving.beyond(), None);
        for (said, beyond) in [
            (had(MINE, 100), None),
            (had(MINE, 101), Some(101)),
            (had(MINE, u64::MAX), Some(i64::MAX)),
            (had(FORMER, 200), None),
            (had(OTHER, 200), None),
            (Had::default(), None),
        ] {
            giving.hear(said, true, true);
            assert_eq!(giving.beyond(), beyond, "{said:?}");
        }
    }

    #[test]
    fn what_it_said_before_in_the_same_link_does_not_count_and_in_another_does() {
        let mut giving = giving(100);
        giving.hear(had(MINE, 100), true, true);
        giving.hear(had(MINE, 90), false, true);
        giving.hear(Had::default(), false, true);
        assert_eq!(giving.wants(), None);
        giving.hear(had(MINE, 90), true, true);
        assert_eq!(giving.wants(), Some(90));
    }

    #[test]
    fn what_it_said_before_a_start_does_not_count_though_it_comes_once_more() {
        let mut giving = giving(100);
        giving.hear(had(MINE, 90), false, false);
        assert_eq!(giving.wants(), None);
        // So it was put back, and this server has begun anew since.
        giving.hear(had(MINE, 90), false, true);
        assert_eq!(giving.wants(), Some(90));
    }

    #[test]
    fn frames_say_what_they_give_and_behind_what() {
        let mut giving = giving(0);
        let since = Some(Had::default());
        let gives = |after, seq, since| Gives { stream: MINE, after, seq, since, gap: false };
        assert_eq!(giving.gives(None), None);
        assert_eq!(giving.gives(Some(7)), Some(gives(0, 7, since)));
        assert_eq!(giving.gives(Some(9)), Some(gives(7, 9, since)));
        giving.has(Mark::Rows(7));
        giving.hear(had(MINE, 7), false, true);
        assert_eq!((giving.wants(), giving.is_again()), (None, false));
        giving.begin_link();
        assert_eq!(giving.gives(Some(9)), Some(gives(7, 9, None)));
        giving.has(Mark::Rows(9));
        // It was put back, further than what is kept.
        giving.hear(had(MINE, 3), true, true);
        assert!(giving.begin_again(3, 5) && giving.is_again());
        assert_eq!(giving.gives(Some(6)), Some(Gives { gap: true, ..gives(3, 6, None) }));
        assert_eq!(giving.gives(Some(9)), Some(gives(6, 9, None)));
        giving.has(Mark::Rows(9));
        assert!(!giving.is_again());
    }

    #[test]
    fn what_it_lost_is_given_when_nothing_more_of_it_is_there() {
        let mut giving = giving(100);
        giving.hear(had(MINE, 3), true, true);
        assert!(!giving.begin_again(3, 0));
        giving.is_put_up_to(60, Some(50));
        assert!(giving.is_again());
        giving.is_put_up_to(120, Some(80));
        assert!(giving.is_again());
        giving.has(Mark::Rows(80));
        assert!(!giving.is_again());
    }
}
