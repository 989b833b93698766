//! The screen, the mailbox and the outbox at once: three loops in one task, joined by what they tell.
//!
//! Enter stores the message and only then empties the draft; a loop of its own sends what is stored.
//! A kill between any two steps loses nothing that was entered.

use std::time::Duration;

use causeway_protocol::{
    content::{Content, MessageRef, Text, TextKind},
    ids::{AccountId, GroupId},
    roster::Role,
};
use crossterm::event::{Event, EventStream};
use futures_util::StreamExt as _;
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

use super::{
    super::{
        exit::Failure,
        flush::{is_refused, refused},
        follow::Audience,
        history,
        local_time::LocalTime,
        outbox::{self, OutboxError},
        send::random_id,
    },
    compose::Edit,
    draw::draw,
    keys, load,
    state::{Command, Effect, Panel, State},
    terminal::{Announce, Screen},
};
use crate::sdk::{CallError, Client, SdkError};

/// How old a look at the group may be before something is sent there.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// What the other loops tell the screen.
pub(crate) enum Told {
    /// Something was kept, sent or changed.
    Kept,
    Note(String),
    Lost(Option<String>),
    Trouble(GroupId, Option<String>),
}

/// What a person decided, which the server must hear.
pub(crate) enum Decision {
    Accept(GroupId),
    Admit(GroupId, AccountId),
    Leave(GroupId),
}

/// Tells the screen of the mailbox.
pub(crate) struct Teller(pub(crate) mpsc::UnboundedSender<Told>);

impl Teller {
    fn tell(&self, told: Told) {
        // Nobody listens any more when the screen is gone.
        let _ = self.0.send(told);
    }
}

impl Audience for Teller {
    async fn kept(&mut self) -> Result<bool, Failure> {
        self.tell(Told::Kept);
        Ok(true)
    }

    fn note(&mut self, text: &str) {
        self.tell(Told::Note(text.to_owned()));
    }

    fn connection(&mut self, lost: Option<&CallError>) {
        self.tell(Told::Lost(lost.map(ToString::to_string)));
    }
}

/// Sends what is entered, as soon as it is stored.
pub(crate) async fn send(client: &Client, wake: &Notify, teller: Teller) -> ! {
    let mut looked_at: Option<(GroupId, Instant)> = None;
    loop {
        wake.notified().await;
        let groups = match outbox::waiting(client.db()).await {
            Ok(groups) => groups,
            Err(error) => {
                teller.tell(Told::Note(error.to_string()));
                continue;
            }
        };
        for group in groups {
            let is_fresh = |(of, at): (GroupId, Instant)| of == group && at.elapsed() < LOOK_AGAIN;
            if !looked_at.is_some_and(is_fresh) {
                // Whoever came since would miss the message. A server that cannot be asked cannot take
                // it either, which is found out next.
                looked_at = client.sync_group(group).await.ok().map(|()| (group, Instant::now()));
            }
            let trouble = outbox::flush(client, group).await.err();
            let why = trouble.map(|error| match error {
                error if is_refused(&error) => refused(&error, group).to_text(),
                OutboxError::Sdk(SdkError::Call(error)) if error.is_transient() => {
                    format!("{error}; it goes out by itself")
                }
                error => Failure::from(error).to_text(),
            });
            teller.tell(Told::Trouble(group, why));
        }
        teller.tell(Told::Kept);
    }
}

/// Carries out what was decided, one after the other.
pub(crate) async fn decide(
    client: &Client,
    mut decisions: mpsc::UnboundedReceiver<Decision>,
    teller: Teller,
) -> ! {
    while let Some(decision) = decisions.recv().await {
        let done = match &decision {
            Decision::Accept(group) => client.take_offer(*group).await,
            Decision::Admit(group, account) => {
                client.add(*group, account, Role::Member).await.map(drop)
            }
            Decision::Leave(group) => client.leave(*group).await.map(drop),
        };
        if let Err(error) = done {
            teller.tell(Told::Note(Failure::from(error).to_text()));
        }
        teller.tell(Told::Kept);
    }
    // The screen ends first.
    std::future::pending().await
}

/// The screen, and what it has of the others.
pub(crate) struct Chat<'a> {
    pub(crate) client: &'a Client,
    pub(crate) called: &'static str,
    pub(crate) screen: Screen,
    pub(crate) announce: Announce,
    pub(crate) wake: &'a Notify,
    pub(crate) decisions: mpsc::UnboundedSender<Decision>,
}

impl Chat<'_> {
    /// Until the person ends it.
    pub(crate) async fn run(
        mut self,
        mut told: mpsc::UnboundedReceiver<Told>,
    ) -> Result<(), Failure> {
        let mut state = State::default();
        state.set_groups(load::groups(self.client).await?);
        if let Some(first) = state.groups.first().map(|group| group.id) {
            self.open(&mut state, first).await?;
        }
        // What waits from before goes out too.
        self.wake.notify_one();
        let mut input = EventStream::new();
        loop {
            self.draw(&state)?;
            tokio::select! {
                event = input.next() => {
                    let command = match event {
                        None => return Ok(()),
                        Some(event) => match event.map_err(Failure::failed)? {
                            Event::Key(key) => keys::command(key, &state),
                            Event::Paste(text) => Some(Command::Edit(Edit::Insert(text))),
                            _ => None,
                        },
                    };
                    let effect = command.and_then(|command| state.apply(command));
                    if effect == Some(Effect::Quit) {
                        return Ok(());
                    }
                    let done = match effect {
                        Some(effect) => self.carry_out(effect, &mut state).await,
                        // Who comes down again has read what came meanwhile.
                        None => self.read(&mut state).await,
                    };
                    say(done, &mut state);
                }
                Some(event) = told.recv() => {
                    let mut next = Some(event);
                    while let Some(event) = next {
                        hear(event, &mut state);
                        next = told.try_recv().ok();
                    }
                    let done = self.refresh(&mut state).await;
                    say(done, &mut state);
                }
            }
        }
    }

    fn draw(&mut self, state: &State) -> Result<(), Failure> {
        let time = LocalTime::new(self.client.now());
        let drawn = self.screen.0.draw(|frame| draw(state, self.called, &time, frame));
        drawn.map(drop).map_err(|e| Failure::failed(format!("cannot write to the terminal: {e}")))
    }

    async fn carry_out(&self, effect: Effect, state: &mut State) -> Result<(), Failure> {
        let decision = match effect {
            Effect::Send { group, body, reply_to } => {
                return self.store(state, group, body, reply_to).await;
            }
            Effect::Open(group) => return self.open(state, group).await,
            Effect::Older(group, row) => {
                let (lines, has_older) = load::before(self.client, group, row).await?;
                state.older(lines, has_older);
                return Ok(());
            }
            Effect::Readers(group) => {
                state.panel = Some(Panel::Readers(load::readers(self.client, group).await?, 0));
                return Ok(());
            }
            Effect::Accept(group) => Decision::Accept(group),
            Effect::Admit(group, account) => Decision::Admit(group, account),
            Effect::Leave(group) => Decision::Leave(group),
            Effect::Quit => return Ok(()),
        };
        let _ = self.decisions.send(decision);
        Ok(())
    }

    /// Stores what was entered; the draft is done with the commit, and not before it.
    async fn store(
        &self,
        state: &mut State,
        group: GroupId,
        body: String,
        reply_to: Option<MessageRef>,
    ) -> Result<(), Failure> {
        let (vault, now) = (self.client.vault(), self.client.now());
        let text = Text { kind: TextKind::Text, body, html: None, reply_to, mirror: None };
        let mut tx = self.client.db().begin().await?;
        let id = random_id()?;
        match outbox::add(&mut tx, vault, now, group, id, 0, Content::Text(text)).await {
            Err(error @ OutboxError::TooLarge(..)) => {
                state.notice = Some(format!("Not sent: {error}. Send it in parts."));
                return Ok(());
            }
            stored => stored?,
        }
        tx.commit().await?;
        state.kept(group);
        state.waiting = load::waiting(self.client, group).await?;
        self.wake.notify_one();
        Ok(())
    }

    async fn open(&self, state: &mut State, group: GroupId) -> Result<(), Failure> {
        let (lines, has_older) = load::before(self.client, group, i64::MAX).await?;
        state.open(group, lines, has_older);
        state.waiting = load::waiting(self.client, group).await?;
        self.read(state).await
    }

    /// Reads what is new, and announces what came in other groups.
    async fn refresh(&self, state: &mut State) -> Result<(), Failure> {
        let rang = state.set_groups(load::groups(self.client).await?);
        for group in &rang {
            Screen::announce(self.announce, group)
                .map_err(|e| Failure::failed(format!("cannot write to the terminal: {e}")))?;
        }
        let first = state.groups.first().map(|group| group.id);
        match state.selected.or(first) {
            Some(group) if state.selected.is_none() => self.open(state, group).await,
            Some(group) => {
                load::newer(self.client, group, &mut state.lines).await?;
                state.waiting = load::waiting(self.client, group).await?;
                self.read(state).await
            }
            None => Ok(()),
        }
    }

    /// Marks as shown what is on the screen, unless older lines are looked at.
    async fn read(&self, state: &mut State) -> Result<(), Failure> {
        let Some(last) = state.lines.last() else { return Ok(()) };
        let unread = state.group().is_some_and(|group| group.unread > 0);
        if state.marked.is_none() && unread {
            history::mark_shown(self.client.db(), std::slice::from_ref(last)).await?;
            let selected = state.selected;
            state.groups.iter_mut().filter(|g| Some(g.id) == selected).for_each(|g| g.unread = 0);
        }
        Ok(())
    }
}

/// What went wrong is said in place: what was written stays, and the next try may go well.
fn say(done: Result<(), Failure>, state: &mut State) {
    if let Err(failure) = done {
        state.notice = Some(failure.to_text());
    }
}

fn hear(event: Told, state: &mut State) {
    match event {
        Told::Kept => {}
        Told::Note(text) => state.notice = Some(text),
        Told::Lost(why) => state.lost = why,
        Told::Trouble(group, why) => state.set_trouble(group, why),
    }
}
