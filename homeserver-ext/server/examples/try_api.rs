//! A native server with people and a group in it, for programs that try its API, until standard
//! input ends: `cargo run -p causeway-server --example try_api`. What to try it with is printed as
//! `name=value`.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the harness is that of the tests"
)]

/// As in the tests.
#[path = "../tests/it/harness"]
mod harness {
    mod group;
    mod person;
    mod server;
    mod stream;

    pub(crate) use group::Group;
    pub(crate) use person::Person;
    pub(crate) use server::{Answer, SERVER, Server, TOKEN};
    pub(crate) use stream::Stream;

    pub(crate) const MONTH_MS: u64 = 2_592_000_000;

    pub(crate) fn json(body: &impl serde::Serialize) -> Vec<u8> {
        serde_json::to_vec(body).unwrap()
    }

    pub(crate) fn random<const N: usize>() -> [u8; N] {
        let mut bytes = [0; N];
        getrandom::fill(&mut bytes).unwrap();
        bytes
    }
}

use std::io;

use causeway_server::{AccountQuotas, EdgeLimits};
use harness::Server;

#[tokio::main]
async fn main() -> io::Result<()> {
    let server = Server::start_with(|config| {
        // Who is tried is not to be slowed down.
        config.edge = EdgeLimits { requests: None, per_address: 10_000, ..EdgeLimits::default() };
        config.accounts = AccountQuotas {
            envelopes: None,
            ops: None,
            op_kib: None,
            groups: None,
            keys: None,
            claims: None,
            lists: None,
            joins: None,
            link_joins: None,
            envelope_kib: None,
            ..AccountQuotas::default()
        };
    })
    .await;
    let (group, [alice, bob]) = server.group(["alice", "bob"]).await;
    let said = bob.say(&server, &group, &["hello"]).await;
    println!("base={}\ntoken={}\ngroup={}", server.base, bob.token, group.id());
    println!("account={}\nid={}", alice.account, said.accepted[0].id);
    io::copy(&mut io::stdin(), &mut io::sink())?;
    server.stop().await;
    Ok(())
}
