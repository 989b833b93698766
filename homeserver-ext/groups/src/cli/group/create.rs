//! `group create`: a group with oneself as its admin.

use causeway_protocol::{roster, visible::shows_something};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::super::{
    exit::Failure,
    home::Home,
    print::Printer,
    scheme::{Algorithm, Scheme},
};
use crate::{machine::NewGroup, schemes::legacy::Suite};

/// Most bytes of a name: what the roster has place for (protocol §3.2).
const MAX_NAME: usize = 255;
/// Most bytes of a topic: every client of the group keeps it, and its room shows it.
const MAX_TOPIC: usize = 4_096;

/// Arguments of `group create`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What it is called
    name: String,
    /// What it is about
    #[arg(long, default_value = "", value_name = "TEXT")]
    description: String,
    /// Let every member let people in, not admins only
    #[arg(long)]
    members_may_add: bool,
    /// Let only admins write
    #[arg(long)]
    channel: bool,
    /// How messages are sealed; stays so for as long as the group lives
    #[arg(long, value_enum, default_value_t = Scheme::SenderKeys, value_name = "SCHEME")]
    scheme: Scheme,
    /// The cipher of a group that shares a key; AES-256-GCM where none is named
    #[arg(long, value_enum, value_name = "ALGORITHM")]
    algorithm: Option<Algorithm>,
    /// Speak a suite of before, for clients that know no other; `group upgrade` ends that, for good
    #[arg(long, value_enum, value_name = "SUITE")]
    legacy: Option<Legacy>,
    /// Most members, bridge included [default: 1000; of a pairwise group 500, of one that shares a key 10000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "N")]
    max_members: Option<u32>,
    /// Days that messages are kept for whoever has not read them
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=30),
          value_name = "DAYS")]
    keep: u32,
}

/// A suite of before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Legacy {
    /// That of seed 001: nothing but the ciphertext is signed, and members alone keep order
    #[value(name = "opus_v1")]
    OpusV1,
    /// That of seed 004, as its vectors read it: the same, and keys are wrapped once more inside Olm
    #[value(name = "ren_a")]
    RenA,
}

pub(super) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    check_name(&arguments.name)?;
    check_topic(&arguments.description)?;
    let scheme = roster::Scheme::from(arguments.scheme);
    let max_members = arguments.max_members.unwrap_or_else(|| scheme.max_members());
    check_members(scheme, max_members)?;
    if arguments.algorithm.is_some() && scheme != roster::Scheme::SharedKey {
        return Err(Failure::usage("only of a group that shares a key the algorithm is chosen")
            .next("Add `--scheme shared-key`, or leave `--algorithm` out."));
    }
    if arguments.legacy.is_some() && scheme != roster::Scheme::SenderKeys {
        return Err(Failure::usage("a legacy suite is one of Sender Keys")
            .next("Leave --scheme out, or --legacy."));
    }
    let client = home.client().await?;
    let new = NewGroup {
        scheme,
        suite: arguments.algorithm.map(Algorithm::suite),
        name: arguments.name.clone(),
        description: arguments.description,
        members_may_add: arguments.members_may_add,
        is_channel: arguments.channel,
        max_members,
        ttl_s: arguments.keep * 24 * 60 * 60,
    };
    let group = match arguments.legacy {
        Some(Legacy::OpusV1) => client.create_legacy_group(Suite::OpusV1, new).await?,
        Some(Legacy::RenA) => client.create_legacy_group(Suite::RenA, new).await?,
        None => client.create_group(new).await?,
    };
    let text = format!(
        "Made `{}`: {group}\nLet people in with `causeway-client invite create {}`.",
        arguments.name,
        quoted(&arguments.name),
    );
    printer.show(&text, &json!({"group": group, "name": arguments.name}))
}

/// What a group may be called.
///
/// # Errors
/// Nobody would see anything of it, it is more than a line, or longer than the roster has place for.
pub(super) fn check_name(name: &str) -> Result<(), Failure> {
    if !shows_something(name) {
        return Err(Failure::usage("a group needs a name")
            .next("Give it one line, with characters that can be seen."));
    }
    if name.chars().any(char::is_control) {
        return Err(Failure::usage("a group's name is one line, without control characters")
            .next("Say more in its topic: `causeway-client group topic`."));
    }
    fits(name, MAX_NAME, "a group's name")
}

/// How many a group may have.
///
/// # Errors
/// More than its scheme carries.
fn check_members(scheme: roster::Scheme, members: u32) -> Result<(), Failure> {
    let most = scheme.max_members();
    if members <= most {
        return Ok(());
    }
    let (which, why, next) = match scheme {
        roster::Scheme::Pairwise => (
            "a pairwise group",
            "each message is sealed for each device",
            "Make a Sender Keys group, which carries 1,000: `--scheme sender-keys`, or no `--scheme`.",
        ),
        roster::Scheme::SenderKeys | roster::Scheme::SharedKey => (
            "such a group",
            "each device gives its keys to each other",
            "Make one that shares a key, which carries 10,000: `--scheme shared-key`.",
        ),
    };
    let found =
        format!("{which} has at most {most} members, because {why}; you asked for {members}");
    Err(Failure::usage(found).next(next))
}

/// What may be said of what a group is about.
///
/// # Errors
/// Nobody would see anything of it, or it is longer than a roster's entry should be.
pub(super) fn check_topic(topic: &str) -> Result<(), Failure> {
    if !topic.is_empty() && !shows_something(topic) {
        return Err(Failure::usage("a group's topic needs a character that can be seen")
            .next("An empty one, \"\", is none."));
    }
    fits(topic, MAX_TOPIC, "a group's topic")
}

fn fits(text: &str, most: usize, what: &str) -> Result<(), Failure> {
    if text.len() <= most {
        return Ok(());
    }
    let found = format!("{what} has at most {most} bytes; this one has {}", text.len());
    Err(Failure::usage(found).next("Say it shorter."))
}

/// As a shell takes it for one word.
fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !name.is_empty() && name.chars().all(plain) {
        name.to_owned()
    } else {
        format!("'{}'", name.replace('\'', r"'\''"))
    }
}
