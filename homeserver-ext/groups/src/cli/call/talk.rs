//! Taking part in a call: sound, the mailbox, the person and the clock at once, in one task beside that
//! of the sound.

use std::{
    io::{IsTerminal as _, stdin, stdout},
    time::Duration,
};

use causeway_protocol::{api::CallIntent, roster::Roster};
use crossterm::event::{Event, EventStream};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use super::{
    super::{
        chat::Screen,
        exit::Failure,
        follow::{Audience, Follower, only_one, stopped},
        home::Home,
        names,
        print::Printer,
    },
    sound::Sound,
    tell::Teller,
    view::View,
};
use crate::{
    calling::{Command, Ending, JoinError, Participant, Told},
    calls::Happened,
    sdk::{CallError, Client},
};

/// How one comes into it.
#[derive(Debug, Clone, Copy)]
pub(super) enum How {
    /// By beginning it, if nobody has.
    Start,
    /// By coming to others.
    Join,
}

/// Who is told of the mailbox: what came in is kept, and `tail` shows it afterwards.
struct Beside(mpsc::Sender<String>);

impl Audience for Beside {
    async fn kept(&mut self) -> Result<bool, Failure> {
        Ok(false)
    }

    fn note(&mut self, text: &str) {
        // What nobody reads in time is only a remark.
        self.0.try_send(text.to_owned()).ok();
    }

    fn connection(&mut self, lost: Option<&CallError>) {
        if let Some(error) = lost {
            self.note(&format!("{error}; trying again"));
        }
    }
}

/// Where it is shown.
struct Shown {
    printer: Printer,
    teller: Teller,
    view: View,
    /// On a terminal, in place of lines.
    screen: Option<Screen>,
    /// Why what is heard is no longer written.
    unwritten: Option<String>,
}

impl Shown {
    fn take(&mut self, told: &Told) -> Result<(), Failure> {
        self.view.take(told);
        if let Told::Sound(Happened::SinkFailed(kind)) = told {
            self.unwritten = Some(kind.to_string());
        }
        let lines = self.teller.lines(told);
        if self.screen.is_some() {
            return self.draw();
        }
        for line in lines {
            match line.text {
                Some(text) => self.printer.quote(&text, &line.json)?,
                None if self.printer.is_for_people() => {}
                None => self.printer.quote("", &line.json)?,
            }
        }
        Ok(())
    }

    fn note(&mut self, text: String) -> Result<(), Failure> {
        if self.screen.is_none() {
            self.printer.note(&text);
            return Ok(());
        }
        self.view.notice = text;
        self.draw()
    }

    fn draw(&mut self) -> Result<(), Failure> {
        let Some(screen) = &mut self.screen else { return Ok(()) };
        let view = &self.view;
        let drawn = screen.0.draw(|frame| view.draw(frame));
        drawn.map(drop).map_err(|e| Failure::failed(format!("cannot write to the terminal: {e}")))
    }
}

pub(super) async fn run(
    how: How,
    group: &str,
    sound: &Sound,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    let roster = names::roster(&client, group).await?;
    let _only = only_one(home)?;
    let wish = sound.wish()?;
    let muted = wish.muted;
    let stop = stopped()
        .map_err(|e| Failure::failed(format!("signals cannot be heard: {e}")).next("Try again."))?;
    let joined = match how {
        How::Start => Participant::start(&client, roster.group(), CallIntent::Audio, wish).await,
        How::Join => Participant::join(&client, roster.group(), wish).await,
    };
    let (participant, told) = joined.map_err(not_in_it)?;
    let until = sound.seconds.map(|s| Instant::now() + Duration::from_secs(s.into()));
    let shown = shown(&client, &roster, &participant, (sound.bitrate, muted), printer)?;
    let began = Instant::now();
    let (ending, unwritten) = talk(&client, participant, told, shown, stop, until).await?;
    over(&ending, began.elapsed(), printer)?;
    match unwritten {
        None => Ok(()),
        Some(why) => Err(Failure::failed(format!("{} is not whole: {why}", sound.audio_out))
            .next("Make room on the disk, or name another file.")),
    }
}

fn shown(
    client: &Client,
    roster: &Roster,
    participant: &Participant,
    (bitrate, muted): (u32, bool),
    printer: Printer,
) -> Result<Shown, Failure> {
    let (group, state) = (roster.policy().name.clone(), participant.state().clone());
    let me = (client.me().account.clone(), client.me().record.device_id);
    let is_seen = printer.is_for_people() && stdin().is_terminal() && stdout().is_terminal();
    let screen = is_seen.then(Screen::enter).transpose();
    let view = View {
        me: me.1,
        group: group.clone(),
        bitrate,
        state: state.clone(),
        progress: (0, 0),
        ways: std::collections::BTreeMap::new(),
        levels: std::collections::BTreeMap::new(),
        brought: crate::calls::Brought::default(),
        muted,
        hand: false,
        notice: String::new(),
        is_clear: false,
    };
    Ok(Shown {
        printer,
        teller: Teller::new(me, group, bitrate, state),
        view,
        screen: screen
            .map_err(|e| Failure::failed(format!("this terminal cannot show a call: {e}")))?,
        unwritten: None,
    })
}

/// Until it ends; whatever goes wrong here, the others are told that this device goes.
async fn talk(
    client: &Client,
    participant: Participant,
    mut told: mpsc::Receiver<Told>,
    mut shown: Shown,
    stop: impl Future<Output = ()>,
    until: Option<Instant>,
) -> Result<(Ending, Option<String>), Failure> {
    let (commands, wanted) = mpsc::channel(16);
    let (to_notes, mut notes) = mpsc::channel(16);
    let mut keys = shown.screen.is_some().then(EventStream::new);
    let (mut failed, mut leaves) = (None, false);
    let mut stream = client.stream();
    let ending = {
        let mut follower = Follower::new(client, Beside(to_notes));
        let mut run = std::pin::pin!(participant.run(wanted));
        let mut follow = std::pin::pin!(follower.follow(&mut stream, None, std::future::pending()));
        let mut stop = std::pin::pin!(stop);
        loop {
            let done = tokio::select! {
                ending = &mut run => break ending,
                Some(told) = told.recv() => shown.take(&told),
                done = &mut follow, if failed.is_none() => done,
                Some(note) = notes.recv() => shown.note(note),
                Some(key) = key(keys.as_mut()) => match key.map(|key| shown.view.key(key)) {
                    Ok(command) => {
                        leaves |= command == Some(Command::Leave);
                        command.map(|command| commands.try_send(command).ok());
                        shown.draw()
                    }
                    Err(failure) => Err(failure),
                },
                () = &mut stop, if !leaves => {
                    leaves = true;
                    commands.try_send(Command::Leave).ok();
                    Ok(())
                }
                () = at(until), if !leaves => {
                    leaves = true;
                    commands.try_send(Command::Leave).ok();
                    Ok(())
                }
            };
            if let Err(failure) = done {
                leaves = true;
                failed.get_or_insert(failure);
                commands.try_send(Command::Leave).ok();
            }
        }
    };
    // What was told last.
    while let Ok(told) = told.try_recv() {
        if failed.is_none()
            && let Err(failure) = shown.take(&told)
        {
            failed = Some(failure);
        }
    }
    stream.close().await;
    failed.map_or(Ok((ending, shown.unwritten)), Err)
}

async fn key(
    keys: Option<&mut EventStream>,
) -> Option<Result<crossterm::event::KeyEvent, Failure>> {
    let Some(keys) = keys else { return std::future::pending().await };
    loop {
        match keys.next().await? {
            Ok(Event::Key(key)) => return Some(Ok(key)),
            Ok(_) => {}
            Err(error) => return Some(Err(Failure::failed(error))),
        }
    }
}

async fn at(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// Why one is not in a call.
fn not_in_it(error: JoinError) -> Failure {
    match error {
        JoinError::None => Failure::failed("no call is running in this group")
            .next("Begin one with `causeway-client call start`."),
        JoinError::Call(CallError::Refused { errcode, error, .. })
            if errcode == "DEV_CAUSEWAY_SFU_UNAVAILABLE" =>
        {
            Failure::failed(error).next(
                "Come again when somebody has left: `causeway-client call watch` shows who comes and goes.",
            )
        }
        JoinError::Call(error) => error.into(),
        JoinError::Start(error) => Failure::usage(error),
        JoinError::Entropy(error) => Failure::failed(error).next("Try again later."),
    }
}

fn over(ending: &Ending, lasted: Duration, printer: Printer) -> Result<(), Failure> {
    let seconds = lasted.as_secs();
    let (why, text) = match ending {
        Ending::Left => ("left", "You have left the call"),
        Ending::Over => ("over", "The call is over"),
        Ending::Out(why) => {
            return Err(Failure::failed(format!(
                "you were put out of the call: {}",
                in_words(why)
            ))
            .next("`causeway-client call join` tries again."));
        }
        Ending::Refused(error) => return Err(error.clone().into()),
        Ending::Sound(why) => {
            return Err(Failure::failed(format!("the call's sound has stopped: {why}"))
                .next("Is there room on the disk for --audio-out?"));
        }
    };
    let json = json!({"type": "call_left", "why": why, "seconds": seconds});
    printer.show(&format!("{text}, after {seconds} s."), &json)
}

fn in_words(why: &str) -> &str {
    match why {
        "could_not_connect" => "there was no way to the others",
        "moved_to_sfu" | "cannot_use_sfu" => {
            "it has moved to a server, where this client cannot follow, or does not, since that could \
             hear the call"
        }
        "sfu_unavailable" => "the server that carries bigger calls is not reachable",
        other => other,
    }
}
