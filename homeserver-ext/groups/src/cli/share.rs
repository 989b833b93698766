//! `history share`: a member gives what was said before to one who came later, on purpose.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt::Write as _,
    io::{IsTerminal as _, stdin},
};

use causeway_protocol::{
    ids::{AccountId, GroupId, Timestamp},
    olm_plaintext::{MAX_PAGE, MAX_PAGES, PastText},
};
use clap::Args;
use serde_json::json;

use super::{
    ask,
    exit::Failure,
    history,
    home::Home,
    line::{Message, Said},
    local_time::LocalTime,
    moment::{self, Typed},
    names,
    print::Printer,
};
use crate::{machine::ShareError, sdk::Client, storage::history::PAGE};

/// So much fits at most.
const MAX_BYTES: usize = MAX_PAGE * MAX_PAGES as usize;
/// So many names of whose texts they are.
const NAMED: usize = 5;

/// Arguments of `history share`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The group: its name, its id, or the first characters of its id
    #[arg(allow_hyphen_values = true)]
    group: String,
    /// To whom: `bob:b.example`, or `bob` of your own server; yourself, for your other devices
    #[arg(allow_hyphen_values = true)]
    account: String,
    /// Share what was said from then on: 7d (ago), 2026-11-27, or 2026-11-27T14:03
    #[arg(long, value_name = "WHEN", value_parser = moment::parse)]
    since: Option<Typed>,
    /// Share what was said before then
    #[arg(long, value_name = "WHEN", value_parser = moment::parse)]
    until: Option<Typed>,
    /// Share the last so many texts of that
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    last: Option<u32>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    let roster = names::to_change(&client, &arguments.group).await?;
    let (group, account) = (roster.group(), names::account(&client, &arguments.account)?);
    let member = roster.members().iter().find(|(_, member)| member.account == account);
    let Some((member, _)) = member else {
        return Err(Failure::failed(format!("{account} is not in this group"))
            .next("`causeway-client member list` shows who is."));
    };
    let found = Found::of(&client, group, &arguments).await?;
    let what = found.in_words(&account, &client);
    if found.texts.is_empty() {
        return Err(Failure::failed("there is nothing to share")
            .next("What others have shared with you, and what was imported, is not shared on."));
    }
    if !arguments.yes && !stdin().is_terminal() {
        return Err(Failure::usage(format!("{what}. Nothing was shared: nobody was asked"))
            .next("--yes shares it without asking."));
    }
    ask::agree(&format!("{what}. Share it?"), arguments.yes)?;
    let Found { texts, authors, from, to, .. } = found;
    let sharing = client.share_history(group, member, texts.into()).await?;
    give(&client, group, &sharing).await?;
    let mut text = format!("Shared {} texts with {account}.", sharing.texts);
    if sharing.left_out > 0 {
        let left_out = sharing.left_out;
        let _ = write!(text, " {left_out} are too long to be shared, and were left out.");
    }
    printer.show(
        &text,
        &json!({"group": group, "account": account, "share": sharing.share,
            "texts": sharing.texts, "left_out": sharing.left_out,
            "devices": sharing.devices.len(), "authors": authors, "from_ms": from, "to_ms": to}),
    )
}

/// Sends what is kept; what cannot go now goes later, and that is said.
async fn give(
    client: &Client,
    group: GroupId,
    sharing: &crate::machine::Sharing,
) -> Result<(), Failure> {
    let why = match client.chores().await {
        Ok(_) if !client.is_sharing(group, sharing).await? => return Ok(()),
        Ok(_) => "a device of theirs cannot be reached yet".to_owned(),
        Err(error) if error.is_transient() => error.to_string(),
        Err(error) => return Err(error.into()),
    };
    Err(Failure::pending(format!("kept, and not all of it is sent yet: {why}"))
        .next("The rest goes with the next `tail`, for a month; do not share it again."))
}

/// What would be shared.
struct Found {
    texts: VecDeque<PastText>,
    authors: BTreeSet<AccountId>,
    from: Timestamp,
    to: Timestamp,
}

impl Found {
    /// What this device has read in the group, or said itself: no more than a share has.
    async fn of(client: &Client, group: GroupId, wanted: &Arguments) -> Result<Self, Failure> {
        let now = client.now();
        let since = wanted.since.map_or(Timestamp(0), |since| since.at(now));
        let until = wanted.until.map_or(Timestamp(u64::MAX), |until| until.at(now));
        let last = wanted.last.map_or(usize::MAX, |last| last as usize);
        let (mut kept, mut bytes, mut row) = (VecDeque::new(), 0, 0);
        loop {
            let lines = history::after_in(client, group, row, PAGE).await?;
            let Some(line) = lines.last() else { break };
            row = line.row;
            for line in lines {
                // Who said it may be somebody else: that would be lost.
                let Said::Message(said @ Message { identity: None, .. }) = line.what else {
                    continue;
                };
                if said.sent_at_ms < since || said.sent_at_ms >= until {
                    continue;
                }
                bytes += said.body.len();
                kept.push_back(said);
                if kept.len() > last {
                    bytes -= kept.pop_front().map_or(0, |said| said.body.len());
                }
                if bytes > MAX_BYTES && wanted.last.is_none() {
                    return Err(too_much());
                }
            }
        }
        if bytes > MAX_BYTES {
            return Err(too_much());
        }
        Ok(Self::new(kept))
    }

    fn new(said: VecDeque<Message>) -> Self {
        let times = || said.iter().map(|said| said.sent_at_ms);
        let (from, to) = (times().min().unwrap_or_default(), times().max().unwrap_or_default());
        let authors = said.iter().map(|said| said.sender.clone()).collect();
        let text = |said: Message| PastText {
            device: said.device,
            client_id: said.client_id,
            sent_at: said.sent_at_ms,
            kind: said.kind,
            mirror: said.mirror.map(|mirror| mirror.id),
            body: said.body,
        };
        Self { texts: said.into_iter().map(text).collect(), authors, from, to }
    }

    fn in_words(&self, account: &AccountId, client: &Client) -> String {
        let time = LocalTime::new(client.now());
        let mut names: Vec<_> = self.authors.iter().take(NAMED).map(ToString::to_string).collect();
        if let Some(more) = self.authors.len().checked_sub(NAMED).filter(|more| *more > 0) {
            names.push(format!("{more} more"));
        }
        format!(
            "{} texts of {}, said from {} to {}, would be given to {account}, who sees that they are from you",
            self.texts.len(),
            names.join(", "),
            time.of(self.from),
            time.of(self.to),
        )
    }
}

fn too_much() -> Failure {
    Failure::usage(format!("this is more than a share has: {MAX_BYTES} bytes"))
        .next("Share it in parts, with --since and --until, or --last.")
}

impl From<ShareError> for Failure {
    fn from(error: ShareError) -> Self {
        match error {
            ShareError::Seal(error) => error.into(),
            ShareError::Machine(error) => error.into(),
            error @ (ShareError::NoDevice | ShareError::Bridge | ShareError::Channel) => {
                Self::failed(error).next("`causeway-client member list` shows who is in it.")
            }
            error @ ShareError::NotWho(_) => Self::failed(error).next(
                "Ask them by another way; then `causeway-client verify ACCOUNT`, or \
                 `causeway-client member accept`.",
            ),
            error @ ShareError::Nothing => Self::failed(error).next("Every text is too long."),
            ShareError::TooMuch(_) => too_much(),
            error @ ShareError::TooMany => {
                Self::failed(error).next("`causeway-client tail` gives them; then share again.")
            }
        }
    }
}
