//! A server on a loopback port, and people who speak to it with their own keys.

mod group;
mod person;
mod server;
mod stream;

pub(crate) use group::{Group, op_body, policy};
pub(crate) use person::{Person, list, record, sign, signing_key};
pub(crate) use server::{Answer, BRIDGE_TOKEN, SERVER, Server, TOKEN};
pub(crate) use stream::{Stream, text};

pub(crate) const MONTH_MS: u64 = 2_592_000_000;

pub(crate) fn json(body: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(body).unwrap()
}

pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}
