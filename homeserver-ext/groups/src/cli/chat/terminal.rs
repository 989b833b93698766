//! The terminal while it is a chat, and as it was again afterwards, however that ends but by a kill.

use std::io::{self, Write as _, stdout};

use clap::ValueEnum;
use crossterm::{
    event::{DisableBracketedPaste, EnableBracketedPaste},
    execute,
};
use ratatui::DefaultTerminal;

use super::super::harmless::one_line;

/// How a message in another group is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Announce {
    /// The terminal's bell
    Bell,
    /// A notification of the desktop, by OSC 9, where the terminal knows that
    Osc9,
    /// Not at all
    Off,
}

/// The whole screen, which is given back when this goes.
pub(crate) struct Screen(pub(crate) DefaultTerminal);

impl Screen {
    pub(crate) fn enter() -> io::Result<Self> {
        let terminal = ratatui::try_init()?;
        let screen = Self(terminal);
        // What is pasted is one piece, and its line ends send nothing.
        execute!(stdout(), EnableBracketedPaste)?;
        Ok(screen)
    }

    /// Says that something came in a group; never what.
    pub(crate) fn announce(how: Announce, group: &str) -> io::Result<()> {
        let mut out = stdout().lock();
        match how {
            Announce::Bell => out.write_all(b"\x07")?,
            Announce::Osc9 => write!(out, "\x1b]9;{}: new message\x07", one_line(group))?,
            Announce::Off => {}
        }
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = execute!(stdout(), DisableBracketedPaste);
        ratatui::restore();
    }
}
