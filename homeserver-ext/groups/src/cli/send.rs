//! `send`: stores a message, then sends it, then prints its id.

use std::time::Duration;

use causeway_protocol::{
    content::{Content, MessageRef, Text, TextKind},
    ids::{ClientId, EnvelopeId, GroupId},
};
use clap::{Args, ValueEnum};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines, Stdin, stdin},
    time::{Instant, timeout},
};

use super::{
    exit::Failure,
    flush::{Trouble, is_refused, outbox_of, refused, waiting_for_a_person},
    home::Home,
    names,
    outbox::{self, OutboxError, State},
    print::Printer,
};
use crate::sdk::Client;

/// Lines taken together: one commit, one request. A lone line does not wait longer for company.
const MAX_LINES: usize = 64;
const GATHER: Duration = Duration::from_millis(10);
/// How old a look at the group may be.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// A message must fit one envelope of 45,000 bytes with everything around it.
const MAX_TEXT_BYTES: usize = 44_000;
/// How much of a text that is too long is counted.
const COUNTED: u64 = 1 << 30;

/// Arguments of `send`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The group: its name, its id, or the first characters of its id
    #[arg(required_unless_present = "flush", allow_hyphen_values = true)]
    group: Option<String>,
    /// What to say; `-`, or nothing, reads it from stdin
    text: Vec<String>,
    /// Send each line of stdin as a message of its own, and print an id for each, in order
    #[arg(long, conflicts_with = "text")]
    lines: bool,
    /// Name this input: run again with the same name and the same lines, each line is sent once
    #[arg(long, requires = "lines", value_name = "NAME")]
    resume: Option<String>,
    /// Only send what still waits from former runs
    #[arg(long, conflicts_with_all = ["group", "text", "lines"])]
    flush: bool,
    /// How it is meant
    #[arg(long = "as", value_enum, default_value_t = Kind::Text, value_name = "KIND")]
    kind: Kind,
    /// Answer this message: `<device>/<client_id>`, as `tail --output json` gives them
    #[arg(long, allow_hyphen_values = true, value_name = "MESSAGE")]
    reply_to: Option<MessageRef>,
    /// Seconds after which the message is gone for whoever has not read it; 0: as the group says
    #[arg(long, default_value_t = 0, value_name = "SECONDS")]
    ttl: u32,
    /// Seconds to keep trying before the message is left for the next run
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    timeout: u64,
}

/// How a message is meant.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// Something said
    Text,
    /// Something to be noticed, from a program
    Notice,
    /// Something done
    Emote,
}

impl From<Kind> for TextKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Text => Self::Text,
            Kind::Notice => Self::Notice,
            Kind::Emote => Self::Emote,
        }
    }
}

pub(super) async fn run(
    arguments: Arguments,
    home: &Home,
    printer: Printer,
) -> Result<(), Failure> {
    let client = home.client().await?;
    let patience = Duration::from_secs(arguments.timeout);
    let Some(name) = &arguments.group else {
        return send_waiting(&client, patience, printer).await;
    };
    let group = names::group(&client, name).await?;
    let mut sender = Sender {
        client: &client,
        group,
        arguments: &arguments,
        patience,
        printer,
        looked_at: None,
    };
    if arguments.lines {
        sender.send_lines().await?;
    } else {
        let text = text_of(&arguments.text).await?;
        sender.send(vec![(random_id()?, text)], None).await?;
    }
    // The server is there: what waits in other groups goes out too, or goes on waiting.
    for other in outbox::waiting(client.db()).await? {
        if let Err(error) = outbox::flush(&client, other).await {
            tracing::debug!(%error, group = %other, "messages wait");
        }
    }
    Ok(())
}

/// One group, and how to send to it.
struct Sender<'a> {
    client: &'a Client,
    group: GroupId,
    arguments: &'a Arguments,
    patience: Duration,
    printer: Printer,
    looked_at: Option<Instant>,
}

impl Sender<'_> {
    async fn send_lines(&mut self) -> Result<(), Failure> {
        let mut input = BufReader::new(stdin()).lines();
        let mut line_number = 0_u64;
        let mut is_open = true;
        while is_open {
            let lines;
            (lines, is_open) = gather(&mut input).await?;
            let first = line_number + 1;
            let mut texts = Vec::with_capacity(lines.len());
            for line in lines {
                line_number += 1;
                let client_id = match &self.arguments.resume {
                    Some(name) => id_of_line(name, self.group, line_number),
                    None => random_id()?,
                };
                texts.push((client_id, line));
            }
            if !texts.is_empty() {
                self.send(texts, Some(first)).await?;
            }
        }
        Ok(())
    }

    /// Stores the messages in one commit, sends them, and prints an id for each.
    async fn send(
        &mut self,
        texts: Vec<(ClientId, String)>,
        first_line: Option<u64>,
    ) -> Result<(), Failure> {
        let client_ids: Vec<ClientId> = texts.iter().map(|(id, _)| *id).collect();
        self.store(texts, first_line).await?;
        self.look().await?;
        let sent = match outbox_of(self.client, self.group, self.patience).await {
            // Refused: what was asked for just now does not go out by itself later.
            Err(Trouble::Outbox(error)) if is_refused(&error) => {
                outbox::take_back(self.client, self.group, &client_ids).await?;
                return Err(refused(&error, self.group));
            }
            sent => sent.map_err(Failure::from),
        };
        for (line, client_id) in (first_line.unwrap_or(0)..).zip(&client_ids) {
            let line = first_line.map(|_| line);
            match outbox::state(self.client.db(), *client_id).await? {
                Some(State::Accepted(id)) => self.show(id, *client_id, line)?,
                Some(State::Failed(why)) => {
                    let which = line.map_or_else(String::new, |line| format!(" of line {line}"));
                    return Err(Failure::failed(format!("the message{which} was not sent: {why}")));
                }
                Some(State::Queued) | None => break,
            }
        }
        sent
    }

    /// Learns who is in the group now: whoever came since the last look would miss the message. A
    /// server that cannot be asked cannot take the message either, which is found out next.
    async fn look(&mut self) -> Result<(), Failure> {
        if self.looked_at.is_some_and(|at| at.elapsed() < LOOK_AGAIN) {
            return Ok(());
        }
        match self.client.sync_group(self.group).await {
            Ok(()) => self.looked_at = Some(Instant::now()),
            Err(error) if error.is_transient() => {}
            Err(error) => return Err(OutboxError::Sdk(error).into()),
        }
        Ok(())
    }

    async fn store(
        &self,
        texts: Vec<(ClientId, String)>,
        first_line: Option<u64>,
    ) -> Result<(), Failure> {
        let Arguments { kind, ttl, reply_to, .. } = self.arguments;
        let (vault, now) = (self.client.vault(), self.client.now());
        let mut tx = self.client.db().begin().await?;
        for (line, (client_id, body)) in (first_line.unwrap_or(0)..).zip(texts) {
            let (line, bytes) = (first_line.map(|_| line), body.len());
            if bytes > MAX_TEXT_BYTES {
                return Err(too_long(line, &format!("it has {bytes} bytes")));
            }
            let (kind, reply_to) = ((*kind).into(), *reply_to);
            let text = Content::Text(Text { kind, body, html: None, reply_to, mirror: None });
            match outbox::add(&mut tx, vault, now, self.group, client_id, *ttl, text).await {
                Err(OutboxError::TooLarge(sent, most)) => {
                    return Err(Failure::usage(format!(
                        "{} is too long: its {bytes} bytes are {sent} as they travel, and at most \
                         {most} fit; a quotation mark, a backslash or a line break takes 2, most \
                         other control characters 6",
                        called(line)
                    ))
                    .next(split(line)));
                }
                stored => stored?,
            }
        }
        Ok(tx.commit().await?)
    }

    fn show(&self, id: EnvelopeId, client_id: ClientId, line: Option<u64>) -> Result<(), Failure> {
        let mut json = json!({"id": id, "client_id": client_id, "group": self.group});
        if let (Some(line), Some(fields)) = (line, json.as_object_mut()) {
            fields.insert("line".to_owned(), line.into());
        }
        self.printer.show(&id.to_string(), &json)
    }
}

async fn send_waiting(
    client: &Client,
    patience: Duration,
    printer: Printer,
) -> Result<(), Failure> {
    let groups = outbox::waiting(client.db()).await?;
    let mut undecided = None;
    for group in &groups {
        match outbox_of(client, *group, patience).await {
            Ok(()) => {}
            // Other groups do not wait for a person's decision about this one.
            Err(Trouble::Outbox(error)) if error.waits_for_a_person() => {
                undecided = undecided.or(Some(waiting_for_a_person(error, *group)));
            }
            Err(trouble) => return Err(trouble.into()),
        }
    }
    if let Some(failure) = undecided {
        return Err(failure);
    }
    let text = match groups.len() {
        0 => "nothing was waiting".to_owned(),
        1 => "sent what was waiting in 1 group".to_owned(),
        n => format!("sent what was waiting in {n} groups"),
    };
    printer.show(&text, &json!({"groups": groups}))
}

fn called(line: Option<u64>) -> String {
    line.map_or_else(|| "the message".to_owned(), |line| format!("line {line}"))
}

fn too_long(line: Option<u64>, has: &str) -> Failure {
    Failure::usage(format!("{} is too long: {has}, and at most {MAX_TEXT_BYTES} fit", called(line)))
        .next(split(line))
}

/// What to do about a text that is too long.
fn split(line: Option<u64>) -> &'static str {
    match line {
        None => "Send it in parts; `--lines` makes each line of stdin a message.",
        Some(_) => {
            "Split that line. Of the lines before it, those were sent whose ids are printed."
        }
    }
}

/// The words of the command line, or all of stdin without its last line end.
async fn text_of(words: &[String]) -> Result<String, Failure> {
    let mut text = words.join(" ");
    if words.is_empty() || words == ["-"] {
        text = from_stdin().await?;
    }
    if text.is_empty() {
        return Err(Failure::usage("there is nothing to send")
            .next("Give the text as an argument, or on stdin."));
    }
    Ok(text)
}

async fn from_stdin() -> Result<String, Failure> {
    let unreadable = |e| Failure::failed(format!("stdin cannot be read: {e}"));
    let mut bytes = Vec::new();
    let mut input = stdin().take(COUNTED);
    // One more for the line end, and one that is too many.
    let mut most = (&mut input).take(MAX_TEXT_BYTES as u64 + 2);
    most.read_to_end(&mut bytes).await.map_err(unreadable)?;
    if bytes.ends_with(b"\n") {
        bytes.pop();
    }
    // What is cut off may be cut in the middle of a character.
    if bytes.len() > MAX_TEXT_BYTES {
        tokio::io::copy(&mut input, &mut tokio::io::sink()).await.map_err(unreadable)?;
        let counted = COUNTED - input.limit();
        let at_least = if input.limit() == 0 { "at least " } else { "" };
        return Err(too_long(None, &format!("it has {at_least}{counted} bytes")));
    }
    String::from_utf8(bytes).map_err(|e| {
        Failure::usage(format!("stdin is not UTF-8 text: {}", e.utf8_error()))
            .next("Convert it to UTF-8 first; `iconv` does.")
    })
}

/// The next lines, the first and what comes right behind it, and whether there may be more.
async fn gather(input: &mut Lines<BufReader<Stdin>>) -> Result<(Vec<String>, bool), Failure> {
    let unreadable = |e| Failure::usage(format!("stdin is not lines of UTF-8 text: {e}"));
    let Some(first) = input.next_line().await.map_err(unreadable)? else {
        return Ok((Vec::new(), false));
    };
    let mut lines = vec![first];
    while lines.len() < MAX_LINES {
        match timeout(GATHER, input.next_line()).await {
            Ok(Ok(Some(line))) => lines.push(line),
            Ok(Ok(None)) => return Ok((lines, false)),
            Ok(Err(e)) => return Err(unreadable(e)),
            Err(_) => break,
        }
    }
    Ok((lines, true))
}

pub(super) fn random_id() -> Result<ClientId, Failure> {
    let mut bytes = [0; ClientId::LEN];
    getrandom::fill(&mut bytes)
        .map_err(|e| Failure::failed(format!("this machine has no randomness: {e}")))?;
    Ok(ClientId::new(bytes))
}

/// The same line of the same input always has the same id.
fn id_of_line(name: &str, group: GroupId, line: u64) -> ClientId {
    let mut hash = Sha256::new();
    hash.update(b"causeway-client/line\0");
    hash.update(group.as_bytes());
    hash.update(line.to_be_bytes());
    hash.update(name.as_bytes());
    let mut bytes = [0; ClientId::LEN];
    bytes.iter_mut().zip(hash.finalize()).for_each(|(byte, of_hash)| *byte = of_hash);
    ClientId::new(bytes)
}
