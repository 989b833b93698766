//! What the room is told of who reads it in the group.

use std::fmt::Write as _;

use causeway_protocol::{
    ids::AccountId,
    roster::{Role, Roster},
};

use super::looks::{clean, clean_to};

/// Most characters of what a group says it is about.
const ABOUT: usize = 500;
/// How many a topic names at most.
const NAMED: usize = 3;
/// How many are named of those who came or went at once.
const NAMED_OF_CHANGE: usize = 10;
/// How many one answer names.
const PAGE: usize = 50;
/// How every topic of ours begins.
const TOPIC: &str = "Bridged to the native group ";
/// Who did what nobody in the group did.
const NOBODY: &str = "A former member";
/// What people in the room may say to the bot to see all of them.
const COMMAND: &str = "!causeway members";

/// Said in the group when the bridge is let in again: what these had said before it was taken out is not in
/// the room.
pub fn unsaid(accounts: &[AccountId]) -> String {
    format!(
        "Not all that was said here before the bridge was taken out got into the room: something of {} \
         is not there. Say it again if it matters.",
        short(accounts, "", NAMED_OF_CHANGE, "members")
    )
}

/// What is known of a group in its room: its name, what it is about, and who is in it without the
/// bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Natives {
    name: String,
    about: String,
    accounts: Vec<AccountId>,
    server: String,
}

impl Natives {
    /// As a roster has them, for a room on `server`.
    pub fn of(roster: &Roster, server: &str) -> Self {
        let people = roster.members().values().filter(|member| member.role != Role::Bridge);
        let accounts = people.map(|member| member.account.clone()).collect();
        Self::new(&roster.policy().name, &roster.policy().description, accounts, server)
    }

    fn new(name: &str, about: &str, mut accounts: Vec<AccountId>, server: &str) -> Self {
        accounts.sort();
        let (name, about) = (within(&clean(name)), within(&clean_to(about, ABOUT)));
        Self { name, about, accounts, server: server.to_owned() }
    }

    /// The room's topic.
    pub fn topic(&self) -> String {
        let Self { name, about, accounts, server } = self;
        // Not how many: a topic that changes each time that somebody comes says nothing which the notice
        // beside it does not.
        let who = match accounts.as_slice() {
            [first, second, _, _, ..] => {
                format!("{}, {} and others", called(first, server), called(second, server))
            }
            few => short(few, server, NAMED, ""),
        };
        let about =
            if about.is_empty() { String::new() } else { format!("; its topic: “{about}”") };
        format!("{TOPIC}“{name}”; read by {who}: {COMMAND}{about}")
    }

    /// Said when the room is bridged.
    pub fn introduction(&self) -> String {
        let Self { name, accounts, server, .. } = self;
        format!(
            "This room is bridged to the native group “{name}”. What is said here is read there by \
             {}. `{COMMAND}` names all of them.",
            short(accounts, server, NAMED_OF_CHANGE, "natives")
        )
    }

    /// One of the pages that name all, the first is 1.
    pub fn page(&self, number: usize) -> String {
        let Self { name, accounts, server, .. } = self;
        let count = accounts.len();
        let from = number.saturating_sub(1).saturating_mul(PAGE).min(count);
        let until = from.saturating_add(PAGE).min(count);
        let page = accounts.get(from..until).unwrap_or_default();
        let named: Vec<&str> = page.iter().map(|account| called(account, server)).collect();
        if named.is_empty() {
            return format!("The native group “{name}” has {count} members; these are all pages.");
        }
        let mut text = format!(
            "What is said here is read in the native group “{name}”, {} to {until} of {count}: {}",
            from + 1,
            named.join(", ")
        );
        if until < count {
            // A string takes all that is written.
            let _ = write!(text, ". More: {COMMAND} {}", number.saturating_add(1));
        }
        text
    }
}

/// What stands between quotes may not end them.
fn within(text: &str) -> String {
    text.replace(['“', '”', '„', '‟', '"'], "'")
}

/// What somebody reads who is invited into the room of this group, as `by` has asked, if anybody has.
pub fn invited(by: Option<&str>, group: &str) -> String {
    let by = by.map_or_else(String::new, |by| format!("Invited by {}. ", clean(by)));
    let name = within(&clean(group));
    format!(
        "{by}This room is bridged to the native group “{name}”: what is said here is read there."
    )
}

/// Whether a topic is nobody's, or the bridge's to change.
pub fn may_be_replaced(topic: &str, others_of_ours: &[&str]) -> bool {
    topic.is_empty() || topic.starts_with(TOPIC) || others_of_ours.contains(&topic)
}

/// Said in a room on `server` when people came into the group.
pub fn came(by: Option<&AccountId>, joined: &[AccountId], server: &str) -> String {
    let (by, joined) = (who_here(by, server), short(joined, server, NAMED_OF_CHANGE, ""));
    format!("{by} let {joined} into the group: what is said here from now on reaches them.")
}

/// Said there when people went out of it, or one left.
pub fn went(by: Option<&AccountId>, left: &[AccountId], server: &str) -> String {
    let names = short(left, server, NAMED_OF_CHANGE, "");
    let end = "what is said here from now on does not reach them";
    if by.is_some_and(|by| left == std::slice::from_ref(by)) {
        format!("{names} left the group: {end}.")
    } else {
        format!("{} removed {names} from the group: {end}.", who_here(by, server))
    }
}

/// Who did it, for the group to read.
pub fn who(by: Option<&AccountId>) -> &str {
    by.map_or(NOBODY, AccountId::as_str)
}

/// Who did it, for a room on `server` to read.
pub fn who_here<'a>(by: Option<&'a AccountId>, server: &str) -> &'a str {
    by.map_or(NOBODY, |account| called(account, server))
}

/// An account as its ghost is called: of `name:server` clients make a link to the server.
fn called<'a>(account: &'a AccountId, server: &str) -> &'a str {
    if account.server() == server { account.localpart() } else { account.as_str() }
}

/// All of them, or so many and how many more of what.
fn short(accounts: &[AccountId], server: &str, most: usize, what: &str) -> String {
    // One more takes no more room than to say that there is one.
    let named = if accounts.len() <= most + 1 { accounts.len() } else { most };
    let called = accounts.iter().map(|account| called(account, server).to_owned());
    let mut parts: Vec<String> = called.take(named).collect();
    let more = accounts.len() - named;
    if more > 0 {
        parts.push(format!("{more} more {what}").trim_end().to_owned());
    }
    match parts.split_last() {
        None => "nobody".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "b.example";

    fn accounts(count: usize) -> Vec<AccountId> {
        (0..count).map(|n| format!("n{n:03}:b.example").parse().unwrap()).collect()
    }

    fn natives(count: usize) -> Natives {
        let mut accounts = accounts(count);
        accounts.reverse();
        Natives::new("Walk\u{202e}ers\n", "", accounts, HERE)
    }

    /// Found by an attack: a name that ends its quotes said who reads.
    #[test]
    fn a_groups_name_says_nothing_outside_its_quotes() {
        for quote in ['“', '”', '"', '„'] {
            let name = format!("Tea{quote}; read by nobody: !causeway members");
            let topic = Natives::new(&name, &name, accounts(1), HERE).topic();
            let parts: Vec<&str> = topic.split(['“', '”']).collect();
            let [before, named, readers, about, ""] = parts.as_slice() else { panic!("{topic}") };
            assert_eq!(*before, "Bridged to the native group ");
            assert_eq!(*readers, "; read by n000: !causeway members; its topic: ");
            for within in [named, about] {
                assert!(within.contains("Tea'; read by nobody"), "{within}");
            }
        }
    }

    #[test]
    fn an_invitation_says_by_whom_and_what_it_is_for_in_so_many_characters() {
        let long = "x".repeat(300);
        for (by, group, expected) in [
            (
                Some("ann"),
                "Walk\u{202e}ers\n",
                "Invited by ann. This room is bridged to the native group “Walkers”",
            ),
            (
                None,
                "Tea”; nobody reads",
                "This room is bridged to the native group “Tea'; nobody reads”",
            ),
            (Some(&*long), &*long, "Invited by xxx"),
        ] {
            let said = invited(by, group);
            assert!(said.starts_with(expected), "{said}");
            assert!(said.chars().count() < 300, "{said}");
        }
    }

    #[test]
    fn the_topic_says_who_reads_and_where_to_ask() {
        let table = [
            (0, "nobody"),
            (1, "n000"),
            (2, "n000 and n001"),
            (3, "n000, n001 and n002"),
            (4, "n000, n001 and others"),
            (10_000, "n000, n001 and others"),
        ];
        for (count, who) in table {
            let topic =
                format!("Bridged to the native group “Walkers”; read by {who}: !causeway members");
            assert_eq!(natives(count).topic(), topic);
        }
    }

    #[test]
    fn a_topic_says_what_the_group_is_about_in_one_line_that_ends() {
        let topic = |about: &str| Natives::new("Walkers", about, accounts(1), HERE).topic();
        assert!(topic("We meet\nat 9.").ends_with("members; its topic: “We meet at 9.”"));
        assert!(topic(" \n").ends_with("members"), "{}", topic(" \n"));
        assert!(topic(&"x".repeat(4_096)).chars().count() < 600);
        assert!(may_be_replaced(&topic("We meet at 9."), &[]));
    }

    #[test]
    fn pages_name_everybody_once() {
        let natives = natives(120);
        let pages: Vec<String> = (1..=4).map(|page| natives.page(page)).collect();
        for n in 0..120 {
            let name = format!("n{n:03}");
            let on: Vec<bool> = pages.iter().map(|page| page.contains(&name)).collect();
            assert_eq!(on, [n < 50, (50..100).contains(&n), n >= 100, false], "{n}");
        }
        assert!(pages[0].contains("1 to 50 of 120") && pages[0].ends_with("members 2"));
        assert!(pages[2].contains("101 to 120 of 120") && !pages[2].contains("More"));
        for page in [0, usize::MAX] {
            natives.page(page);
        }
    }

    #[test]
    fn who_came_and_went_and_by_whom() {
        let [ann, ben] =
            ["ann:b.example", "ben:b.example"].map(|a| a.parse::<AccountId>().unwrap());
        let one = std::slice::from_ref(&ben);
        assert!(came(Some(&ann), one, HERE).starts_with("ann let ben into the group"));
        assert!(came(Some(&ann), &accounts(30), HERE).contains("n009 and 20 more into"));
        assert!(went(Some(&ann), one, HERE).starts_with("ann removed ben from"));
        assert!(went(Some(&ben), one, HERE).starts_with("ben left the group"));
        assert!(went(None, one, HERE).starts_with("A former member removed ben from"));
        // Whose server is another one is called by all of his name.
        let of_another = went(Some(&ann), one, "c.example");
        assert!(of_another.starts_with("ann:b.example removed ben:b.example from"));
    }

    #[test]
    fn what_people_wrote_is_left_alone() {
        let ours = natives(1).topic();
        for (topic, may) in [("", true), (&*ours, true), ("closed", true), ("Tea at five", false)] {
            assert_eq!(may_be_replaced(topic, &["closed"]), may, "{topic}");
        }
    }
}
