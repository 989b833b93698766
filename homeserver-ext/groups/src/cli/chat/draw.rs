//! The state on the screen. Whatever others wrote has gone through `harmless` before it is here.

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Modifier, Style},
    text::{Line as Row, Span},
    widgets::{Block, Borders, Clear, Paragraph},
};

use super::{
    super::{
        called::in_words,
        harmless::{harmless, one_line},
        line::Line,
        local_time::LocalTime,
    },
    compose::Draft,
    group::{Group, Standing},
    keys::{HELP, SHORT},
    state::{Panel, State},
};

/// A narrower screen shows no list of groups.
const WITH_LIST: u16 = 60;
const MOST_DRAFT_ROWS: u16 = 8;
const INDENT: &str = "      ";
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const REVERSED: Style = Style::new().add_modifier(Modifier::REVERSED);

/// Draws all of it, for somebody who calls this program like this.
pub(crate) fn draw(state: &State, called: &str, time: &LocalTime, frame: &mut Frame<'_>) {
    let area = frame.area();
    let said = in_words(&status(state), called);
    let rows = wrapped(&said, area.width, "");
    let height = u16::try_from(rows.len()).unwrap_or(1).clamp(1, 4);
    let [main, status, keys] =
        Layout::vertical([Constraint::Min(0), Constraint::Length(height), Constraint::Length(1)])
            .areas(area);
    frame.render_widget(Paragraph::new(plain(rows, BOLD)), status);
    frame.render_widget(Paragraph::new(SHORT).style(DIM), keys);
    let list = if main.width < WITH_LIST { 0 } else { main.width / 4 };
    let [list, talk] =
        Layout::horizontal([Constraint::Length(list), Constraint::Min(0)]).areas(main);
    if list.width > 0 {
        let block = Block::bordered().title(" Groups ");
        frame.render_widget(Paragraph::new(groups(state, list.width)).block(block), list);
    }
    let (rows, cursor) = draft(&state.draft(), talk.width.saturating_sub(2));
    let height = u16::try_from(rows.len()).unwrap_or(MOST_DRAFT_ROWS).min(MOST_DRAFT_ROWS);
    let [history, compose] =
        Layout::vertical([Constraint::Min(0), Constraint::Length(height + 2)]).areas(talk);
    draw_history(state, called, time, frame, history);
    draw_draft(state, called, rows, cursor, frame, compose);
    if let Some(panel) = &state.panel {
        draw_panel(panel, frame, history);
    }
}

/// The one line that says what is wrong, or what to do next.
fn status(state: &State) -> String {
    if let Some(notice) = &state.notice {
        return harmless(notice);
    }
    let trouble = state.selected.and_then(|group| state.troubles.get(&group));
    if let Some(why) = trouble.filter(|_| !state.waiting.is_empty()) {
        return format!("Kept, and not accepted yet: {}", harmless(why));
    }
    match &state.lost {
        Some(why) => format!("The server cannot be reached, trying again: {}", harmless(why)),
        None if state.groups.is_empty() => {
            "You are in no group. Make one with `causeway-client group create NAME`.".to_owned()
        }
        None => String::new(),
    }
}

fn groups(state: &State, width: u16) -> Vec<Row<'static>> {
    let width = usize::from(width.saturating_sub(2));
    let row = |group: &Group| {
        let sign = match (&group.standing, group.unread, group.asks.len()) {
            (Standing::Out | Standing::Closed, ..) => "over".to_owned(),
            (Standing::Offered(_), ..) => "offer".to_owned(),
            (Standing::In, 0, 0) => String::new(),
            (Standing::In, 0, _) => "asks".to_owned(),
            (Standing::In, unread, _) => unread.to_string(),
        };
        let room = width.saturating_sub(sign.len() + 1);
        let handle = handle(group);
        // Which of them it is has to be seen, however long the name.
        let name = fitting(&one_line(&group.name), room.saturating_sub(handle.len())) + &handle;
        let gap = width.saturating_sub(Span::raw(name.as_str()).width() + sign.len());
        let style = match (Some(group.id) == state.selected, group.unread > 0) {
            (true, _) => REVERSED,
            (false, true) => BOLD,
            (false, false) => Style::new(),
        };
        Row::styled(format!("{name}{}{sign}", " ".repeat(gap)), style)
    };
    state.groups.iter().map(row).collect()
}

/// What tells a group from another that looks as if it had the same name.
fn handle(group: &Group) -> String {
    group.handle.as_ref().map_or_else(String::new, |handle| format!(" ({handle})"))
}

fn draw_history(state: &State, called: &str, time: &LocalTime, frame: &mut Frame<'_>, area: Rect) {
    let title = state.group().map_or_else(String::new, |group| {
        let name = one_line(&group.name) + &handle(group);
        let others = state.groups.iter().filter(|other| other.id != group.id);
        let unread: usize = others.map(|other| other.unread).sum();
        // Where there is no list that shows it.
        let elsewhere = match (frame.area().width < WITH_LIST, unread) {
            (false, _) | (_, 0) => String::new(),
            (true, unread) => format!(" ({unread} unread in others)"),
        };
        format!(" {name}: {}, {} members{elsewhere} ", group.readers, group.members)
    });
    let (inner, block) = (Block::bordered().inner(area), Block::bordered().title(title));
    frame.render_widget(block, area);
    let mut rows = Vec::new();
    let mut marked_at = None;
    for line in &state.lines {
        let is_marked = Some(line.row) == state.marked;
        if is_marked {
            marked_at = Some(rows.len());
        }
        let style = match (is_marked, line.is_own(), line.name().is_some()) {
            (true, ..) => REVERSED,
            (false, true, _) => BOLD,
            (false, false, true) => Style::new(),
            (false, false, false) => DIM,
        };
        rows.extend(plain(wrapped(&said(line, called, time), inner.width, INDENT), style));
    }
    for text in &state.waiting {
        let text = format!("  …   {}", harmless(text));
        rows.extend(plain(wrapped(&text, inner.width, INDENT), DIM));
    }
    if let Some(group) = state.group() {
        rows.extend(plain(wrapped(&asked(group), inner.width, "   "), BOLD));
    }
    let newest = rows.len().saturating_sub(usize::from(inner.height));
    let first = marked_at.map_or(newest, |at| at.min(newest));
    let shown: Vec<_> = rows.into_iter().skip(first).take(usize::from(inner.height)).collect();
    frame.render_widget(Paragraph::new(shown), inner);
}

fn said(line: &Line, called: &str, time: &LocalTime) -> String {
    format!("{} {}", time.of(line.at()), line.to_short_text(called))
}

/// What waits for this person's decision in a group.
fn asked(group: &Group) -> String {
    match (&group.standing, group.asks.first()) {
        (Standing::Offered(by), _) => {
            let by = by.as_ref().map_or_else(|| "Somebody".to_owned(), ToString::to_string);
            format!(
                "?? {by} has put you into this group. Nothing of yours goes there yet: Ctrl-A takes \
                 part, Ctrl-X leaves."
            )
        }
        (Standing::In, Some(who)) => {
            format!("?? {who}, who was removed before, asks to be let in: Ctrl-A lets them in.")
        }
        (Standing::In | Standing::Out | Standing::Closed, _) => String::new(),
    }
}

fn draw_draft(
    state: &State,
    called: &str,
    rows: Vec<String>,
    (x, y): (usize, usize),
    frame: &mut Frame<'_>,
    area: Rect,
) {
    let title = match state.answered() {
        Some(line) => format!(" answers {} ", one_line(&line.to_short_text(called))),
        None => String::new(),
    };
    let title = fitting(&title, usize::from(area.width.saturating_sub(2)));
    let block = Block::default().borders(Borders::ALL).title(title);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let first = (y + 1).saturating_sub(usize::from(inner.height));
    let shown: Vec<_> = rows.into_iter().skip(first).map(Row::raw).collect();
    frame.render_widget(Paragraph::new(shown), inner);
    let end = |at: usize| u16::try_from(at).unwrap_or(u16::MAX);
    if state.panel.is_none() && inner.height > 0 {
        let (x, y) = (inner.x.saturating_add(end(x)), inner.y.saturating_add(end(y - first)));
        frame.set_cursor_position((x, y));
    }
}

/// A draft in rows of this width, and where the cursor stands.
fn draft(draft: &Draft, width: u16) -> (Vec<String>, (usize, usize)) {
    let width = usize::from(width.max(2));
    let (mut rows, mut row, mut used) = (Vec::new(), String::new(), 0);
    let mut cursor = None;
    for (at, character) in draft.chars().iter().enumerate() {
        let wide = Span::raw(character.to_string()).width();
        if *character != '\n' && used + wide >= width {
            rows.push(std::mem::take(&mut row));
            used = 0;
        }
        if at == draft.at() {
            cursor = Some((used, rows.len()));
        }
        if *character == '\n' {
            rows.push(std::mem::take(&mut row));
            used = 0;
        } else {
            row.push(*character);
            used += wide;
        }
    }
    let cursor = cursor.unwrap_or((used, rows.len()));
    rows.push(row);
    (rows, cursor)
}

fn draw_panel(panel: &Panel, frame: &mut Frame<'_>, area: Rect) {
    let (title, rows) = match panel {
        Panel::Help => {
            let row = |(key, what): &(&str, &str)| format!("{key:<16} {what}");
            (" Keys: any key goes back ", HELP.iter().map(row).collect())
        }
        Panel::Readers(rows, first) => {
            let rows = rows.iter().skip(*first).cloned().collect();
            (" Who reads: Up and Down, any other key goes back ", rows)
        }
        Panel::Leave => (
            " Leave the group? ",
            vec![
                "y leaves: what is said there later you cannot read. Any other key stays."
                    .to_owned(),
            ],
        ),
    };
    let inner = Block::bordered().inner(area);
    let rows: Vec<_> =
        rows.iter().flat_map(|row| wrapped(&harmless(row), inner.width, "  ")).collect();
    frame.render_widget(Clear, area);
    let widget = Paragraph::new(plain(rows, Style::new()));
    frame.render_widget(widget.block(Block::bordered().title(title)), area);
}

fn wrapped(text: &str, width: u16, indent: &str) -> Vec<String> {
    if text.is_empty() {
        return Vec::new();
    }
    let options = textwrap::Options::new(usize::from(width.max(1))).subsequent_indent(indent);
    let rows = text.lines().enumerate().flat_map(|(nth, line)| {
        // `harmless` indents what follows a line end; here that is done for every row.
        let rest = line.strip_prefix("    ").unwrap_or(line);
        let (line, first) = if nth == 0 { (line, "") } else { (rest, indent) };
        textwrap::wrap(line, options.clone().initial_indent(first))
    });
    rows.map(std::borrow::Cow::into_owned).collect()
}

fn plain(rows: Vec<String>, style: Style) -> Vec<Row<'static>> {
    rows.into_iter().map(|row| Row::styled(row, style)).collect()
}

/// As much of a name as fits.
fn fitting(name: &str, width: usize) -> String {
    if Span::raw(name).width() <= width {
        return name.to_owned();
    }
    let mut cut = String::new();
    for character in name.chars() {
        if Span::raw(cut.as_str()).width() + 3 > width {
            break;
        }
        cut.push(character);
    }
    if width == 0 { String::new() } else { cut + "…" }
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::cli::{
        called::PROGRAM,
        chat::{
            compose::Edit,
            sample::{at, group, message, roster},
            state::Command,
        },
        line::Said,
    };

    fn shown(state: &State, width: u16, height: u16) -> String {
        shown_to(state, PROGRAM, width, height)
    }

    fn shown_to(state: &State, called: &str, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(state, called, &LocalTime::utc(at(9)), frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |cells: &[ratatui::buffer::Cell]| {
            let row: String = cells.iter().map(ratatui::buffer::Cell::symbol).collect();
            row.trim_end().to_owned() + "\n"
        };
        buffer.content.chunks(usize::from(width)).map(row).collect()
    }

    fn talk() -> State {
        let mut state = State::default();
        let (mut news, mut club) = (group(2, "news"), group(3, "book club"));
        news.unread = 2;
        club.standing = Standing::Offered(Some("eve:b.example".parse().unwrap()));
        state.set_groups(vec![group(1, "team"), club, news]);
        let mut answer = message(1, 4, "me", "Nine. I bring the bread.");
        if let Said::Message(answer) = &mut answer.what {
            answer.reply_row = Some(2);
        }
        let lines = vec![
            roster(1, 1),
            message(1, 2, "bob", "Breakfast tomorrow, and if so when?"),
            message(1, 3, "carol", "I am in. Somebody should bring bread, the shop here is shut."),
            answer,
        ];
        state.open(lines[0].group, lines, false);
        state
    }

    /// What the book shows is what the screen shows.
    #[test]
    fn the_book_shows_a_session_as_it_is() {
        let mut state = talk();
        state.waiting = vec!["And a newspaper.".to_owned()];
        state.apply(Command::Edit(Edit::Insert("Who brings\ncoffee?".to_owned())));
        state.apply(Command::Answer);
        let screen = shown(&state, 80, 18);
        let book = include_str!("../../../../../docs/client.md");
        assert!(book.contains(&format!("```text\n{screen}```\n")), "not in the book:\n{screen}");
    }

    /// What people said stays as they said it.
    #[test]
    fn advice_names_the_program_as_it_is_called() {
        let called = "causeway client";
        let none = shown_to(&State::default(), called, 100, 6);
        assert!(none.contains("`causeway client group create NAME`"), "{none}");
        let mut state = talk();
        let mut offered = roster(1, 5);
        offered.what = Said::Offered { by: None, identity: "pinned".to_owned(), members: 2 };
        state.lines = vec![offered, message(1, 6, "bob", "say causeway-client tail")];
        let screen = shown_to(&state, called, 240, 12);
        assert!(screen.contains("until you take it: causeway client group accept"), "{screen}");
        assert!(screen.contains("bob:b.example: say causeway-client tail"), "{screen}");
        state.groups[0].standing = Standing::Closed;
        state.apply(Command::Leave);
        let screen = shown_to(&state, called, 240, 12);
        assert!(screen.contains("closed. `causeway client group forget "), "{screen}");
        assert!(shown(&state, 240, 12).contains("closed. `causeway-client group forget "));
    }

    #[test]
    fn groups_that_look_as_if_they_had_one_name_are_told_apart() {
        let mut state = talk();
        for (nth, handle) in ["AQEBAQEB", "-wMDAwMD"].into_iter().enumerate() {
            state.groups[nth].name = "the walkers of the north".to_owned();
            state.groups[nth].handle = Some(handle.to_owned());
        }
        let screen = shown(&state, 100, 18);
        assert!(screen.contains("│the walke… (AQEBAQEB)"), "{screen}");
        assert!(screen.contains("│the … (-wMDAwMD)  offer│"), "{screen}");
        assert!(screen.contains("┌ the walkers of the north (AQEBAQEB): end-to-end"), "{screen}");
    }

    #[test]
    fn what_others_wrote_moves_nothing_on_any_screen() {
        let mut state = talk();
        state.groups[1].name = "\u{1b}]0;x\u{7}club\u{202e}".to_owned();
        state.lines.push(message(1, 5, "bob", "\u{1b}[2J\u{85}\u{202e}"));
        state.notice = Some("\u{1b}[31m".to_owned());
        state.lost = Some("\u{9b}".to_owned());
        for panel in [
            None,
            Some(Panel::Help),
            Some(Panel::Leave),
            Some(Panel::Readers(vec!["\u{1b}c".to_owned()], 0)),
        ] {
            state.panel = panel;
            for (width, height) in [(80, 24), (59, 10), (20, 6), (3, 3), (1, 1), (300, 90)] {
                let screen = shown(&state, width, height);
                assert!(!screen.chars().any(|c| c.is_control() && c != '\n'), "{screen}");
                assert!(!screen.contains('\u{202e}'), "{screen}");
            }
        }
    }

    #[test]
    fn trouble_stands_where_it_is_and_the_newest_lines_above_it() {
        let mut state = talk();
        let team = state.selected.unwrap();
        state.set_trouble(team, Some("the server is away".to_owned()));
        assert!(!shown(&state, 80, 18).contains("away"), "nothing waits");
        state.waiting = vec!["later".to_owned()];
        assert!(shown(&state, 80, 18).contains("Kept, and not accepted yet: the server is away"));
        state.groups[0].asks = vec!["mallory:b.example".parse().unwrap()];
        assert!(shown(&state, 80, 18).contains("?? mallory:b.example, who was removed before"));
        assert!(shown(&state, 59, 18).contains("members (2 unread in others)"));
        // A small screen shows the end, and what is looked at.
        let small = shown(&state, 70, 8);
        assert!(small.contains("Ctrl-A") && !small.contains("made the group"), "{small}");
        state.apply(Command::Up(9));
        let small = shown(&state, 70, 8);
        assert!(small.contains("made the group") && !small.contains("Ctrl-A"), "{small}");
    }
}
