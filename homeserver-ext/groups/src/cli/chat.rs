//! `chat`: all groups on one screen, by keyboard; with what `tail` does beside it.
//!
//! One of `chat` and `tail` runs on a home, for both read the mailbox. What is on the screen is what
//! the database holds: `state.rs` says what a key makes of it, `draw.rs` how it looks, `keys.rs` which
//! key means what, and `run.rs` alone reads, writes and waits.

mod compose;
mod draw;
mod group;
mod keys;
mod load;
mod run;
#[cfg(test)]
mod sample;
mod state;
mod terminal;

use std::io::{IsTerminal as _, stdin, stdout};

use clap::Args;
use tokio::sync::{Notify, mpsc};

use super::{
    exit::Failure,
    follow::{Follower, only_one, stopped},
    home::Home,
    outbox,
    print::Printer,
};

use run::{Chat, Teller};
use terminal::Announce;
pub(super) use terminal::Screen;

/// Arguments of `chat`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How a new message in another group is announced
    #[arg(long, value_enum, default_value_t = Announce::Bell, value_name = "HOW")]
    announce: Announce,
}

pub(super) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    if !printer.is_for_people() || !stdin().is_terminal() || !stdout().is_terminal() {
        return Err(Failure::usage("`chat` is for a person at a terminal").next(
            "Programs use `causeway-client send` and `causeway-client --output json tail`.",
        ));
    }
    let _only = only_one(home)?;
    let mut tx = client.db().begin().await?;
    outbox::forget(&mut tx, client.now()).await?;
    tx.commit().await?;
    let stop = stopped().map_err(|e| Failure::failed(format!("signals cannot be heard: {e}")))?;
    let (tell, told) = mpsc::unbounded_channel();
    let (decisions, decided) = mpsc::unbounded_channel();
    let wake = Notify::new();
    let screen = Screen::enter()
        .map_err(|e| Failure::failed(format!("this terminal cannot show a chat: {e}")))?;
    let chat = Chat {
        client: &client,
        called: printer.called(),
        screen,
        announce: arguments.announce,
        wake: &wake,
        decisions,
    };
    let mut stream = client.stream();
    let mut follower = Follower::new(&client, Teller(tell.clone()));
    // One ends them all: the person or a signal, or what cannot be gone on with.
    let done = tokio::select! {
        done = chat.run(told) => done,
        done = follower.follow(&mut stream, None, stop) => done,
        never = run::send(&client, &wake, Teller(tell.clone())) => never,
        never = run::decide(&client, decided, Teller(tell)) => never,
    };
    stream.close().await;
    done
}
