//! SIGKILL at random moments: nothing lost, nothing doubled, the order kept.
//!
//! A failing run prints its seed; `CAUSEWAY_SEED=<seed>` makes the same choices again.

use std::{thread, time::Duration};

use serde_json::Value;

use crate::{
    cli_pairwise::{group_of, pairwise},
    cli_world::{Person, Running, World, own_texts, texts},
};

const MESSAGES: usize = 600;
const KILLS: usize = 25;

/// Small, fast, and the same for the same seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let named = std::env::var("CAUSEWAY_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = named.unwrap_or_else(|| {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes).unwrap();
            u64::from_le_bytes(bytes) | 1
        });
        println!("CAUSEWAY_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % bound
    }

    /// How many lines a sender has printed when it is killed: those of the rounds before come again
    /// first.
    fn place(&mut self, round: usize) -> usize {
        (round * MESSAGES / KILLS + self.below(2 * MESSAGES / KILLS)).min(MESSAGES)
    }

    /// A moment that no step of the client is tied to.
    fn moment(&mut self) {
        thread::sleep(Duration::from_micros(self.below(40_000) as u64));
    }
}

#[test]
fn a_sender_killed_at_random_sends_each_line_once_and_in_order() {
    let mut dice = Dice::new();
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let lines: Vec<String> = (0..MESSAGES).map(|n| format!("message {n}")).collect();
    let mut reader = Reader::of(&bob);
    for round in 0..KILLS {
        let mut sender = feed(&alice, &lines);
        for _ in 0..dice.place(round) {
            sender.next();
        }
        dice.moment();
        sender.kill();
    }
    let ids = alice.run_with(&["send", "team", "--lines", "--resume", "all"], &joined(&lines));
    assert!(ids.status.success(), "{}", ids.stderr);
    assert_eq!(ids.lines.len(), MESSAGES);
    while reader.read.len() < MESSAGES {
        reader.step();
    }
    reader.finish();
    assert_eq!(reader.texts(), lines);
    assert_eq!(own_texts(&alice.read()), lines);
}

#[test]
fn a_reader_killed_at_random_reads_each_message_once_and_in_order() {
    let mut dice = Dice::new();
    let world = World::new();
    let [alice, bob] = world.group(["alice", "bob"]);
    let lines: Vec<String> = (0..MESSAGES).map(|n| format!("message {n}")).collect();
    let sender = {
        let (alice, lines) = (alice.clone(), lines.clone());
        thread::spawn(move || {
            let sent = alice.run_with(&["send", "team", "--lines"], &joined(&lines));
            assert!(sent.status.success(), "{}", sent.stderr);
        })
    };
    let mut reader = Reader::of(&bob);
    for _ in 0..KILLS {
        for _ in 0..dice.below(MESSAGES / KILLS) {
            if reader.read.len() < MESSAGES {
                reader.step();
            }
        }
        dice.moment();
        // Every other time the reader has lost its place, and relies on what was marked as shown.
        reader.kill(dice.below(2) == 0);
    }
    sender.join().unwrap();
    while reader.texts().len() < MESSAGES {
        reader.step();
    }
    reader.finish();
    assert_eq!(reader.texts(), lines);
}

#[test]
fn both_sides_killed_at_random_lose_and_double_nothing_either_way() {
    let world = World::new();
    both_sides_are_killed(&world.group(["alice", "bob"]));
}

#[test]
fn nor_do_both_sides_of_a_pairwise_group() {
    let world = World::new();
    both_sides_are_killed(&pairwise(&world, ["alice", "bob"]));
}

#[test]
fn nor_do_both_sides_of_a_group_that_shares_a_key() {
    let world = World::new();
    both_sides_are_killed(&group_of(&world, ["alice", "bob"], "shared-key"));
}

fn both_sides_are_killed(people: &[Person; 2]) {
    let mut dice = Dice::new();
    let lines: Vec<String> = (0..MESSAGES).map(|n| format!("message {n}")).collect();
    let mut readers = [Reader::of(&people[0]), Reader::of(&people[1])];
    for round in 0..KILLS {
        let mut senders = [feed(&people[0], &lines), feed(&people[1], &lines)];
        for sender in &mut senders {
            for _ in 0..dice.place(round) {
                sender.next();
            }
        }
        dice.moment();
        let with_place = dice.below(2) == 0;
        readers[dice.below(2)].kill(with_place);
        for sender in senders {
            sender.kill();
        }
    }
    for (person, reader) in people.iter().zip(&mut readers) {
        let done =
            person.run_with(&["send", "team", "--lines", "--resume", "all"], &joined(&lines));
        assert!(done.status.success(), "{}", done.stderr);
        assert_eq!(done.lines.len(), lines.len());
        reader.since = reader.read.last().map(|line| line["row"].clone());
    }
    for reader in &mut readers {
        while reader.texts().len() < lines.len() {
            reader.step();
        }
        reader.finish();
        assert_eq!(reader.texts(), lines);
        assert_eq!(own_texts(&reader.read), lines);
    }
}

/// A sender that is given all lines at once, whatever becomes of it.
fn feed(person: &Person, lines: &[String]) -> Running {
    let mut sender =
        Running::start(person.command(&["send", "team", "--lines", "--resume", "all"]));
    sender.give(&joined(lines));
    sender
}

fn joined(lines: &[String]) -> String {
    lines.join("\n") + "\n"
}

/// Reads with `tail`, and keeps what it has read by row, as a careful program does.
struct Reader {
    person: Person,
    tail: Option<Running>,
    since: Option<Value>,
    read: Vec<Value>,
}

impl Reader {
    fn of(person: &Person) -> Self {
        let mut reader = Self { person: person.clone(), tail: None, since: None, read: Vec::new() };
        reader.start();
        reader
    }

    fn start(&mut self) {
        self.tail = Some(match &self.since {
            Some(row) => self.person.tail(&["--since", &row.to_string()]),
            None => self.person.tail(&[]),
        });
    }

    fn step(&mut self) {
        let line = self.tail.as_mut().unwrap().next().expect("tail ended by itself");
        self.take(line);
    }

    /// A line that was shown twice is the same line.
    fn take(&mut self, line: Value) {
        let row = line["row"].as_i64().unwrap();
        match self.read.binary_search_by_key(&row, |line| line["row"].as_i64().unwrap()) {
            Ok(at) => assert_eq!(self.read[at], line),
            Err(at) => {
                assert_eq!(at, self.read.len(), "a row came after a later one");
                self.read.push(line);
            }
        }
    }

    fn kill(&mut self, knows_its_place: bool) {
        for line in self.tail.take().unwrap().kill() {
            self.take(line);
        }
        let last = self.read.last().map(|line| line["row"].clone());
        self.since = if knows_its_place { last.or_else(|| Some(0.into())) } else { None };
        self.start();
    }

    fn finish(&mut self) {
        for line in self.tail.take().unwrap().kill() {
            self.take(line);
        }
        for line in self.person.read() {
            self.take(line);
        }
    }

    fn texts(&self) -> Vec<String> {
        texts(&self.read)
    }
}
