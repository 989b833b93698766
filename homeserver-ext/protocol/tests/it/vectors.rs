//! The vector files as JSON values, with short ways to what a test wants of them.

use std::sync::LazyLock;

use causeway_protocol::{
    ids::{Epoch, Seq},
    roster::{Log, Offer, Op},
};
use serde_json::Value;

pub(crate) static NATIVE: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../vectors/native.json")).unwrap());

pub(crate) static V2: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../vectors/v2.json")).unwrap());

/// What this JSON value says, in the words of a test.
pub(crate) trait Get {
    fn list(&self, name: &str) -> &[Value];
    fn text(&self, name: &str) -> &str;
    fn bytes(&self, name: &str) -> Vec<u8>;
    fn number(&self, name: &str) -> u64;
    fn flag(&self, name: &str) -> bool;

    fn array<const N: usize>(&self, name: &str) -> [u8; N] {
        self.bytes(name).try_into().unwrap()
    }

    /// A number of fewer bytes.
    fn small<T: TryFrom<u64>>(&self, name: &str) -> T {
        T::try_from(self.number(name)).unwrap_or_else(|_| panic!("{name} is too large"))
    }
}

impl Get for Value {
    fn list(&self, name: &str) -> &[Value] {
        self[name].as_array().unwrap_or_else(|| panic!("no list {name}"))
    }

    fn text(&self, name: &str) -> &str {
        self[name].as_str().unwrap_or_else(|| panic!("no text {name}"))
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        unhex(&self[name])
    }

    fn number(&self, name: &str) -> u64 {
        self[name].as_u64().unwrap_or_else(|| panic!("no number {name}"))
    }

    fn flag(&self, name: &str) -> bool {
        self[name].as_bool().unwrap_or_else(|| panic!("no flag {name}"))
    }
}

pub(crate) fn unhex(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("hex")).expect("hex")
}

/// A history of installed ops.
pub(crate) fn log(ops: &[Value]) -> Log {
    let mut ops = ops.iter().map(|op| Op::parse(&unhex(op)).unwrap());
    let mut log = Log::begin(&ops.next().expect("a create")).unwrap();
    for op in ops {
        let offer = log.offer(&op);
        assert!(matches!(offer, Offer::Installed(_)), "{offer:?}");
    }
    log
}

/// A history whose ops came at these places of the mailbox.
pub(crate) fn placed_log(ops: &[Value], places: &[Value]) -> Log {
    let mut log = log(ops);
    for (epoch, place) in (0..).zip(places) {
        log.put_place(Epoch(epoch), Seq(place.as_u64().unwrap()));
    }
    log
}
