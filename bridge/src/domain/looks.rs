//! How a name looks: what cannot be seen is taken out of it, and names that people would take for one
//! another are known as such.
//!
//! UTS #39 is the measure: two names are alike if their skeletons are. What joins letters and
//! emoji stays where spelling needs it; whether it is there makes no name another one.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use causeway_protocol::{ids::AccountId, roster::Roster, visible::is_invisible};
use ruma::{OwnedUserId, UserId};
use unicode_properties::{EmojiStatus, UnicodeEmoji as _};
use unicode_script::{Script, UnicodeScript as _};
use unicode_security::skeleton;

/// Most characters of a name; longer ones are cut.
const MAX_CHARS: usize = 80;

/// `name` in one line, without what nobody sees: control and format characters (bidirectional
/// overrides among them), fillers, joiners that join nothing, runs of white space.
pub fn clean(name: &str) -> String {
    clean_to(name, MAX_CHARS)
}

/// The same of a text that may be so many characters long.
pub fn clean_to(name: &str, most: usize) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut kept = String::with_capacity(name.len());
    for (place, c) in chars.iter().enumerate() {
        let behind = chars.get(place + 1..).unwrap_or_default();
        if is_joiner(*c) {
            let next = behind.iter().find(|c| is_base(**c));
            let before = kept.chars().rev().find(|c| !is_mark(*c));
            if before.zip(next).is_some_and(|(before, next)| joins(*c, before, *next)) {
                kept.push(*c);
            }
        } else if *c == EMOJI_STYLE {
            if kept.chars().last().is_some_and(is_emoji) {
                kept.push(*c);
            }
        } else if c.is_whitespace() || !is_invisible(*c) {
            kept.push(*c);
        }
    }
    let line = kept.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut: String = line.chars().take(most).collect();
    cut.trim_end_matches(is_joiner).to_owned()
}

const NON_JOINER: char = '\u{200c}';
const JOINER: char = '\u{200d}';
/// Asks for the emoji where a character is also a sign of text.
const EMOJI_STYLE: char = '\u{fe0f}';

fn is_joiner(c: char) -> bool {
    matches!(c, JOINER | NON_JOINER)
}

/// What takes part in the look of the letter before it.
fn is_mark(c: char) -> bool {
    c.script() == Script::Inherited || matches!(c, '\u{1f3fb}'..='\u{1f3ff}')
}

fn is_base(c: char) -> bool {
    !is_mark(c) && !is_invisible(c)
}

/// Whether `joiner` between these two changes what is written: Persian and its kin, Indic, and emoji
/// that are made of several.
fn joins(joiner: char, before: char, next: char) -> bool {
    (is_joined(before) && is_joined(next))
        || (joiner == JOINER && is_emoji(before) && is_emoji(next))
}

/// Whether letters of its script take other forms beside one another.
fn is_joined(c: char) -> bool {
    matches!(
        c.script(),
        Script::Arabic
            | Script::Syriac
            | Script::Mongolian
            | Script::Nko
            | Script::Mandaic
            | Script::Devanagari
            | Script::Bengali
            | Script::Gurmukhi
            | Script::Gujarati
            | Script::Oriya
            | Script::Tamil
            | Script::Telugu
            | Script::Kannada
            | Script::Malayalam
            | Script::Sinhala
            | Script::Khmer
            | Script::Myanmar
    )
}

/// Digits are emoji too, by what Unicode says, and join nothing.
fn is_emoji(c: char) -> bool {
    !c.is_ascii() && c.emoji_status() != EmojiStatus::NonEmoji
}

/// What each ASCII character looks like, small.
static ASCII: LazyLock<Vec<String>> = LazyLock::new(|| {
    let one = |byte: u8| char::from(byte).to_string();
    (0..128).map(|byte| skeleton(&one(byte)).collect::<String>().to_lowercase()).collect()
});

/// What `name` looks like: alike whether it is written small or large.
fn looks(name: &str) -> [String; 2] {
    let of = |name: &str| match name.bytes().map(ascii).collect() {
        Some(look) => look,
        None => skeleton(name).collect::<String>().to_lowercase(),
    };
    [of(name), of(&name.to_lowercase())]
}

/// As in [`looks`], for names of which there are many; `None` beyond ASCII.
fn ascii(byte: u8) -> Option<&'static str> {
    ASCII.get(usize::from(byte)).map(String::as_str)
}

/// Whether a name that is written small looks like that.
fn is_look_of(look: &str, name: &str) -> bool {
    let rest = name.bytes().try_fold(look, |rest, byte| rest.strip_prefix(ascii(byte)?));
    rest == Some("")
}

/// How the people of a group and its room look already.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taken {
    mirrors: BTreeMap<String, OwnedUserId>,
    roster: Option<Arc<Roster>>,
    natives: Vec<AccountId>,
}

impl Taken {
    /// By Matrix users with their names, and by the members of a group.
    pub fn of(mirrors: &BTreeMap<OwnedUserId, String>, roster: Option<Arc<Roster>>) -> Self {
        let mut taken = Self { roster, ..Self::default() };
        for (user, name) in mirrors {
            taken.take(user, name);
        }
        taken
    }

    /// By these members of a group alone.
    pub fn by_natives(natives: &[AccountId]) -> Self {
        Self { natives: natives.to_vec(), ..Self::default() }
    }

    /// `user` goes by `name` from now on.
    pub fn take(&mut self, user: &UserId, name: &str) {
        for look in looks(name) {
            self.mirrors.entry(look).or_insert_with(|| user.to_owned());
        }
    }

    /// `user` goes by no name any more.
    pub fn let_go(&mut self, user: &UserId) {
        self.mirrors.retain(|_, whose| whose != user);
    }

    /// Whether somebody else than `user` looks like that.
    pub fn is_anothers(&self, user: &UserId, name: &str) -> bool {
        let members = self.roster.iter().flat_map(|roster| roster.members().values());
        let accounts = || members.clone().map(|member| &member.account).chain(&self.natives);
        looks(name).iter().any(|look| {
            self.mirrors.get(look).is_some_and(|whose| whose != user)
                || accounts().any(|account| {
                    is_look_of(look, account.localpart())
                        || look.contains(':') && is_look_of(look, account.as_str())
                })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_taken_out() {
        let table = [
            ("Al\nBo", "Al Bo"),
            (" \u{202e}\u{200b} ", ""),
            ("\u{202e}gnp.exe", "gnp.exe"),
            ("a\u{200b}b", "ab"),
            ("Al\u{3164}", "Al"),
            ("A\u{34f}l", "Al"),
            ("Al\u{2800}\u{115f}\u{ffa0}\u{180e}\u{e0041}", "Al"),
            ("A\u{200d}l\u{200c}", "Al"),
            ("1\u{fe0f}\u{20e3}", "1\u{20e3}"),
            ("👩\u{200d}Ada", "👩Ada"),
            ("Al\u{fe0f}", "Al"),
        ];
        for (name, cleaned) in table {
            assert_eq!(clean(name), cleaned, "{name:?}");
        }
        assert_eq!(clean(&"x".repeat(500)).len(), 80);
        // Nothing is cut in the middle of what is joined.
        let long = "👩\u{200d}".repeat(60);
        assert!(!clean(&long).ends_with('\u{200d}'));
    }

    #[test]
    fn what_joins_stays_where_spelling_needs_it() {
        for name in [
            "امیر\u{200c}حسین",
            "می\u{200c}خواهم",
            "क्\u{200d}ष",
            "ශ්\u{200d}රී",
            "👩\u{200d}🚀 Ada",
            "👩🏽\u{200d}🚀",
            "🏳\u{fe0f}\u{200d}🌈",
            "❤\u{fe0f}",
        ] {
            assert_eq!(clean(name), name, "{name:?}");
        }
    }

    #[test]
    fn names_that_look_alike_are_one() {
        let user = |id: &str| UserId::parse(id).unwrap();
        let alike = [
            ("Alice", "alice"),
            ("Alice", "Аlice"),
            ("Alice", "Al\u{456}ce"),
            ("Alice", "AIice"),
            ("paypal", "paypa1"),
            ("modern", "rnodern"),
            ("امیر\u{200c}حسین", "امیرحسین"),
            ("Al\u{34f}ice", "Alice"),
        ];
        for (name, other) in alike {
            let mut taken = Taken::default();
            taken.take(&user("@al:x"), name);
            assert!(taken.is_anothers(&user("@eve:x"), other), "{name} {other}");
            assert!(!taken.is_anothers(&user("@al:x"), other), "one's own");
            assert!(!taken.is_anothers(&user("@eve:x"), "Bob"));
        }
    }

    #[test]
    fn members_of_the_group_are_somebody_else() {
        let natives = ["ann:b.example", "mo0:b.example"].map(|name| name.parse().unwrap());
        let taken = Taken::by_natives(&natives);
        let al = UserId::parse("@al:x").unwrap();
        for (name, is_anothers) in [
            ("Ann", true),
            ("аnn", true),
            ("ann:b.example", true),
            ("Ann:B.Example", true),
            ("Moo", true),
            ("rnoO", true),
            ("Anna", false),
            ("An", false),
        ] {
            assert_eq!(taken.is_anothers(&al, name), is_anothers, "{name}");
        }
    }

    #[test]
    fn ascii_looks_as_the_skeleton_has_it() {
        for name in ["paypa1", "rnodern", "AIice", "|0O1lI", "a.b_c=d/e+f-g:b.example", " ~!\"'`"] {
            let of = |name: &str| skeleton(name).collect::<String>().to_lowercase();
            assert_eq!(looks(name), [of(name), of(&name.to_lowercase())], "{name}");
        }
    }

    #[test]
    fn who_goes_leaves_his_name_to_others() {
        let user = |id: &str| UserId::parse(id).unwrap();
        let mut taken = Taken::default();
        taken.take(&user("@al:x"), "Al");
        assert!(taken.is_anothers(&user("@eve:x"), "AI"));
        taken.let_go(&user("@al:x"));
        assert!(!taken.is_anothers(&user("@eve:x"), "AI"));
    }
}
