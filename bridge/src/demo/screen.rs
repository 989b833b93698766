//! What the person who runs the demo sees of it.

use super::{
    place::Place,
    story::{Cast, Outcome},
    transcript::{Line, Transcript},
};

/// Lines shown of the beginning and of the end of a long conversation.
const ENDS: usize = 6;

/// Prints the conversation as each side saw it, and what came of it.
pub(super) fn show(place: &Place, cast: &Cast, outcome: &Outcome) {
    conversation("What Ann sees, in her native client (end-to-end encrypted)", cast.ann.seen());
    conversation("What Ben saw, until Ann removed him", cast.ben.seen());
    let room = cast.carol.room().map_or_else(String::new, |room| room.to_string());
    let title = format!("What {} sees, in the Matrix room {room}", cast.carol.user_id());
    conversation(&title, cast.carol.seen());
    println!("\nWhat came of it:");
    if let Ok(json) = serde_json::to_string(outcome) {
        println!("  {json}");
    }
    join(place, cast);
}

/// How to take part.
fn join(place: &Place, cast: &Cast) {
    println!("\nJoin the conversation");
    println!("  with Element or any other Matrix client:");
    println!("    homeserver  {}", place.homeserver);
    println!("    user        {}", cast.carol.user_id());
    match &place.password {
        Some(password) => println!("    password    {password}"),
        None => println!("    password    the one in your file"),
    }
    println!("  natively, with causeway-client:");
    let token = place.causeway.dir().join("data/registration.token");
    let client =
        "cargo run --release -p causeway-groups --bin causeway-client -- --home .causeway/me";
    println!(
        "    {client} --server {} register me --token-file {}",
        place.causeway.native_url(),
        token.display()
    );
    println!("    {client} invite accept '{}'", cast.link.as_str());
    println!("    {client} send Harbour 'hello from me'");
    println!("    {client} tail");
}

/// Shows what is said from now on, for ever.
pub(super) async fn follow(cast: &Cast, quietly: bool) {
    if !quietly {
        println!("\nIt goes on until Ctrl-C; what is said from now on:");
    }
    let mut changes = cast.ann.seen().changes();
    let mut known = cast.ann.seen().lines().len();
    loop {
        let lines = cast.ann.seen().lines();
        for line in lines.iter().skip(known).filter(|_| !quietly) {
            println!("{}", text_of(line));
        }
        known = lines.len();
        if changes.changed().await.is_err() {
            return;
        }
    }
}

fn conversation(title: &str, seen: &Transcript) {
    println!("\n{title}:");
    let lines = seen.lines();
    let left_out = lines.len().saturating_sub(2 * ENDS);
    for (place, line) in lines.iter().enumerate() {
        if left_out > 0 && place == ENDS {
            println!("  … {left_out} more …");
        }
        if left_out == 0 || place < ENDS || place >= ENDS + left_out {
            println!("{}", text_of(line));
        }
    }
}

fn text_of(line: &Line) -> String {
    let own = if line.own { " (own)" } else { "" };
    format!("  {}{own}: {}", line.who, line.text)
}
