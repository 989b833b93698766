//! Which key means what.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{
    compose::Edit,
    state::{Command, Panel, State},
};

/// Lines that a page has for the keys that move by one.
const PAGE: usize = 10;

/// The last line of the screen.
pub(crate) const SHORT: &str =
    "Enter sends  Tab next group  Up looks back  ^R answers  F1 all keys  ^Q ends";

/// What the help panel says.
pub(crate) const HELP: &[(&str, &str)] = &[
    ("Enter", "send"),
    ("Alt-Enter, Ctrl-J", "a new line in the message"),
    ("Tab, Shift-Tab", "the next group, the one before (Ctrl-N, Ctrl-P too)"),
    ("Up, Down", "look at lines before; in a message of several lines the cursor moves first"),
    ("PgUp, PgDn", "ten lines at once"),
    ("Esc", "back to the newest line; takes an answer back"),
    ("Ctrl-R", "answer the line that is looked at, or what somebody else said last"),
    ("Ctrl-O", "who is in the group, and who reads it on Matrix"),
    ("Ctrl-A", "take part in a group that is offered; let in who asks"),
    ("Ctrl-X", "leave the group, after a question"),
    ("Ctrl-W, Ctrl-U", "delete a word, a line up to the cursor"),
    ("Ctrl-Q, Ctrl-C", "end; what was sent goes out all the same"),
];

/// What this key means now.
pub(crate) fn command(key: KeyEvent, state: &State) -> Option<Command> {
    if key.kind == KeyEventKind::Release {
        return None;
    }
    let asks = state.panel == Some(Panel::Leave);
    let draft = state.draft();
    let insert = |text: String| Some(Command::Edit(Edit::Insert(text)));
    let edit = |edit| Some(Command::Edit(edit));
    let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
    let alt = key.modifiers.contains(KeyModifiers::ALT);
    let shift = key.modifiers.contains(KeyModifiers::SHIFT);
    match key.code {
        KeyCode::Char(c) if ctrl => match c.to_ascii_lowercase() {
            'q' | 'c' => Some(Command::Quit),
            'j' => insert("\n".to_owned()),
            'n' => Some(Command::NextGroup),
            'p' => Some(Command::PreviousGroup),
            'r' => Some(Command::Answer),
            'o' => Some(Command::Readers),
            'a' => Some(Command::Accept),
            'x' => Some(Command::Leave),
            'w' => edit(Edit::WordBack),
            'u' => edit(Edit::LineBack),
            'h' => edit(Edit::Back),
            _ => None,
        },
        KeyCode::Char('y' | 'Y') if asks => Some(Command::Agree),
        KeyCode::Char('?') if draft.is_blank() && !alt => Some(Command::Help),
        KeyCode::Char(_) if alt => None,
        KeyCode::Char(c) => insert(c.to_string()),
        KeyCode::Enter if alt || shift => insert("\n".to_owned()),
        KeyCode::Enter => Some(Command::Send),
        KeyCode::Tab => Some(Command::NextGroup),
        KeyCode::BackTab => Some(Command::PreviousGroup),
        KeyCode::Up if draft.has_line(true) && state.marked.is_none() => edit(Edit::Up),
        KeyCode::Up => Some(Command::Up(1)),
        KeyCode::Down if draft.has_line(false) && state.marked.is_none() => edit(Edit::Down),
        KeyCode::Down => Some(Command::Down(1)),
        KeyCode::PageUp => Some(Command::Up(PAGE)),
        KeyCode::PageDown => Some(Command::Down(PAGE)),
        KeyCode::Left => edit(Edit::Left),
        KeyCode::Right => edit(Edit::Right),
        KeyCode::Home => edit(Edit::Start),
        KeyCode::End if state.marked.is_some() => Some(Command::Newest),
        KeyCode::End => edit(Edit::End),
        KeyCode::Backspace => edit(Edit::Back),
        KeyCode::Delete => edit(Edit::Delete),
        KeyCode::Esc => Some(Command::Escape),
        KeyCode::F(1) => Some(Command::Help),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use causeway_protocol::ids::GroupId;

    use super::*;

    #[test]
    fn a_key_means_what_the_help_says() {
        let mut writing = State::default();
        writing.open(GroupId::new([1; 32]), Vec::new(), false);
        writing.apply(Command::Edit(Edit::Insert("a\nb".to_owned())));
        let empty = State::default();
        let mut asked = State::default();
        asked.panel = Some(Panel::Leave);
        let (none, ctrl, alt) = (KeyModifiers::NONE, KeyModifiers::CONTROL, KeyModifiers::ALT);
        let insert = |text: &str| Some(Command::Edit(Edit::Insert(text.to_owned())));
        for (state, code, modifiers, wanted) in [
            (&empty, KeyCode::Char('y'), none, insert("y")),
            (&asked, KeyCode::Char('y'), none, Some(Command::Agree)),
            (&asked, KeyCode::Char('n'), none, insert("n")),
            (&empty, KeyCode::Char('?'), none, Some(Command::Help)),
            (&writing, KeyCode::Char('?'), none, insert("?")),
            (&writing, KeyCode::Enter, none, Some(Command::Send)),
            (&writing, KeyCode::Enter, alt, insert("\n")),
            (&writing, KeyCode::Char('j'), ctrl, insert("\n")),
            (&writing, KeyCode::Up, none, Some(Command::Edit(Edit::Up))),
            (&empty, KeyCode::Up, none, Some(Command::Up(1))),
            (&empty, KeyCode::PageUp, none, Some(Command::Up(PAGE))),
            (&writing, KeyCode::Down, none, Some(Command::Down(1))),
            (&empty, KeyCode::Tab, none, Some(Command::NextGroup)),
            (&empty, KeyCode::BackTab, none, Some(Command::PreviousGroup)),
            (&empty, KeyCode::Char('c'), ctrl, Some(Command::Quit)),
            (&empty, KeyCode::Char('r'), ctrl, Some(Command::Answer)),
            (&empty, KeyCode::F(1), none, Some(Command::Help)),
            (&empty, KeyCode::F(2), none, None),
        ] {
            assert_eq!(command(KeyEvent::new(code, modifiers), state), wanted, "{code:?}");
        }
        // Whatever the answer is, the question is over; only yes leaves.
        assert_eq!(asked.apply(Command::Edit(Edit::Insert("n".to_owned()))), None);
        assert!(asked.panel.is_none());
    }
}
