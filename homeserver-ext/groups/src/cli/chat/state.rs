//! What is on the screen, and what a key makes of it. Nothing here reads or writes anything.

use std::collections::BTreeMap;

use causeway_protocol::{
    content::MessageRef,
    ids::{AccountId, GroupId},
};

use super::{
    super::line::{Line, Said},
    compose::{Draft, Edit},
    group::{Group, Standing},
};

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) groups: Vec<Group>,
    pub(crate) selected: Option<GroupId>,
    /// The last lines of the selected group, without a gap.
    pub(crate) lines: Vec<Line>,
    /// Whether more may be kept before them.
    pub(crate) has_older: bool,
    /// What was entered in the selected group and was not accepted yet.
    pub(crate) waiting: Vec<String>,
    /// Why what waits does not go out.
    pub(crate) troubles: BTreeMap<GroupId, String>,
    drafts: BTreeMap<GroupId, Draft>,
    /// The row of the message that the draft answers.
    pub(crate) answers: Option<i64>,
    /// The row of the line that is looked at; none: the newest are.
    pub(crate) marked: Option<i64>,
    pub(crate) panel: Option<Panel>,
    /// Said once, until the next key.
    pub(crate) notice: Option<String>,
    /// Why the server cannot be reached.
    pub(crate) lost: Option<String>,
}

/// What lies over the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Panel {
    Help,
    /// Who reads, a line each, and which line is the first on the screen.
    Readers(Vec<String>, usize),
    /// Whether to leave the group.
    Leave,
}

/// What a key means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    Edit(Edit),
    Send,
    NextGroup,
    PreviousGroup,
    /// Looks at a line further up.
    Up(usize),
    Down(usize),
    Newest,
    Answer,
    Escape,
    Readers,
    Help,
    Accept,
    Leave,
    /// Yes to what a panel asks.
    Agree,
    Quit,
}

/// What is to be done about it outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// The draft stays until it is [kept](State::kept).
    Send {
        group: GroupId,
        body: String,
        reply_to: Option<MessageRef>,
    },
    Open(GroupId),
    Older(GroupId, i64),
    Readers(GroupId),
    Accept(GroupId),
    Admit(GroupId, AccountId),
    Leave(GroupId),
    Quit,
}

impl State {
    pub(crate) fn group(&self) -> Option<&Group> {
        let selected = self.selected?;
        self.groups.iter().find(|group| group.id == selected)
    }

    /// What is being written in the selected group.
    pub(crate) fn draft(&self) -> Draft {
        self.selected.and_then(|group| self.drafts.get(&group)).cloned().unwrap_or_default()
    }

    /// The message that the draft answers.
    pub(crate) fn answered(&self) -> Option<&Line> {
        self.lines.iter().find(|line| Some(line.row) == self.answers)
    }

    /// Takes the groups as they are now. Says in which others something came.
    pub(crate) fn set_groups(&mut self, groups: Vec<Group>) -> Vec<String> {
        let had = |id: GroupId| self.groups.iter().find(|g| g.id == id).map_or(0, |g| g.unread);
        let is_first = self.groups.is_empty();
        let others = groups.iter().filter(|group| Some(group.id) != self.selected);
        let rang = others.filter(|group| !is_first && group.unread > had(group.id));
        let rang = rang.map(|group| group.name.clone()).collect();
        self.groups = groups;
        rang
    }

    /// Another group is on the screen, with its last lines.
    pub(crate) fn open(&mut self, group: GroupId, lines: Vec<Line>, has_older: bool) {
        self.selected = Some(group);
        self.lines = lines;
        self.has_older = has_older;
        self.waiting.clear();
        (self.answers, self.marked, self.panel) = (None, None, None);
    }

    /// Lines that are before those on the screen.
    pub(crate) fn older(&mut self, mut lines: Vec<Line>, has_older: bool) {
        self.has_older = has_older;
        if let Some(last) = lines.last() {
            self.marked = Some(last.row);
        }
        lines.append(&mut self.lines);
        self.lines = lines;
    }

    /// What was entered is stored: the draft is done.
    pub(crate) fn kept(&mut self, group: GroupId) {
        self.drafts.remove(&group);
        (self.answers, self.marked) = (None, None);
    }

    /// Why what waits there does not go out, or that it did.
    pub(crate) fn set_trouble(&mut self, group: GroupId, trouble: Option<String>) {
        match trouble {
            Some(why) => self.troubles.insert(group, why),
            None => self.troubles.remove(&group),
        };
    }

    /// What a key means here.
    pub(crate) fn apply(&mut self, command: Command) -> Option<Effect> {
        self.notice = None;
        let panel = match (self.panel.take(), &command) {
            (Some(Panel::Readers(rows, first)), Command::Up(lines)) => {
                self.panel = Some(Panel::Readers(rows, first.saturating_sub(*lines)));
                return None;
            }
            (Some(Panel::Readers(rows, first)), Command::Down(lines)) => {
                let last = rows.len().saturating_sub(1);
                self.panel = Some(Panel::Readers(rows, (first + lines).min(last)));
                return None;
            }
            (panel, _) => panel,
        };
        match command {
            Command::Quit => return Some(Effect::Quit),
            Command::Agree => {
                return (panel == Some(Panel::Leave)).then_some(Effect::Leave(self.selected?));
            }
            // Whatever lies over the history goes with the next key.
            _ if panel.is_some() => {}
            Command::Help => self.panel = Some(Panel::Help),
            Command::NextGroup => return self.step(1),
            Command::PreviousGroup => return self.step(self.groups.len().saturating_sub(1)),
            Command::Escape if self.answers.is_some() => self.answers = None,
            Command::Escape | Command::Newest => self.marked = None,
            Command::Edit(edit) => {
                self.drafts.entry(self.selected?).or_default().edit(&edit);
            }
            Command::Up(lines) => return self.up(lines),
            Command::Down(lines) => self.down(lines),
            Command::Answer => self.answer(),
            Command::Readers => return Some(Effect::Readers(self.selected?)),
            Command::Send => return self.send(),
            Command::Accept => return self.accept(),
            Command::Leave => {
                let group = self.group()?;
                match group.standing {
                    Standing::In | Standing::Offered(_) => self.panel = Some(Panel::Leave),
                    Standing::Out => {
                        self.notice = Some(format!("You are not in this group. {}", forget(group)));
                    }
                    Standing::Closed => {
                        self.notice = Some(format!("This group is closed. {}", forget(group)));
                    }
                }
            }
        }
        None
    }

    fn step(&self, by: usize) -> Option<Effect> {
        let at = self.groups.iter().position(|group| Some(group.id) == self.selected);
        let next = at.map_or(0, |at| at + by) % self.groups.len().max(1);
        self.groups.get(next).map(|group| Effect::Open(group.id))
    }

    fn up(&mut self, lines: usize) -> Option<Effect> {
        let at = self.marked_at().unwrap_or(self.lines.len());
        if at == 0 {
            let first = self.lines.first()?.row;
            return self.has_older.then_some(Effect::Older(self.selected?, first));
        }
        self.marked = self.lines.get(at.saturating_sub(lines)).map(|line| line.row);
        None
    }

    fn down(&mut self, lines: usize) {
        let next = self.marked_at().and_then(|at| self.lines.get(at + lines));
        self.marked = next.map(|line| line.row);
    }

    /// Where the line that is looked at stands among the lines.
    pub(crate) fn marked_at(&self) -> Option<usize> {
        self.lines.iter().position(|line| Some(line.row) == self.marked)
    }

    /// The line that is looked at is answered, or else what somebody else said last.
    fn answer(&mut self) {
        let is_message = |line: &&Line| matches!(line.what, Said::Message(_));
        let found = match self.marked_at() {
            Some(at) => self.lines.get(at).filter(is_message),
            None => self.lines.iter().rev().filter(is_message).find(|line| !line.is_own()),
        };
        self.answers = found.map(|line| line.row);
        if self.answers.is_none() {
            self.notice = Some("There is no message to answer: choose one with Up.".to_owned());
        }
    }

    fn send(&mut self) -> Option<Effect> {
        let (draft, group) = (self.draft(), self.group()?);
        if draft.is_blank() {
            return None;
        }
        let why = match (&group.standing, &group.changed) {
            (Standing::In, None) => {
                let name = self.answered().and_then(Line::name);
                let reply_to =
                    name.map(|n| MessageRef { device: n.device, client_id: n.client_id });
                return Some(Effect::Send { group: group.id, body: draft.text(), reply_to });
            }
            (Standing::In, Some(who)) => format!(
                "Not sent: {who} is not who that account was known to be. Ask them by another way, \
                 then `causeway-client verify {who}` or `member accept`, or leave with Ctrl-X."
            ),
            (Standing::Offered(_), _) => {
                "Not sent: you take no part here yet. Ctrl-A does, Ctrl-X goes.".to_owned()
            }
            (Standing::Out, _) => format!(
                "Not sent: you are not in this group any more; who is can let you in again. {}",
                forget(group)
            ),
            (Standing::Closed, _) => format!(
                "Not sent: this group is closed, and nothing follows in it. {}",
                forget(group)
            ),
        };
        self.notice = Some(why);
        None
    }

    fn accept(&mut self) -> Option<Effect> {
        let group = self.group()?;
        if let Standing::Offered(_) = group.standing {
            return Some(Effect::Accept(group.id));
        }
        if let Some(account) = group.asks.first() {
            return Some(Effect::Admit(group.id, account.clone()));
        }
        self.notice = Some("Nobody waits for an answer here.".to_owned());
        None
    }
}

/// What can be done with a group that is over.
fn forget(group: &Group) -> String {
    format!(
        "`causeway-client group forget {}` lets go of it, and of what was said there.",
        group.id
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::chat::sample::{group, message, roster};

    fn state() -> State {
        let mut state = State::default();
        let groups = vec![group(1, "team"), group(2, "news")];
        assert!(state.set_groups(groups).is_empty());
        let lines = vec![roster(1, 1), message(1, 2, "bob", "hello"), message(1, 3, "me", "hi")];
        state.open(GroupId::new([1; 32]), lines, true);
        state
    }

    fn write(state: &mut State, text: &str) {
        assert_eq!(state.apply(Command::Edit(Edit::Insert(text.to_owned()))), None);
    }

    #[test]
    fn what_is_entered_stays_a_draft_until_it_is_stored() {
        let mut state = state();
        let team = GroupId::new([1; 32]);
        write(&mut state, " \n");
        assert_eq!(state.apply(Command::Send), None, "blank");
        write(&mut state, "yes");
        assert_eq!(state.apply(Command::Answer), None);
        assert_eq!(state.answers, Some(2), "what somebody else said last");
        let Some(Effect::Send { group, body, reply_to }) = state.apply(Command::Send) else {
            panic!("nothing is sent");
        };
        assert_eq!((group, body.as_str()), (team, " \nyes"));
        assert_eq!(reply_to.map(|said| said.client_id), state.lines[1].name().map(|n| n.client_id));
        assert_eq!(state.draft().text(), " \nyes");
        state.kept(team);
        assert!(state.draft().is_blank() && state.answers.is_none());
    }

    #[test]
    fn nothing_is_entered_where_a_person_must_decide_first() {
        let bob: AccountId = "bob:b.example".parse().unwrap();
        for (standing, changed, words) in [
            (Standing::In, Some(bob), "bob:b.example is not who"),
            (Standing::Offered(None), None, "Ctrl-A"),
            (Standing::Out, None, "let you in again. `causeway-client group forget AQEB"),
            (
                Standing::Closed,
                None,
                "closed, and nothing follows in it. `causeway-client group forget",
            ),
        ] {
            let mut state = state();
            (state.groups[0].standing, state.groups[0].changed) = (standing, changed);
            write(&mut state, "secret");
            assert_eq!(state.apply(Command::Send), None);
            assert!(state.notice.as_ref().unwrap().contains(words), "{:?}", state.notice);
            assert_eq!(state.draft().text(), "secret");
        }
    }

    #[test]
    fn lines_are_looked_at_one_by_one_and_older_ones_are_fetched() {
        let mut state = state();
        let team = GroupId::new([1; 32]);
        for (command, marked, effect) in [
            (Command::Up(1), Some(3), None),
            (Command::Up(5), Some(1), None),
            (Command::Up(1), Some(1), Some(Effect::Older(team, 1))),
            (Command::Down(1), Some(2), None),
            (Command::Down(9), None, None),
            (Command::Down(1), None, None),
        ] {
            assert_eq!(state.apply(command), effect);
            assert_eq!(state.marked, marked);
        }
        state.older(vec![roster(1, 0)], false);
        assert_eq!(state.lines.iter().map(|line| line.row).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(state.apply(Command::Up(9)), None);
        assert_eq!(state.apply(Command::Answer), None);
        assert!(state.answers.is_none() && state.notice.is_some(), "that is no message");
    }

    #[test]
    fn who_reads_is_looked_through_and_any_other_key_goes_back() {
        let mut state = state();
        let team = state.selected.unwrap();
        assert_eq!(state.apply(Command::Readers), Some(Effect::Readers(team)));
        let rows: Vec<String> = (0..9).map(|n| n.to_string()).collect();
        state.panel = Some(Panel::Readers(rows.clone(), 0));
        for (command, first) in [(Command::Down(5), 5), (Command::Down(5), 8), (Command::Up(1), 7)]
        {
            assert_eq!(state.apply(command), None);
            assert_eq!(state.panel, Some(Panel::Readers(rows.clone(), first)));
        }
        write(&mut state, "x");
        assert!(state.panel.is_none() && state.draft().is_blank());
    }

    #[test]
    fn groups_follow_each_other_and_leaving_one_is_asked_first() {
        let mut state = state();
        let [team, news] = [1, 2].map(|n| GroupId::new([n; 32]));
        assert_eq!(state.apply(Command::NextGroup), Some(Effect::Open(news)));
        assert_eq!(state.apply(Command::PreviousGroup), Some(Effect::Open(news)));
        assert_eq!(state.apply(Command::Agree), None);
        assert_eq!(state.apply(Command::Leave), None);
        assert_eq!(state.apply(Command::Escape), None);
        assert_eq!(state.apply(Command::Agree), None, "it was not asked any more");
        state.apply(Command::Leave);
        assert_eq!(state.apply(Command::Agree), Some(Effect::Leave(team)));
        let mut groups = state.groups.clone();
        for group in &mut groups {
            group.unread += 1;
        }
        assert_eq!(state.set_groups(groups.clone()), ["news"], "not of the one on the screen");
        assert!(state.set_groups(groups).is_empty());
    }
}
