//! What the person who runs the demo sees of it, on stdout.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::Path,
};

use causeway_groups::cli::{harmless, one_line};

use super::{
    outcome::Outcome,
    place::Place,
    story::{Cast, GROUP},
    transcript::Line,
};

/// Lines shown of the beginning and of the end of a long conversation.
const ENDS: usize = 6;

/// Writes `text`, and has it out before it returns.
///
/// # Errors
/// Its reader is gone, or its disk is full.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The conversation as each side saw it, and what came of it.
pub(super) fn report(cast: &Cast, outcome: &Outcome) -> String {
    let room = cast.carol.room().map_or_else(String::new, |room| room.to_string());
    let on_matrix = format!("What {} sees, in the Matrix room {room}", cast.carol.user_id());
    let ann = "What Ann sees, in her native client (end-to-end encrypted)";
    let conversations = [
        (ann, cast.ann.seen()),
        ("What Ben saw, until Ann removed him", cast.ben.seen()),
        (&on_matrix, cast.carol.seen()),
    ];
    let after = cast
        .quay
        .as_ref()
        .map(|scene| ("What Dora sees, in a pairwise group with Emil and Finn", scene.dora.seen()));
    let shown = conversations.into_iter().chain(after);
    let shown: String = shown.map(|(title, seen)| conversation(title, &seen.lines())).collect();
    shown + "\n" + &outcome.to_text()
}

/// How to take part while it goes on.
///
/// # Errors
/// It is not known where this binary is.
pub(super) fn how_to_join(place: &Place, cast: &Cast) -> io::Result<String> {
    let mut text = format!(
        "\nHow to join in\n  With Element or any other Matrix client:\n\
         \x20   homeserver  {}\n    user        {}\n    password    {}\n\
         \x20 Natively, in another terminal, with an account that goes when the demo ends:\n",
        one_line(&place.homeserver),
        one_line(cast.carol.user_id().as_str()),
        place.password.as_deref().unwrap_or("the one in your file"),
    );
    let home = place.dir.join("you");
    let token = place.causeway.dir().join("data/registration.token");
    let lines = join_lines(
        &std::env::current_exe()?,
        &home,
        place.causeway.native_url(),
        &token,
        cast.link.as_str(),
    );
    for line in lines {
        let _ = writeln!(text, "    {line}");
    }
    Ok(text)
}

/// What to type; each line also works when it is typed again.
fn join_lines(binary: &Path, home: &Path, url: &str, token: &Path, link: &str) -> [String; 4] {
    let home = quoted(&home.display().to_string());
    let client = format!("{} client --home {home}", quoted(&binary.display().to_string()));
    let (url, link) = (quoted(url), quoted(link));
    let token = quoted(&token.display().to_string());
    [
        // Who has an account there needs no second one.
        format!("test -d {home} || {client} --server {url} register you --token-file {token}"),
        format!("{client} invite accept {link}"),
        format!("{client} send {GROUP} 'hello from me'"),
        format!("{client} tail"),
    ]
}

/// `text` as one word of a shell.
fn quoted(text: &str) -> String {
    shlex::try_quote(text).map_or_else(|_| text.to_owned(), std::borrow::Cow::into_owned)
}

/// Shows what is said from now on, for ever.
///
/// # Errors
/// Nobody reads it.
pub(super) async fn follow(cast: &Cast, quietly: bool) -> io::Result<()> {
    if !quietly {
        print("\nIt goes on until Ctrl-C; what is said from now on:\n")?;
    }
    let mut changes = cast.ann.seen().changes();
    let mut known = cast.ann.seen().lines().len();
    loop {
        let lines = cast.ann.seen().lines();
        for line in lines.iter().skip(known).filter(|_| !quietly) {
            print(&text_of(line))?;
        }
        known = lines.len();
        if changes.changed().await.is_err() {
            return Ok(());
        }
    }
}

fn conversation(title: &str, lines: &[Line]) -> String {
    let mut text = format!("\n{}:\n", one_line(title));
    let left_out = lines.len().saturating_sub(2 * ENDS);
    for (place, line) in lines.iter().enumerate() {
        if left_out > 0 && place == ENDS {
            let _ = writeln!(text, "  … {left_out} more …");
        }
        if left_out == 0 || place < ENDS || place >= ENDS + left_out {
            text.push_str(&text_of(line));
        }
    }
    text
}

/// Names and words are others': they move no cursor, and begin no line of their own.
fn text_of(line: &Line) -> String {
    let own = if line.own { " (own)" } else { "" };
    format!("  {}{own}: {}\n", one_line(&line.who), harmless(&line.text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_does_nothing_to_the_terminal() {
        let line = |who: &str, text: &str| Line { who: who.into(), text: text.into(), own: false };
        let lines = [
            line("mallory\x1b]0;owned\x07\n  ann", "\x1b[2J\x1b[Hgone\r\u{9b}31m"),
            line("mallory", "first\n  ann: second"),
        ];
        let text = conversation("What \x1b[31m@mallory:x sees\n", &lines);
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
        // Who writes a line break does not write another's line.
        let said = text.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
        assert_eq!(said.count(), 2, "{text}");
        assert!(text.contains("\n  mallory: first\n      ann: second\n"), "{text}");
    }

    #[test]
    fn a_long_conversation_shows_its_ends() {
        let line = |n: usize| Line { who: "ann".into(), text: format!("no {n}."), own: true };
        let lines: Vec<_> = (0..20).map(line).collect();
        let text = conversation("What Ann sees", &lines);
        assert!(text.contains("no 5.\n  … 8 more …\n  ann (own): no 14."), "{text}");
        assert!(!conversation("What Ann sees", &lines[..12]).contains('…'));
    }

    #[test]
    fn lines_to_type_are_whole_whatever_the_folders_are_called() {
        let lines = join_lines(
            Path::new("/home/ann o'hara/causeway"),
            Path::new("/tmp/$HOME/you"),
            "http://127.0.0.1:1",
            Path::new("/tmp/a;b/token"),
            "causeway://join/x",
        );
        for line in &lines {
            let words = shlex::split(line).unwrap();
            let at = words.iter().position(|word| word == "client").unwrap();
            assert_eq!(words[at - 1], "/home/ann o'hara/causeway", "{line}");
            assert_eq!(words[at + 1..][..2], ["--home", "/tmp/$HOME/you"], "{line}");
        }
        assert!(shlex::split(&lines[0]).unwrap().ends_with(&["/tmp/a;b/token".to_owned()]));
    }
}
