//! What the room is told of who reads it in the group.

use std::fmt::Write as _;

use causeway_protocol::{
    ids::AccountId,
    roster::{Role, Roster},
};

use super::looks::clean;

/// How many are named where there is not room for all.
const NAMED: usize = 2;
/// How many are named of those who came or went at once.
const NAMED_OF_CHANGE: usize = 10;
/// How many one answer names.
const PAGE: usize = 50;
/// How every topic of ours begins.
const TOPIC: &str = "Bridged to the native group ";
/// What people in the room may say to the bot to see all of them.
const COMMAND: &str = "!causeway members";

/// Said in the group when the bridge is let in again: what these had said before it was taken out is not in
/// the room.
pub fn unsaid(accounts: &[AccountId]) -> String {
    format!(
        "Not all that was said here before the bridge was taken out got into the room: something of {} \
         is not there. Say it again if it matters.",
        short(accounts, NAMED_OF_CHANGE, "members")
    )
}

/// What is known of a group in its room: its name, and who is in it without the bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Natives {
    name: String,
    accounts: Vec<AccountId>,
}

impl Natives {
    /// As a roster has them.
    pub fn of(roster: &Roster) -> Self {
        let people = roster.members().values().filter(|member| member.role != Role::Bridge);
        Self::new(&roster.policy().name, people.map(|member| member.account.clone()).collect())
    }

    fn new(name: &str, mut accounts: Vec<AccountId>) -> Self {
        accounts.sort();
        // What stands between quotes here may not end them.
        let name = clean(name).replace(['“', '”', '„', '‟', '"'], "'");
        Self { name, accounts }
    }

    /// The room's topic.
    pub fn topic(&self) -> String {
        let Self { name, accounts } = self;
        format!("{TOPIC}“{name}”; read by {}: {COMMAND}", short(accounts, NAMED, "natives"))
    }

    /// Said when the room is bridged.
    pub fn introduction(&self) -> String {
        let Self { name, accounts } = self;
        format!(
            "This room is bridged to the native group “{name}”. What is said here is read there by \
             {}. `{COMMAND}` names all of them.",
            short(accounts, NAMED_OF_CHANGE, "natives")
        )
    }

    /// One of the pages that name all, the first is 1.
    pub fn page(&self, page: usize) -> String {
        let Self { name, accounts } = self;
        let count = accounts.len();
        let from = page.saturating_sub(1).saturating_mul(PAGE).min(count);
        let until = from.saturating_add(PAGE).min(count);
        let named: Vec<&str> =
            accounts.get(from..until).unwrap_or_default().iter().map(AccountId::as_str).collect();
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
            let _ = write!(text, ". More: {COMMAND} {}", page.saturating_add(1));
        }
        text
    }
}

/// Whether a topic is nobody's, or the bridge's to change.
pub fn may_be_replaced(topic: &str, others_of_ours: &[&str]) -> bool {
    topic.is_empty() || topic.starts_with(TOPIC) || others_of_ours.contains(&topic)
}

/// Said when people came into the group.
pub fn came(by: Option<&AccountId>, joined: &[AccountId]) -> String {
    let joined = short(joined, NAMED_OF_CHANGE, "");
    format!("{} let {joined} into the group: what is said here from now on reaches them.", who(by))
}

/// Said when people went out of it, or one left.
pub fn went(by: Option<&AccountId>, left: &[AccountId]) -> String {
    let names = short(left, NAMED_OF_CHANGE, "");
    let end = "what is said here from now on does not reach them";
    if by.is_some_and(|by| left == std::slice::from_ref(by)) {
        format!("{names} left the group: {end}.")
    } else {
        format!("{} removed {names} from the group: {end}.", who(by))
    }
}

/// Who did it, for people to read.
pub fn who(by: Option<&AccountId>) -> &str {
    by.map_or("A former member", AccountId::as_str)
}

/// All of them, or so many and how many more of what.
fn short(accounts: &[AccountId], most: usize, what: &str) -> String {
    // One more takes no more room than to say that there is one.
    let named = if accounts.len() <= most + 1 { accounts.len() } else { most };
    let mut parts: Vec<String> = accounts.iter().take(named).map(ToString::to_string).collect();
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

    fn accounts(count: usize) -> Vec<AccountId> {
        (0..count).map(|n| format!("n{n:03}:b.example").parse().unwrap()).collect()
    }

    fn natives(count: usize) -> Natives {
        let mut accounts = accounts(count);
        accounts.reverse();
        Natives::new("Walk\u{202e}ers\n", accounts)
    }

    /// Found by an attack: a name that ends its quotes said who reads.
    #[test]
    fn a_groups_name_says_nothing_outside_its_quotes() {
        for quote in ['“', '”', '"', '„'] {
            let name = format!("Tea{quote}; read by nobody: !causeway members");
            let topic = Natives::new(&name, accounts(1)).topic();
            let (named, rest) = topic.split_once('”').unwrap();
            assert_eq!(rest, "; read by n000:b.example: !causeway members");
            assert!(named.contains("Tea'; read by nobody"), "{named}");
        }
    }

    #[test]
    fn the_topic_says_who_reads_and_where_to_ask() {
        let table = [
            (0, "nobody"),
            (1, "n000:b.example"),
            (2, "n000:b.example and n001:b.example"),
            (3, "n000:b.example, n001:b.example and n002:b.example"),
            (4, "n000:b.example, n001:b.example and 2 more natives"),
            (10_000, "n000:b.example, n001:b.example and 9998 more natives"),
        ];
        for (count, who) in table {
            let topic =
                format!("Bridged to the native group “Walkers”; read by {who}: !causeway members");
            assert_eq!(natives(count).topic(), topic);
        }
    }

    #[test]
    fn pages_name_everybody_once() {
        let natives = natives(120);
        let pages: Vec<String> = (1..=4).map(|page| natives.page(page)).collect();
        for n in 0..120 {
            let name = format!("n{n:03}:b.example");
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
        assert!(
            came(Some(&ann), one).starts_with("ann:b.example let ben:b.example into the group")
        );
        assert!(came(Some(&ann), &accounts(30)).contains("n009:b.example and 20 more into"));
        assert!(went(Some(&ann), one).starts_with("ann:b.example removed ben:b.example from"));
        assert!(went(Some(&ben), one).starts_with("ben:b.example left the group"));
        assert!(went(None, one).starts_with("A former member removed ben"));
    }

    #[test]
    fn what_people_wrote_is_left_alone() {
        let ours = natives(1).topic();
        for (topic, may) in [("", true), (&*ours, true), ("closed", true), ("Tea at five", false)] {
            assert_eq!(may_be_replaced(topic, &["closed"]), may, "{topic}");
        }
    }
}
