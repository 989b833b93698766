//! What came of the story: numbers for programs, words and a table for people.

use std::fmt::Write as _;

use serde::Serialize;

/// What came of it, each counted at the receiving client.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    pub(super) native_to_matrix: Way,
    pub(super) matrix_to_native: Way,
    pub(super) removed_member_could_read: u64,
    pub(super) duplicates: u64,
    pub(super) seconds: f64,
    /// Of each of two servers, what was said natively there until the removal, and read natively on
    /// the other.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) servers: Vec<OnServer>,
    /// Who heard whom in the call, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) calls: Option<Heard>,
    /// Messages that the removed member's client was handed.
    #[serde(skip)]
    pub(super) handed: u64,
    /// Pieces of what was said in the pairwise group after the story, if there was one.
    #[serde(skip)]
    pub(super) pieces: Option<Way>,
}

/// What was said on one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct OnServer {
    pub(super) server: String,
    #[serde(flatten)]
    pub(super) way: Way,
    pub(super) duplicates: u64,
}

/// In a call: of each two, whether the one heard the other's tone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Heard {
    /// While four talked directly.
    pub(super) directly: Ways,
    /// Once LiveKit carried all five.
    pub(super) by_livekit: Ways,
    /// Connections that did not come about.
    pub(super) failed: u64,
}

/// Of so many ways, on how many sound came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Ways {
    pub(super) of: u64,
    pub(super) heard: u64,
}

/// One direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Way {
    pub(super) sent: u64,
    pub(super) received: u64,
}

impl Outcome {
    /// Why this is no good outcome; `None` if it is.
    pub(super) fn fault(&self) -> Option<String> {
        let lost = |way: Way| way.sent - way.received.min(way.sent);
        let rows = [
            (lost(self.native_to_matrix), "messages from native to Matrix were lost"),
            (lost(self.matrix_to_native), "messages from Matrix to native were lost"),
            (
                self.servers.iter().map(|one| lost(one.way)).sum(),
                "messages between the two servers were lost",
            ),
            (
                self.servers.iter().map(|one| one.duplicates).sum(),
                "messages between the two servers came more than once",
            ),
            (self.pieces.map_or(0, lost), "pieces in the pairwise group were lost"),
            (self.calls.map_or(0, Heard::silent), "ways of a call brought no sound, or broke"),
            (self.removed_member_could_read, "messages could be read by the removed member"),
            (self.duplicates, "messages came more than once"),
        ];
        rows.iter().find(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"))
    }

    /// For people.
    pub(super) fn to_text(&self) -> String {
        let Self { native_to_matrix: out, matrix_to_native: back, handed, pieces, servers, .. } =
            self;
        let doubled = or_none(self.duplicates);
        let read = self.removed_member_could_read;
        let pairwise = pieces.map_or_else(String::new, |Way { sent, received }| {
            format!(
                "  In the pairwise group, where each message has a piece for each reader, \
                 {received} of {sent} were read.\n"
            )
        });
        let mut between = String::new();
        for OnServer { server, way: Way { sent, received }, .. } in servers {
            let _ = writeln!(
                between,
                "  Of {sent} messages said on {server} {received} were read on the other server."
            );
        }
        let call = self.calls.map_or_else(String::new, |Heard { directly, by_livekit, .. }| {
            format!(
                "  In the call of four, {} of {} ways brought sound; when the fifth came and \
                 LiveKit carried it, {} of {}.\n",
                directly.heard, directly.of, by_livekit.heard, by_livekit.of
            )
        });
        let head = format!(
            "What came of it\n\
             \x20 {} of {} messages from native to Matrix arrived, and {} of {} from Matrix to \
             native; {doubled} came twice.\n\
             \x20 Ben's client was handed {handed} messages that were sent after Ann had removed \
             him, and could read {} of them.\n{between}{pairwise}{call}\
             \x20 The story took {:.1} seconds.\n\n",
            out.received,
            out.sent,
            back.received,
            back.sent,
            or_none(read),
            self.seconds,
        );
        let rows = [
            Some(("native to Matrix", out.sent, out.received)),
            Some(("Matrix to native", back.sent, back.received)),
            Some(("to Ben, who was removed", *handed, read)),
            pieces.map(|pieces| ("in the pairwise group", pieces.sent, pieces.received)),
        ];
        let header = format!("  {:<24} {:>8} {:>8}\n", "", "sent", "read");
        let row = |(name, sent, read)| format!("  {name:<24} {sent:>8} {read:>8}\n");
        head + &header + &rows.into_iter().flatten().map(row).collect::<String>()
    }
}

impl Heard {
    fn silent(self) -> u64 {
        let silent = |ways: Ways| ways.of - ways.heard.min(ways.of);
        silent(self.directly) + silent(self.by_livekit) + self.failed
    }
}

fn or_none(count: u64) -> String {
    if count == 0 { "none".to_owned() } else { count.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Outcome = Outcome {
        native_to_matrix: Way { sent: 20, received: 20 },
        matrix_to_native: Way { sent: 20, received: 20 },
        removed_member_could_read: 0,
        duplicates: 0,
        seconds: 6.25,
        handed: 10,
        pieces: None,
        servers: Vec::new(),
        calls: None,
    };

    #[test]
    fn a_good_outcome_is_words_and_a_table() {
        let text = WHOLE.to_text();
        for words in [
            "20 of 20 messages from native to Matrix arrived, and 20 of 20 from Matrix to native; \
             none came twice.",
            "handed 10 messages that were sent after Ann had removed him, and could read none",
            "  native to Matrix               20       20\n",
            "  to Ben, who was removed        10        0\n",
        ] {
            assert!(text.contains(words), "{words} is not in\n{text}");
        }
        assert!(!text.contains('{') && WHOLE.fault().is_none(), "{text}");
        assert!(!text.contains("pairwise"), "{text}");
        let servers = vec![OnServer {
            server: "b.example".to_owned(),
            way: Way { sent: 5, received: 4 },
            duplicates: 0,
        }];
        let across = Outcome { servers, ..WHOLE };
        let text = across.to_text();
        assert!(text.contains("Of 5 messages said on b.example 4 were read"), "{text}");
        assert_eq!(across.fault().unwrap(), "1 messages between the two servers were lost");
        let both = Outcome { pieces: Some(Way { sent: 12, received: 12 }), ..WHOLE };
        let text = both.to_text();
        assert!(text.contains("12 of 12 were read"), "{text}");
        assert!(text.ends_with("  in the pairwise group          12       12\n"), "{text}");
        assert!(both.fault().is_none());
        let ways = |of, heard| Ways { of, heard };
        let heard = Heard { directly: ways(12, 12), by_livekit: ways(20, 19), failed: 0 };
        let called = Outcome { calls: Some(heard), ..WHOLE };
        let text = called.to_text();
        assert!(text.contains("12 of 12 ways") && text.contains("19 of 20."), "{text}");
        assert!(called.fault().unwrap().starts_with("1 ways of a call"));
    }

    #[test]
    fn each_fault_is_in_the_words() {
        let lost = Way { sent: 20, received: 17 };
        let rows = [
            (Outcome { native_to_matrix: lost, ..WHOLE }, "17 of 20 messages from native"),
            (Outcome { matrix_to_native: lost, ..WHOLE }, "17 of 20 from Matrix"),
            (Outcome { removed_member_could_read: 4, ..WHOLE }, "could read 4 of them"),
            (Outcome { duplicates: 2, ..WHOLE }, "2 came twice"),
            (Outcome { pieces: Some(lost), ..WHOLE }, "17 of 20 were read"),
        ];
        for (outcome, words) in rows {
            assert!(outcome.to_text().contains(words), "{}", outcome.to_text());
            assert!(outcome.fault().is_some(), "{words}");
        }
    }
}
