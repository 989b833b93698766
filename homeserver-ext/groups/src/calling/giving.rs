//! What became of this device's frame keys on their way to the others. No network.
//!
//! That the server has taken a key says little: it may be gone a moment later, and then nobody has the key
//! though all go on to hear each other. So a key is taken for given once the server still answers a moment
//! after it took it, since it hands on at once what it has taken.

use std::time::Duration;

use causeway_protocol::ids::DeviceId;
use tokio::time::Instant;

use crate::calls::{Giving, Input};

/// After this what the server has taken is with all who are there.
const HANDED_ON: Duration = Duration::from_secs(1);
/// For so long it waits for keys to others, to ask once for all.
const TOGETHER: Duration = Duration::from_secs(3);

/// Keys that the server has taken, and not yet shown that it hands on.
#[derive(Debug, Default)]
pub(super) struct Given {
    taken: Vec<(Key, Instant)>,
    /// Of those, for which it is being asked.
    asked: Vec<(Key, Instant)>,
}

/// To whom, and which.
type Key = (DeviceId, u8);

impl Given {
    /// The server has taken one.
    pub(super) fn taken(&mut self, to: DeviceId, index: u8, now: Instant) {
        self.taken.push(((to, index), now));
    }

    /// When the server is to be asked anything, to see that it answers.
    pub(super) fn due(&self) -> Option<Instant> {
        let times = || self.taken.iter().map(|(_, at)| *at);
        let (oldest, newest) = (times().min()?, times().max()?);
        Some((newest + HANDED_ON).min(oldest + TOGETHER))
    }

    /// Something is asked now.
    pub(super) fn asks(&mut self, now: Instant) {
        let handed_on = |(_, at): &mut (Key, Instant)| *at + HANDED_ON <= now;
        self.asked.extend(self.taken.extract_if(.., handed_on));
    }

    /// Whether that was answered.
    pub(super) fn answered(&mut self, is_there: bool) -> Vec<Input> {
        let asked = std::mem::take(&mut self.asked);
        if !is_there {
            self.taken.extend_from_slice(&asked);
        }
        let giving = if is_there { Giving::Done } else { Giving::Held };
        asked.into_iter().map(|((to, index), _)| Input::Given { to, index, giving }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(n: u8) -> DeviceId {
        DeviceId::new([n; 32])
    }

    fn shown(inputs: Vec<Input>) -> Vec<(u8, u8, Giving)> {
        let one = |input| match input {
            Input::Given { to, index, giving } => (to.as_bytes()[0], index, giving),
            other => panic!("{other:?}"),
        };
        inputs.into_iter().map(one).collect()
    }

    #[test]
    fn a_key_is_given_once_the_server_answers_what_was_asked_a_second_later() {
        let (mut given, now) = (Given::default(), Instant::now());
        let later = |ms| now + Duration::from_millis(ms);
        assert_eq!(given.due(), None);
        given.taken(device(1), 4, now);
        given.taken(device(2), 4, later(500));
        assert_eq!(given.due(), Some(later(1_500)));
        // Asked too early it says nothing of either.
        given.asks(later(999));
        assert_eq!(shown(given.answered(true)), []);
        given.asks(later(1_499));
        assert_eq!(given.due(), Some(later(1_500)), "of the other");
        assert_eq!(shown(given.answered(true)), [(1, 4, Giving::Done)]);
        given.asks(later(1_500));
        assert_eq!(shown(given.answered(true)), [(2, 4, Giving::Done)]);
        assert_eq!((given.due(), shown(given.answered(true))), (None, vec![]));
    }

    #[test]
    fn it_is_held_up_while_the_server_does_not_answer() {
        let (mut given, now) = (Given::default(), Instant::now());
        given.taken(device(1), 4, now);
        for n in 1..=3 {
            given.asks(now + HANDED_ON * n);
            assert_eq!(shown(given.answered(false)), [(1, 4, Giving::Held)]);
            assert_eq!(given.due(), Some(now + HANDED_ON), "it is asked again");
        }
        given.asks(now + HANDED_ON * 4);
        assert_eq!(shown(given.answered(true)), [(1, 4, Giving::Done)]);
    }

    #[test]
    fn however_many_follow_it_is_asked_in_time() {
        let (mut given, now) = (Given::default(), Instant::now());
        (0..100_u8).for_each(|n| given.taken(device(n), 0, now + HANDED_ON / 2 * u32::from(n)));
        assert_eq!(given.due(), Some(now + TOGETHER));
    }
}
