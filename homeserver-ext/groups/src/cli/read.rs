//! `history` and `search`: what is kept, read again. Neither needs a server, nor marks anything as
//! shown.

use causeway_protocol::ids::GroupId;
use clap::{Args, Subcommand};

use super::{
    exit::Failure, history, home::Home, line::Line, local_time::LocalTime, names, print::Printer,
    share,
};
use crate::sdk::Client;

/// Lines that are shown where nothing else is said.
const LINES: u32 = 50;
const MOST_LINES: i64 = 10_000;

/// Arguments of `history`.
#[derive(Debug, Args)]
pub(super) struct HistoryArguments {
    #[command(subcommand)]
    command: Option<HistoryCommand>,
    /// The group: its name, its id, or the first characters of its id
    #[arg(required = true, allow_hyphen_values = true)]
    group: Option<String>,
    /// Show the last lines before this row
    #[arg(long, value_name = "ROW")]
    before: Option<i64>,
    /// Show the first lines after this row
    #[arg(long, value_name = "ROW", conflicts_with = "before")]
    after: Option<i64>,
    /// Show so many lines at most
    #[arg(long, default_value_t = LINES, value_parser = clap::value_parser!(u32).range(1..=MOST_LINES),
          value_name = "N")]
    limit: u32,
}

/// What else is done with a history.
#[derive(Debug, Subcommand)]
pub(super) enum HistoryCommand {
    /// Give texts of before to a member who came later; who gets them sees that they are from you, and
    /// that nobody has verified them
    ///
    /// What you have read in the group yourself, and what you have said, goes to all devices that the member has now. A
    /// text keeps its words, and loses its formatting. 1.4 MB go at once.
    #[command(
        after_help = "Examples:\n  causeway-client history share team bob                     # all of it; asks before\n  causeway-client history share team bob --last 100\n  causeway-client history share team bob --since 7d --yes\n  causeway-client history share team alice --since 2026-11-01 --until 2026-11-08"
    )]
    Share(share::Arguments),
}

/// Arguments of `search`.
#[derive(Debug, Args)]
pub(super) struct SearchArguments {
    /// What was said; capitals and small letters are the same
    #[arg(required = true)]
    text: Vec<String>,
    /// Look in this group only
    #[arg(long, allow_hyphen_values = true, value_name = "GROUP")]
    group: Option<String>,
    /// Show the last lines before this row
    #[arg(long, default_value_t = i64::MAX, hide_default_value = true, value_name = "ROW")]
    before: i64,
    /// Show so many lines at most
    #[arg(long, default_value_t = LINES, value_parser = clap::value_parser!(u32).range(1..=MOST_LINES),
          value_name = "N")]
    limit: u32,
}

pub(super) async fn history(
    arguments: HistoryArguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    if let Some(HistoryCommand::Share(arguments)) = arguments.command {
        return share::run(arguments, home, printer).await;
    }
    let client = home.client().await?;
    let group = names::kept(&client, &arguments.group.unwrap_or_default()).await?;
    let limit = arguments.limit;
    let lines = match (arguments.after, arguments.before) {
        (Some(row), _) => history::after_in(&client, group, row, limit).await?,
        (None, row) => history::before(&client, group, row.unwrap_or(i64::MAX), limit).await?,
    };
    show(&client, &lines, printer)?;
    let (Some(first), Some(last)) = (lines.first(), lines.last()) else {
        printer.remark("Nothing is kept of this group there.");
        return Ok(());
    };
    if lines.len() >= usize::try_from(limit).unwrap_or(usize::MAX) {
        printer.remark(&match arguments.after {
            Some(_) => format!("There may be more: --after {}", last.row),
            None => format!("There may be more: --before {}", first.row),
        });
    }
    Ok(())
}

pub(super) async fn search(
    arguments: SearchArguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    let group: Option<GroupId> = match &arguments.group {
        Some(name) => Some(names::kept(&client, name).await?),
        None => None,
    };
    let limit = usize::try_from(arguments.limit).unwrap_or(usize::MAX);
    let words = arguments.text.join(" ");
    let lines = history::search(&client, group, &words, arguments.before, limit).await?;
    show(&client, &lines, printer)?;
    match lines.first() {
        None => printer.remark("Nobody has said that, as far as is kept here."),
        Some(first) if lines.len() == limit => {
            printer.remark(&format!("There may be more: --before {}", first.row));
        }
        Some(_) => {}
    }
    Ok(())
}

fn show(client: &Client, lines: &[Line], printer: Printer) -> Result<(), Failure> {
    let time = LocalTime::new(client.now());
    lines.iter().try_for_each(|line| printer.quote(&line.to_text(&time, printer.called()), line))
}
