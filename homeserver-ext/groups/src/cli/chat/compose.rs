//! A text of several lines while it is written.

use super::super::harmless::harmless;

/// What is written, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Draft {
    text: Vec<char>,
    /// Characters before the cursor.
    at: usize,
}

/// What a key does to a draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Edit {
    Insert(String),
    Back,
    Delete,
    WordBack,
    LineBack,
    Left,
    Right,
    Up,
    Down,
    Start,
    End,
}

impl Draft {
    pub(crate) fn text(&self) -> String {
        self.text.iter().collect()
    }

    /// Whether there is nothing in it that could be said.
    pub(crate) fn is_blank(&self) -> bool {
        self.text.iter().all(|c| c.is_whitespace())
    }

    pub(crate) fn chars(&self) -> &[char] {
        &self.text
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Whether there is a line above, or below.
    pub(crate) fn has_line(&self, above: bool) -> bool {
        if above { self.line_start() > 0 } else { self.line_end() < self.text.len() }
    }

    pub(crate) fn edit(&mut self, edit: &Edit) {
        match edit {
            Edit::Insert(text) => self.insert(text),
            Edit::Back => self.cut_from(self.at.saturating_sub(1)),
            Edit::Delete if self.at < self.text.len() => {
                self.text.remove(self.at);
            }
            Edit::Delete => {}
            Edit::WordBack => self.cut_from(self.word_start()),
            Edit::LineBack => self.cut_from(self.line_start()),
            Edit::Left => self.at = self.at.saturating_sub(1),
            Edit::Right => self.at = (self.at + 1).min(self.text.len()),
            Edit::Up => {
                let start = self.line_start();
                let column = self.at - start;
                if start > 0 {
                    self.at = start - 1;
                    let above = self.line_start();
                    self.at = self.at.min(above + column);
                }
            }
            Edit::Down => {
                let column = self.at - self.line_start();
                let end = self.line_end();
                if end < self.text.len() {
                    self.at = end + 1;
                    self.at = self.line_end().min(end + 1 + column);
                }
            }
            Edit::Start => self.at = self.line_start(),
            Edit::End => self.at = self.line_end(),
        }
    }

    /// What is pasted may hold anything; the terminal gets none of it.
    fn insert(&mut self, text: &str) {
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let lines: Vec<String> = text.split('\n').map(harmless).collect();
        let new: Vec<char> = lines.join("\n").chars().collect();
        let count = new.len();
        self.text.splice(self.at..self.at, new);
        self.at += count;
    }

    fn cut_from(&mut self, start: usize) {
        self.text.drain(start..self.at);
        self.at = start;
    }

    fn line_start(&self) -> usize {
        self.text.iter().take(self.at).rposition(|c| *c == '\n').map_or(0, |end| end + 1)
    }

    fn line_end(&self) -> usize {
        let rest = self.text.iter().skip(self.at);
        rest.take_while(|c| **c != '\n').count() + self.at
    }

    fn word_start(&self) -> usize {
        let mut before: Vec<char> = self.text.iter().take(self.at).copied().collect();
        while before.pop_if(|c| c.is_whitespace()).is_some() {}
        while before.pop_if(|c| !c.is_whitespace()).is_some() {}
        before.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys on `a|b`, where the bar is the cursor, and what comes of them.
    #[test]
    fn keys_change_a_draft_where_the_cursor_is() {
        let insert = |text: &str| Edit::Insert(text.to_owned());
        let table: [(&str, Edit, &str); 20] = [
            ("|", insert("hi"), "hi|"),
            ("a|c", insert("b"), "ab|c"),
            ("a|", insert("\r\nb\rc"), "a\nb\nc|"),
            ("|", insert("a\x1b[2J\tb\u{202e}"), "a\u{fffd}[2J b\u{fffd}|"),
            ("ab|c", Edit::Back, "a|c"),
            ("|a", Edit::Back, "|a"),
            ("a|bc", Edit::Delete, "a|c"),
            ("a|", Edit::Delete, "a|"),
            ("one two  |three", Edit::WordBack, "one |three"),
            ("|one", Edit::WordBack, "|one"),
            ("one\ntwo|", Edit::LineBack, "one\n|"),
            ("ä|b", Edit::Left, "|äb"),
            ("a|", Edit::Right, "a|"),
            ("long\nto\nlonger|", Edit::Up, "long\nto|\nlonger"),
            ("a|b", Edit::Up, "a|b"),
            ("lon|g\nto", Edit::Down, "long\nto|"),
            ("a|\nbc", Edit::Down, "a\nb|c"),
            ("ab|", Edit::Down, "ab|"),
            ("a\nbc|d", Edit::Start, "a\n|bcd"),
            ("a|b\nc", Edit::End, "ab|\nc"),
        ];
        for (before, edit, after) in table {
            let at = before.chars().position(|c| c == '|').unwrap();
            let mut draft = Draft { text: before.replace('|', "").chars().collect(), at };
            draft.edit(&edit);
            let mut shown = draft.text.clone();
            shown.insert(draft.at, '|');
            assert_eq!(shown.iter().collect::<String>(), after, "{edit:?} on {before:?}");
        }
    }
}
