//! How many are inside, and from where.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::quota::{EdgeLimits, Household, OF_A_SITE};

/// Lets connections in while there is a place.
#[derive(Debug)]
pub(super) struct Door {
    name: &'static str,
    limits: watch::Receiver<EdgeLimits>,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    all: usize,
    of: HashMap<Household, usize>,
}

/// A connection's place, free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    door: Arc<Door>,
    /// Whose places it takes: its household's, and its site's.
    of: [Option<Household>; 2],
}

impl Door {
    pub(super) fn new(name: &'static str, limits: watch::Receiver<EdgeLimits>) -> Self {
        Self { name, limits, inside: Mutex::default() }
    }

    pub(super) const fn name(&self) -> &'static str {
        self.name
    }

    /// A place for a connection from `peer`, or the limit that it met; `is_proxy`: for many people.
    pub(super) fn enter(
        door: &Arc<Self>,
        peer: IpAddr,
        is_proxy: bool,
    ) -> Result<Place, &'static str> {
        let of = if is_proxy {
            [None, None]
        } else {
            [Some(Household::from(peer)), Household::site(peer)]
        };
        let EdgeLimits { connections, per_address, .. } = *door.limits.borrow();
        let mut inside = door.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |(household, most): (&Option<Household>, usize)| {
            household.is_some_and(|it| inside.of.get(&it).is_some_and(|count| *count >= most))
        };
        let site = per_address.saturating_mul(usize::try_from(OF_A_SITE).unwrap_or(1));
        let limit = if of.iter().zip([per_address, site]).any(is_full) {
            Some("limits.connections_per_address")
        } else if inside.all >= connections {
            Some("limits.connections")
        } else {
            None
        };
        if let Some(limit) = limit {
            return Err(limit);
        }
        inside.all += 1;
        for household in of.into_iter().flatten() {
            *inside.of.entry(household).or_default() += 1;
        }
        door.gauge(inside.all);
        drop(inside);
        Ok(Place { door: Arc::clone(door), of })
    }

    #[expect(clippy::cast_precision_loss, reason = "Prometheus knows only floats")]
    fn gauge(&self, all: usize) {
        metrics::gauge!("causeway_connections", "listener" => self.name).set(all as f64);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.door.inside.lock().unwrap_or_else(PoisonError::into_inner);
        inside.all = inside.all.saturating_sub(1);
        for household in self.of.into_iter().flatten() {
            match inside.of.get_mut(&household) {
                Some(count) if *count > 1 => *count -= 1,
                _ => {
                    inside.of.remove(&household);
                }
            }
        }
        self.door.gauge(inside.all);
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, sync::Arc};

    use tokio::sync::watch;

    use super::Door;
    use crate::quota::EdgeLimits;

    fn limits(connections: usize, per_address: usize) -> watch::Sender<EdgeLimits> {
        watch::Sender::new(EdgeLimits { connections, per_address, requests: None })
    }

    #[test]
    fn nobody_takes_all_places_but_a_proxy_and_each_is_free_again() {
        let door = Arc::new(Door::new("test", limits(5, 2).subscribe()));
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let enter = |text: &str, is_proxy| Door::enter(&door, ip(text), is_proxy).ok();
        let one = [enter("192.0.2.1", false), enter("::ffff:192.0.2.1", false)];
        assert!(one.iter().all(Option::is_some));
        assert!(enter("192.0.2.1", false).is_none());
        // A network is one household.
        let other = [enter("2001:db8::1", false), enter("2001:db8::ffff:2", false)];
        assert!(other.iter().all(Option::is_some) && enter("2001:db8::3", false).is_none());
        let proxy = enter("10.0.0.1", true);
        assert!(proxy.is_some() && enter("10.0.0.1", true).is_none());
        drop((one, other));
        let site = Arc::new(Door::new("test", limits(1_000, 2).subscribe()));
        let places: Vec<_> = (0..100)
            .filter_map(|n| Door::enter(&site, ip(&format!("2001:db8:1:{n:x}::1")), false).ok())
            .collect();
        assert_eq!(places.len(), 32);
        drop(places);
        assert!(site.inside.lock().unwrap().of.is_empty());
        let many: Vec<_> = (0..9).map(|_| enter("10.0.0.1", true)).collect();
        assert_eq!(many.iter().flatten().count(), 4);
        drop((many, proxy));
        assert!(door.inside.lock().unwrap().of.is_empty());
        assert_eq!(door.inside.lock().unwrap().all, 0);
    }

    #[test]
    fn who_is_inside_stays_and_the_next_meets_what_is_in_force_now() {
        let limits = limits(10, 3);
        let door = Arc::new(Door::new("test", limits.subscribe()));
        let enter = || Door::enter(&door, "192.0.2.1".parse().unwrap(), false);
        let two = [enter().unwrap(), enter().unwrap()];
        limits.send_modify(|limits| limits.per_address = 1);
        assert_eq!(enter().err(), Some("limits.connections_per_address"));
        limits.send_replace(EdgeLimits { connections: 2, per_address: 9, requests: None });
        assert_eq!(enter().err(), Some("limits.connections"));
        limits.send_modify(|limits| limits.connections = 3);
        drop((enter().unwrap(), two));
    }
}
