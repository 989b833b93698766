//! A link on the command line: one of ours, or the same as clients of `opus_v1` write it.

use causeway_protocol::{
    ids::Timestamp,
    invite::{Link, LinkRefused},
};

use super::super::exit::Failure;
use crate::schemes::legacy::opus_v1::{BadInvite, INVITE_BEGINNING, Invite};

/// Reads a link of either form.
///
/// # Errors
/// It is none, or none that can be used.
pub(super) fn read(text: &str, now: Timestamp) -> Result<Link, Failure> {
    let text = text.trim();
    if !text.starts_with(INVITE_BEGINNING) {
        return Ok(Link::parse(text)?);
    }
    let invite = Invite::parse(text, now.0 / 1_000).map_err(refused)?;
    invite.carried().map_err(refused)
}

fn refused(bad: BadInvite) -> Failure {
    match bad {
        BadInvite::Format | BadInvite::Encoding | BadInvite::Fields => {
            Failure::usage("this link cannot be used: it is not whole").next(
                "Nothing was asked. Copy it whole, with any = at its end: it begins with \
                 discordopus://join/.",
            )
        }
        BadInvite::Token => Failure::usage(
            "this link is of another program: it carries no link of Causeway",
        )
        .next("Nothing was asked. Ask for one that `causeway-client invite create` has made."),
        BadInvite::Contradicts => Failure::failed(
            "this link cannot be used: it names another group, inviter or time than the link that \
             it carries",
        )
        .next("Nothing was asked. Somebody has changed it: ask for another, by another way."),
        BadInvite::Expired => LinkRefused::Expired.into(),
    }
}
