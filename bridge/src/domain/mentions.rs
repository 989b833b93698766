//! People who are named in a text: Matrix users as natives write them, and natives as the room
//! shows them.

use std::collections::BTreeMap;

use ruma::{OwnedUserId, UserId};
use serde_json::{Map, Value};

use super::ghost::Names;

/// Most people that one message names, so that it rings no more than these.
const MOST: usize = 20;
/// Most signs of a name that are looked at.
const SIGNS: usize = 50;

/// A text in which Matrix users are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Whom it names.
    pub users: Vec<OwnedUserId>,
    /// The text as HTML, with a link for each of them that clients show as a person
    /// (client-server API v1.16, "User and room mentions").
    pub html: String,
}

/// `@` and the name of somebody in `people`, or his id, as far as `body` has some.
pub fn named(body: &str, people: &BTreeMap<OwnedUserId, String>) -> Option<Named> {
    let (mut users, mut html) = (Vec::new(), String::new());
    let (mut done, mut signs) = (0, 0);
    for (at, _) in body.match_indices('@') {
        if at < done {
            continue;
        }
        signs += 1;
        if signs > SIGNS || users.len() == MOST {
            break;
        }
        let (before, from) = body.split_at_checked(at).unwrap_or((body, ""));
        if before.chars().next_back().is_some_and(char::is_alphanumeric) {
            continue;
        }
        let Some((user, name, length)) = longest(from, people) else { continue };
        escape(body.get(done..at).unwrap_or_default(), &mut html);
        html.push_str("<a href=\"https://matrix.to/#/");
        escape(user.as_str(), &mut html);
        html.push_str("\">");
        escape(name, &mut html);
        html.push_str("</a>");
        if !users.contains(user) {
            users.push(user.clone());
        }
        done = at + length;
    }
    escape(body.get(done..).unwrap_or_default(), &mut html);
    (!users.is_empty()).then_some(Named { users, html })
}

/// The longest name that `from` begins with behind its `@`, and how many bytes it takes there.
fn longest<'a>(
    from: &str,
    people: &'a BTreeMap<OwnedUserId, String>,
) -> Option<(&'a OwnedUserId, &'a str, usize)> {
    let ends = |length: usize| {
        let rest = from.get(length..).unwrap_or_default();
        !rest.chars().next().is_some_and(char::is_alphanumeric)
    };
    let found = people.iter().filter_map(|(user, name)| {
        let by_id = from.starts_with(user.as_str()).then(|| user.as_str().len());
        let by_name = from
            .strip_prefix('@')
            .filter(|rest| !name.is_empty() && rest.starts_with(name.as_str()));
        let by_name = by_name.map(|_| 1 + name.len());
        let length = by_id.max(by_name).filter(|length| ends(*length))?;
        Some((user, name.as_str(), length))
    });
    found.max_by_key(|(_, _, length)| *length)
}

/// Adds `text`, with nothing in it that is markup.
pub fn escape(text: &str, html: &mut String) {
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\n' => html.push_str("<br>"),
            c => html.push(c),
        }
    }
}

/// `text` with the names of natives as their group knows them, where the room shows more: of those
/// whom the event says it mentions (client-server API v1.7, `m.mentions`).
pub fn as_natives_know(names: &Names, content: &Map<String, Value>, text: &str) -> String {
    let mentioned = content.get("m.mentions").and_then(|mentions| mentions.get("user_ids"));
    let mentioned = mentioned.and_then(Value::as_array).into_iter().flatten().take(MOST);
    let accounts = mentioned
        .filter_map(Value::as_str)
        .filter_map(|id| UserId::parse(id).ok())
        .filter_map(|user| names.account(&user));
    accounts.fold(text.to_owned(), |text, account| {
        text.replace(&names.shown(&account), account.localpart())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn people() -> BTreeMap<OwnedUserId, String> {
        let people = [("@al:x", "Al"), ("@ada:x", "Al Gebra"), ("@q:x", "<b>\"&")];
        people.map(|(id, name)| (id.try_into().unwrap(), name.to_owned())).into()
    }

    #[test]
    fn matrix_users_are_found_by_name_and_by_id() {
        let link =
            |id: &str, name: &str| format!("<a href=\"https://matrix.to/#/{id}\">{name}</a>");
        let (al, ada) = (link("@al:x", "Al"), link("@ada:x", "Al Gebra"));
        let quoted = link("@q:x", "&lt;b&gt;&quot;&amp;");
        let table = [
            ("hi @Al", vec!["@al:x"], format!("hi {al}")),
            (
                "@Al, @Al Gebra: <hi>\n&",
                vec!["@al:x", "@ada:x"],
                format!("{al}, {ada}: &lt;hi&gt;<br>&amp;"),
            ),
            ("@Al @Al", vec!["@al:x"], format!("{al} {al}")),
            ("(@al:x)", vec!["@al:x"], format!("({al})")),
            ("@<b>\"&!", vec!["@q:x"], format!("{quoted}!")),
        ];
        for (body, users, html) in table {
            let found = named(body, &people()).unwrap();
            assert_eq!(found.users, users, "{body}");
            assert_eq!(found.html, html, "{body}");
        }
        for body in ["Al", "@Alan", "mail@Al", "@al:xy", "@Bo", "@", ""] {
            assert_eq!(named(body, &people()), None, "{body}");
        }
    }

    #[test]
    fn no_message_rings_for_hundreds() {
        let people: BTreeMap<OwnedUserId, String> = (0..100)
            .map(|n| (format!("@n{n:02}:x").try_into().unwrap(), format!("n{n:02}")))
            .collect();
        let all: Vec<String> = people.values().map(|name| format!("@{name}")).collect();
        let found = named(&all.join(" "), &people).unwrap();
        assert_eq!(found.users.len(), MOST);
        assert!(found.html.ends_with("@n98 @n99"), "{}", found.html);
        // What names nobody is not looked through for ever.
        assert_eq!(named(&format!("{}@n00", "@ ".repeat(SIGNS)), &people), None);
    }

    #[test]
    fn natives_are_called_as_their_group_knows_them() {
        let names = Names::new("b.example").unwrap();
        let of = |users: Value, text: &str| {
            let content = json!({"m.mentions": {"user_ids": users}});
            as_natives_know(&names, content.as_object().unwrap(), text)
        };
        let bob = json!(["@causeway_bob:b.example"]);
        assert_eq!(of(bob.clone(), "bob (native): hi"), "bob: hi");
        assert_eq!(of(bob, "eve (native): hi"), "eve (native): hi");
        assert_eq!(of(json!(["@causeway_bob:other", 5, "x"]), "bob (native)"), "bob (native)");
        assert_eq!(of(json!("x"), "bob (native)"), "bob (native)");
    }
}
