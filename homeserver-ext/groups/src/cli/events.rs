//! `events`: what happened in one's groups, as the server has noted it; a page, or as it happens.

use std::fmt::Write as _;

use causeway_protocol::{
    api::{EventKind, GroupEvent},
    ids::{GroupId, Seq, Timestamp},
};
use clap::Args;
use serde_json::json;

use super::{
    exit::Failure, follow::stopped, harmless::one_line, home::Home, local_time::LocalTime, names,
    print::Printer,
};
use crate::sdk::{Client, Followed, SdkError};

/// Arguments of `events`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Of this group only
    #[arg(long, allow_hyphen_values = true, value_name = "GROUP")]
    group: Option<String>,
    /// Begin behind the event with this number; else with the oldest, and with --follow now
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
    /// How many at most, 1 to 1,000
    #[arg(long, default_value_t = 100, value_name = "N", conflicts_with = "follow",
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    limit: u32,
    /// Go on with what happens from then on, until Ctrl-C
    #[arg(long)]
    follow: bool,
}

pub(super) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    let group = match &arguments.group {
        Some(name) => Some(names::group(&client, name).await?),
        None => None,
    };
    let after = arguments.after.map(Seq);
    if arguments.follow {
        return follow(&client, group, after, printer).await;
    }
    let from = Seq(after.map_or(0, |after| after.0.saturating_add(1)));
    let page = client.http().events(group, from, arguments.limit).await?;
    if let Some(gone) = page.gone {
        show_gone(gone, printer)?;
    }
    for event in &page.events {
        show(&client, event, printer).await?;
    }
    if let Some(next) = page.next {
        let after = next.0.saturating_sub(1);
        printer.quote(
            &format!("More with --after {after}"),
            &json!({"kind": "more", "after": after}),
        )?;
    } else if page.events.is_empty() && page.gone.is_none() {
        printer.remark("Nothing that the server keeps.");
    }
    Ok(())
}

async fn follow(
    client: &Client,
    group: Option<GroupId>,
    after: Option<Seq>,
    printer: Printer,
) -> Result<(), Failure> {
    let stop = stopped()
        .map_err(|e| Failure::failed(format!("signals cannot be heard: {e}")).next("Try again."))?;
    let mut stop = std::pin::pin!(stop);
    let mut feed = client.http().event_feed(group, after)?;
    loop {
        let followed = tokio::select! {
            () = &mut stop => return Ok(()),
            followed = feed.next() => followed,
        };
        match followed {
            Ok(Followed::Event(event)) => show(client, &event, printer).await?,
            Ok(Followed::Gone(until)) => show_gone(until, printer)?,
            Err(error) if error.is_transient() => printer.note(&format!("{error}; trying again")),
            Err(error) => return Err(error.into()),
        }
    }
}

async fn show(client: &Client, event: &GroupEvent, printer: Printer) -> Result<(), Failure> {
    let name = match client.roster(event.group).await {
        Ok(roster) => roster.policy().name.clone(),
        // What happened before this device was let in, or in a group that it has let go of.
        Err(SdkError::UnknownGroup(group)) => group.to_string(),
        Err(error) => return Err(error.into()),
    };
    printer.quote(&event_line(event, &name, client.now()), event)
}

fn show_gone(until: Seq, printer: Printer) -> Result<(), Failure> {
    printer.quote(&gone_line(until), &json!({"kind": "gone", "until": until}))
}

/// An event of the group that is called `group`, for a person, in one line.
pub fn event_line(event: &GroupEvent, group: &str, now: Timestamp) -> String {
    let time = LocalTime::new(now);
    let at = time.of(event.at_ms);
    one_line(&format!("#{} {at} [{group}] {}", event.id, said(event, &time)))
}

/// That of the events up to this one some are missing.
pub fn gone_line(until: Seq) -> String {
    format!("-- of the events up to #{until} some are gone: the server keeps them no longer")
}

fn said(event: &GroupEvent, time: &LocalTime) -> String {
    let (who, about) = (&event.account, &event.about);
    let mut said = match event.kind {
        EventKind::GroupCreated => format!("{who} made the group"),
        EventKind::GroupJoined => format!("{who} came in"),
        EventKind::GroupLeft => format!("{who} is out"),
        EventKind::GroupClosed => format!("{who} closed the group"),
        EventKind::RosterChanged => match &about.op {
            Some(op) => format!("{who}: {op}"),
            None => format!("{who} changed the group"),
        },
        EventKind::KeyRotated => format!("{who} began a new key"),
        EventKind::KeyFailed => format!("{who} could not open messages"),
        EventKind::KeyAsked => format!("{who} asked everybody for new keys"),
        EventKind::MessageExpired => format!("a message of {who} expired before all had it"),
        EventKind::MessageFailed => format!("a message of {who} cannot arrive at somebody"),
        EventKind::Unknown => format!("{who}: something that this client does not know"),
    };
    if let Some(by) = &about.by {
        let _ = write!(said, ", by {by}");
    }
    if let (Some(count @ 2..), Some(since)) = (about.count, about.since_ms) {
        let _ = write!(said, ", {count} times since {}", time.of(since));
    }
    if let Some(epoch) = about.epoch {
        let _ = write!(said, " [epoch {epoch}]");
    }
    said
}
