//! What became of a ping, step by step, in words for the operator.

use serde_json::Value;

use super::{Outcome, Ping, PingStep, Problem};
use crate::services::servers::{AskError, Pinged, Stands, Way};

/// The steps that lie behind the first.
const AFTER: [&str; 3] = ["agent", "taken", "answered"];

/// Shows it.
pub(super) fn shown(name: String, pinged: Result<Pinged, AskError>) -> Result<Ping, Problem> {
    let agent = format!("@_causeway:{name}");
    let mut ping =
        Ping { name, agent, answered: false, took_ms: None, software: None, steps: Vec::new() };
    let pinged = match pinged {
        Ok(pinged) => pinged,
        Err(error) => {
            let next = match error {
                AskError::NoDoor(_) => "it needs relay.token and the bridge",
                AskError::Denied(_) => "change native.servers.allow and deny, and restart Causeway",
                AskError::Paused { .. } => "`causeway servers resume` lets it pass again",
                AskError::Unreachable { .. }
                | AskError::TooLarge { .. }
                | AskError::TooMuch(_)
                | AskError::Storage(_)
                | AskError::Entropy(_) => return Err(error.into()),
            };
            ping.add("allowed", Outcome::Failed, format!("{error}: {next}"));
            ping.unknown(&AFTER);
            return Ok(ping);
        }
    };
    let before = match pinged.heard_before {
        Some(_) => "the lists here allow it, and it was heard before",
        None => "the lists here allow it; nothing was ever heard of it",
    };
    ping.add("allowed", Outcome::Ok, before.to_owned());
    match pinged.way {
        Way::Answered(answer, took) => ping.is_answered(answer.status, &answer.body, took),
        Way::Unanswered(stands, took) => {
            ping.is_unanswered(stands, pinged.is_heard, took.as_secs());
        }
    }
    Ok(ping)
}

impl Ping {
    fn is_answered(&mut self, status: u16, body: &Value, took: std::time::Duration) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let software = body.get("software").and_then(Value::as_str).map(str::to_owned);
        self.answered = true;
        self.took_ms = Some(ms);
        self.add("agent", Outcome::Ok, format!("sent to {}", self.agent));
        self.add("taken", Outcome::Ok, "the other native server has it".to_owned());
        let by = software.as_deref().map(|by| format!(" by {by}")).unwrap_or_default();
        let with = if status == 200 { String::new() } else { format!(" with status {status}") };
        self.add("answered", Outcome::Ok, format!("after {ms} ms{by}{with}"));
        self.software = software;
    }

    fn is_unanswered(&mut self, stands: Stands, is_heard: bool, seconds: u64) {
        let none = format!("no answer within {seconds} s");
        if stands == Stands::Waits {
            self.add(
                "agent",
                Outcome::Failed,
                "no agent of this server fetched it within that time: see whether the bridge runs \
                 (`causeway run`, or `--only` on the other host), and `agent` among the troubles of GET health"
                    .to_owned(),
            );
            self.unknown(&["taken", "answered"]);
            return;
        }
        let sent = format!("handed to the homeserver, for {}", self.agent);
        self.add("agent", Outcome::Ok, sent);
        if stands == Stands::Taken {
            self.add("taken", Outcome::Ok, "the other native server has it".to_owned());
            self.add(
                "answered",
                Outcome::Failed,
                format!("{none}, though it was taken: ask again"),
            );
            return;
        }
        let what = if is_heard {
            "it was not acknowledged, though something came of that server meanwhile: it may be busy with what \
             came before; `causeway servers reset` sends again at once"
        } else {
            "it was not acknowledged, and nothing came back. Look, in this order: do the homeservers federate (a \
             room of both; port 8448 or .well-known/matrix/server on either side); does Causeway run there, and \
             does its homeserver have a registration that claims @_causeway; does its native.servers let this \
             server in; has it paused or shut this one out (`causeway servers show` there)"
        };
        self.add("taken", Outcome::Failed, what.to_owned());
        self.add("answered", Outcome::Failed, none);
    }

    fn add(&mut self, step: &'static str, outcome: Outcome, what: String) {
        self.steps.push(PingStep { step, outcome, what });
    }

    fn unknown(&mut self, steps: &[&'static str]) {
        for step in steps {
            self.add(step, Outcome::Unknown, "not come to".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use causeway_protocol::{
        ids::{ItemId, Timestamp},
        link::Answer,
    };
    use serde_json::json;

    use super::*;

    #[test]
    fn each_step_says_how_it_ended_and_the_one_that_failed_what_to_do() {
        use Outcome::{Failed, Ok as Well, Unknown};
        let way = |way, is_heard| Ok(Pinged { heard_before: Some(Timestamp(7)), is_heard, way });
        let took = Duration::from_secs(20);
        let unanswered = |stands, is_heard| way(Way::Unanswered(stands, took), is_heard);
        let answer = Answer {
            to: ItemId::new([1; 16]),
            status: 200,
            body: json!({"software": "Causeway 9"}),
        };
        let name = || "b.example".to_owned();
        let table = [
            (way(Way::Answered(answer, took), true), [Well; 4], "by Causeway 9"),
            (
                unanswered(Stands::Waits, false),
                [Well, Failed, Unknown, Unknown],
                "no agent of this",
            ),
            (unanswered(Stands::Left, false), [Well, Well, Failed, Failed], "homeservers federate"),
            (unanswered(Stands::Left, true), [Well, Well, Failed, Failed], "servers reset"),
            (unanswered(Stands::Taken, true), [Well, Well, Well, Failed], "ask again"),
            (
                Err(AskError::Denied(name())),
                [Failed, Unknown, Unknown, Unknown],
                "native.servers.allow",
            ),
            (
                Err(AskError::Paused { server: name(), since: Timestamp(1) }),
                [Failed, Unknown, Unknown, Unknown],
                "servers resume",
            ),
            (Err(AskError::NoDoor(name())), [Failed, Unknown, Unknown, Unknown], "relay.token"),
        ];
        for (pinged, expected, says) in table {
            let ping = shown(name(), pinged).ok().unwrap();
            let outcomes: Vec<_> = ping.steps.iter().map(|step| step.outcome).collect();
            assert_eq!(outcomes, expected, "{ping:?}");
            assert!(ping.steps.iter().any(|step| step.what.contains(says)), "{says}: {ping:?}");
            assert_eq!(ping.answered, expected == [Well; 4]);
            assert_eq!(ping.agent, "@_causeway:b.example");
        }
        assert!(shown(name(), Err(AskError::TooMuch(5))).is_err());
    }
}
