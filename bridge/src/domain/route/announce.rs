//! Who stands behind the bridge, told to the group: in as many announcements as it takes, each of
//! which fits an envelope.

use causeway_protocol::ids::AccountId;
use ruma::OwnedUserId;

use crate::domain::{
    effect::{Effect, Here, InGroup},
    json_bytes,
    looks::Taken,
    mirror::{Mirror, name_of},
    portal::Portal,
};

/// Bytes of names and ids in one announcement: with what is around them it fits the 45,000 of an
/// envelope.
const MOST: usize = 32_000;
/// Bytes around the id and the name of one: `{"id":"","name":""},`.
const AROUND: usize = 20;

/// Who is gone, then who is there.
pub(super) fn announced(present: &[Mirror], gone: &[OwnedUserId]) -> Vec<Effect> {
    let of_mirror = |mirror: &Mirror| json_bytes(mirror.id.as_str()) + json_bytes(&mirror.name);
    let come = parts(present, of_mirror).map(|some| (some.to_vec(), Vec::new()));
    let gone =
        parts(gone, |user| json_bytes(user.as_str())).map(|some| (Vec::new(), some.to_vec()));
    gone.chain(come)
        .map(|(present, gone)| Effect::InGroup(InGroup::Announce(present, gone)))
        .collect()
}

/// Newcomers have not seen what was announced before them; and whoever looks like one of them is
/// called by his id as well from now on.
pub(super) fn introduced(portal: &Portal, joined: &[AccountId]) -> Vec<Effect> {
    let natives = Taken::by_natives(joined);
    let mut renamed = Vec::new();
    let mirrors: Vec<Mirror> = portal
        .mirrors
        .iter()
        .map(|(id, name)| {
            let mut mirror = Mirror { id: id.clone(), name: name.clone() };
            if natives.is_anothers(id, name) {
                mirror.name = name_of(id, Some(name), &natives);
                renamed.push(mirror.clone());
            }
            mirror
        })
        .collect();
    let mut effects = Vec::new();
    if !renamed.is_empty() {
        effects.push(Effect::Here(Here::Met(renamed)));
    }
    effects.extend(announced(&mirrors, &[]));
    effects
}

/// `items` in pieces, of which each has at most [`MOST`] bytes, or one item.
fn parts<T>(items: &[T], bytes: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let mut sum = 0;
        let fits = rest.iter().take_while(|item| {
            sum += bytes(item) + AROUND;
            sum <= MOST
        });
        let (some, others) = rest.split_at_checked(fits.count().max(1))?;
        rest = others;
        Some(some)
    })
}

#[cfg(test)]
mod tests {
    use causeway_protocol::content::Content;

    use super::*;
    use crate::domain::{route::table::portal, to_native};

    #[test]
    fn each_announcement_fits_an_envelope_however_long_names_are() {
        let id = |n: usize| format!("@{n:03}{}:x", "i".repeat(248)).try_into().unwrap();
        let name = |n: usize| format!("{}{n:05}", "\u{1f980}".repeat(75));
        let mirrors: Vec<Mirror> = (0..300).map(|n| Mirror { id: id(n), name: name(n) }).collect();
        let gone: Vec<OwnedUserId> = mirrors.iter().map(|mirror| mirror.id.clone()).collect();
        let effects = announced(&mirrors, &gone);
        let (mut come, mut went) = (Vec::new(), Vec::new());
        for effect in &effects {
            let Effect::InGroup(deed @ InGroup::Announce(present, gone)) = effect else {
                unreachable!()
            };
            let Content::Mirrors(content) = to_native::content(deed, None) else { unreachable!() };
            let bytes = serde_json::to_vec(&content).unwrap().len();
            assert!(bytes < 40_000, "{bytes}");
            come.extend(present.clone());
            went.extend(gone.clone());
        }
        assert_eq!((come, went), (mirrors, gone));
        assert!(effects.len() < 10, "{}", effects.len());
        assert_eq!(announced(&[], &[]), []);
    }

    #[test]
    fn whoever_looks_like_a_newcomer_is_called_by_his_id_from_then_on() {
        let portal = portal();
        let of = |account: &str| introduced(&portal, &[account.parse().unwrap()]);
        let al = |name: &str| Mirror { id: "@al:x".try_into().unwrap(), name: name.to_owned() };
        let announced = |name: &str| Effect::InGroup(InGroup::Announce(vec![al(name)], vec![]));
        assert_eq!(of("bob:b.example"), [announced("Al")]);
        for alike in ["al:b.example", "a1:b.example"] {
            let renamed = Effect::Here(Here::Met(vec![al("Al (@al:x)")]));
            assert_eq!(of(alike), [renamed, announced("Al (@al:x)")], "{alike}");
        }
    }
}
