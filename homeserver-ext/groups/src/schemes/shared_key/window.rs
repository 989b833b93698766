//! Which messages of one sender under one key were opened: none is shown twice.

use std::cmp::Ordering;

/// How far behind the newest a message may be.
const BACK: u64 = 1_024;
const WORDS: usize = 16;

/// The message was opened before, or is from before the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Replay {
    /// Opened before.
    #[error("this message was opened before")]
    Seen,
    /// More than 1,023 messages behind the newest: whether it was opened is not known any more.
    #[error("this message is too far behind the newest")]
    TooOld,
}

/// The last 1,024 counters of one sender under one key: it moves only after a message has opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Window {
    /// The newest that was opened; `None` before the first.
    newest: Option<u64>,
    /// Bit n: the counter n below the newest was opened.
    opened: [u64; WORDS],
}

impl Window {
    /// Whether the message may be opened.
    ///
    /// # Errors
    /// [`Replay`]
    pub fn check(&self, counter: u64) -> Result<(), Replay> {
        let Some(behind) = self.newest.and_then(|newest| newest.checked_sub(counter)) else {
            return Ok(());
        };
        if behind >= BACK {
            return Err(Replay::TooOld);
        }
        if self.has(behind) { Err(Replay::Seen) } else { Ok(()) }
    }

    /// Notes that it was opened; `false` where it may not be, and nothing is noted.
    pub fn open(&mut self, counter: u64) -> bool {
        if self.check(counter).is_err() {
            return false;
        }
        let newest = self.newest.unwrap_or(counter);
        match counter.cmp(&newest) {
            Ordering::Greater => self.shift(counter - newest),
            Ordering::Equal | Ordering::Less => {}
        }
        self.newest = Some(newest.max(counter));
        self.set(newest.max(counter) - counter);
        true
    }

    /// The counter after the newest that was opened: what a sender who forgot has used at least.
    pub fn next(&self) -> u64 {
        self.newest.map_or(0, |newest| newest.saturating_add(1))
    }

    /// The window as bytes: be64 counter after the newest, then 16 × be64.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = self.next().to_be_bytes().to_vec();
        bytes.extend(self.opened.iter().flat_map(|word| word.to_be_bytes()));
        bytes
    }

    /// The window that [`Self::encode`] wrote; `None` for any other bytes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (next, rest) = bytes.split_first_chunk()?;
        let (words, []) = rest.as_chunks::<8>() else { return None };
        let words: Vec<u64> = words.iter().map(|word| u64::from_be_bytes(*word)).collect();
        let opened = words.try_into().ok()?;
        Some(Self { newest: u64::from_be_bytes(*next).checked_sub(1), opened })
    }

    fn place(behind: u64) -> Option<(usize, u32)> {
        let word = usize::try_from(behind / 64).ok().filter(|word| *word < WORDS)?;
        Some((word, u32::try_from(behind % 64).ok()?))
    }

    fn has(&self, behind: u64) -> bool {
        let word =
            |(word, bit)| self.opened.get(word).is_some_and(|word: &u64| word >> bit & 1 == 1);
        Self::place(behind).is_some_and(word)
    }

    fn set(&mut self, behind: u64) {
        if let Some((word, bit)) = Self::place(behind)
            && let Some(word) = self.opened.get_mut(word)
        {
            *word |= 1 << bit;
        }
    }

    /// Everything is so much further behind the newest.
    fn shift(&mut self, by: u64) {
        let before = std::mem::take(&mut self.opened);
        for (index, word) in before.iter().enumerate() {
            let low = index as u64 * 64;
            for bit in (0..64).filter(|bit| word >> bit & 1 == 1) {
                self.set(low.saturating_add(bit).saturating_add(by));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The window says what a list of all that was opened would say.
        #[test]
        fn as_a_list_would(steps in proptest::collection::vec(prop_oneof![0..40_u64, 900..2_200_u64], 1..200)) {
            let (mut window, mut all) = (Window::default(), BTreeSet::new());
            for counter in steps {
                let newest = all.last().copied();
                let expected = match newest {
                    Some(newest) if newest >= counter + BACK => Err(Replay::TooOld),
                    _ if all.contains(&counter) => Err(Replay::Seen),
                    _ => Ok(()),
                };
                prop_assert_eq!(window.check(counter), expected);
                prop_assert_eq!(window.open(counter), expected.is_ok());
                if expected.is_ok() {
                    all.insert(counter);
                }
                prop_assert_eq!(Window::decode(&window.encode()), Some(window.clone()));
            }
        }
    }

    #[test]
    fn far_ahead_forgets_all() {
        let mut window = Window::default();
        assert!(window.open(0) && window.open(u64::MAX - 1));
        assert_eq!(window.check(0), Err(Replay::TooOld));
        assert_eq!(window.check(u64::MAX - 1), Err(Replay::Seen));
        assert_eq!(window.check(u64::MAX - 2), Ok(()));
    }
}
