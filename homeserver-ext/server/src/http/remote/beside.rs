//! Asks of other servers that wait for something outside this process: answered when that is done, so that
//! no frame waits behind them, of that server or of another.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use causeway_protocol::{
    ids::ItemId,
    link::{Ask, Call},
};

use super::{About, Api, ApiError, What, carry_out, parsed};

/// Of one server at once, and of all.
const OF_ONE: usize = 16;
const OF_ALL: usize = 128;
/// When a server that had too many may ask again, milliseconds.
const AGAIN_MS: u64 = 1_000;

/// How many are being answered, by who asks.
#[derive(Debug, Default)]
pub(crate) struct Beside(Mutex<HashMap<String, usize>>);

/// A place among them, until it is dropped.
struct Place(Arc<Beside>, String);

impl Beside {
    fn place(self: &Arc<Self>, from: &str) -> Option<Place> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.values().sum::<usize>() >= OF_ALL || all.get(from).is_some_and(|its| *its >= OF_ONE)
        {
            return None;
        }
        *all.entry(from.to_owned()).or_default() += 1;
        drop(all);
        Some(Place(Arc::clone(self), from.to_owned()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(its) = all.get_mut(&self.1) {
            *its -= 1;
            if *its == 0 {
                all.remove(&self.1);
            }
        }
    }
}

/// Whether LiveKit, a Matrix half or a stranger is asked before this is answered. None of these are said in
/// an order that others count on.
fn waits(ask: &Ask) -> bool {
    if ask.call != Call::Calls {
        return false;
    }
    if ask.caller.is_none() {
        let guests = ask.body.get("guests");
        let is = |what| guests.is_some_and(|it| it.get(what).is_some());
        return ask.body.get("hear").is_some() || is("token") || is("there");
    }
    let about: Result<About, _> = parsed(&ask.body);
    about.is_ok_and(|about| matches!(about.what, What::Sfu | What::Mute))
}

/// Has an ask answered beside what comes after it, where it waits; whether that is so.
pub(super) fn answered(api: &Api, from: &str, (to, ask): (ItemId, &Ask)) -> Result<bool, ApiError> {
    if !waits(ask) {
        return Ok(false);
    }
    let too_many = || ApiError::later("too much that this server asks is being answered", AGAIN_MS);
    let place = api.beside.place(from).ok_or_else(too_many)?;
    let (stopping, tasks) = (api.stopping.clone(), api.sockets.clone());
    let (api, from, ask) = (api.clone(), from.to_owned(), ask.clone());
    tasks.spawn(async move {
        let _place = place;
        let done = stopping.run_until_cancelled(carry_out(&api, &from, (to, &ask))).await;
        if let Some(Err(error)) = done {
            tracing::warn!(?error, server = from, "an ask was not answered");
        }
    });
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Beside, OF_ALL, OF_ONE};

    #[test]
    fn nobody_has_more_places_than_are_his() {
        let all = Arc::new(Beside::default());
        let mut its: Vec<_> = (0..OF_ONE).map(|_| all.place("b.example").unwrap()).collect();
        assert!(all.place("b.example").is_none());
        its.pop();
        its.push(all.place("b.example").unwrap());
        let names: Vec<_> = (1..OF_ALL / OF_ONE).map(|n| format!("{n}.example")).collect();
        for name in &names {
            its.extend((0..OF_ONE).map(|_| all.place(name).unwrap()));
        }
        assert!(all.place("c.example").is_none(), "all are taken");
        drop(its);
        assert!(all.0.lock().unwrap().is_empty(), "nothing is kept of who asks nothing");
    }
}
