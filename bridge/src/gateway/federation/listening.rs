//! Where a homeserver listens whose name has no port: by SRV records (RFC 2782), else at port 8448.

use std::{net::SocketAddr, time::Duration};

use causeway_groups::public::is_public;
use futures_util::future::join_all;
use hickory_resolver::{
    ResolverBuilder, TokioResolver,
    net::runtime::TokioRuntimeProvider,
    proto::rr::{RData, rdata::SRV},
};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::PORT;

/// The service, and its name of before v1.8 of the specification.
const SERVICES: [&str; 2] = ["_matrix-fed._tcp", "_matrix._tcp"];
/// Longest that a name server is waited for, twice.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most records of an answer that are looked at, targets that are tried, and addresses of each of either kind.
const MAX_RECORDS: usize = 32;
const MAX_TARGETS: usize = 4;
const MAX_ADDRESSES: usize = 2;
/// Answers that are remembered.
const MAX_KNOWN: u64 = 256;

/// Finds where servers listen.
#[derive(Clone)]
pub(super) struct Listening {
    /// Nothing where this machine has no name servers that can be read: then there are no records.
    dns: Option<TokioResolver>,
    private: bool,
}

impl Listening {
    /// By the name servers of `/etc/resolv.conf`; with `private` also in this network.
    pub(super) fn of_this_machine(private: bool) -> Self {
        let dns = TokioResolver::builder_tokio().ok();
        Self { dns: dns.and_then(|dns| patient(dns, PATIENCE)), private }
    }

    /// By these name servers, each of which is waited for so long.
    #[cfg(test)]
    pub(super) fn by(
        dns: ResolverBuilder<TokioRuntimeProvider>,
        patience: Duration,
        private: bool,
    ) -> Self {
        Self { dns: patient(dns, patience), private }
    }

    /// Where `name` listens, what is to be tried first being first.
    pub(super) async fn addresses(&self, name: &str) -> Vec<SocketAddr> {
        let targets = self.targets(name).await;
        let targets = targets.unwrap_or_else(|| vec![(name.to_owned(), PORT)]);
        let found = targets.into_iter().take(MAX_TARGETS).map(|(host, port)| async move {
            let all = tokio::net::lookup_host((host, port)).await;
            let may = all.into_iter().flatten().filter(|at| self.private || is_public(at.ip()));
            few_of_each(may)
        });
        join_all(found).await.concat()
    }

    /// What SRV records say, if there are any.
    async fn targets(&self, name: &str) -> Option<Vec<(String, u16)>> {
        let dns = self.dns.as_ref()?;
        let name = name.trim_end_matches('.');
        // With a dot at the end: of no search domain.
        let asked = SERVICES.map(|service| dns.srv_lookup(format!("{service}.{name}.")));
        // What cannot be asked counts as without records: behind port 8448 is the same certificate.
        let records = join_all(asked).await.into_iter().flatten().find_map(|answer| {
            let records = answer.answers().iter().filter_map(|record| match &record.data {
                RData::SRV(record) => Some(record.clone()),
                _ => None,
            });
            let records: Vec<_> = records.take(MAX_RECORDS).collect();
            (!records.is_empty()).then_some(records)
        })?;
        let targets = in_order(records, chance).into_iter();
        // RFC 2782: the root says that the service is not there.
        let targets = targets.filter(|record| !record.target.is_root());
        let host = |record: &SRV| record.target.to_ascii().trim_end_matches('.').to_owned();
        Some(targets.map(|record| (host(&record), record.port)).collect())
    }
}

impl Resolve for Listening {
    fn resolve(&self, name: Name) -> Resolving {
        let listening = self.clone();
        Box::pin(async move {
            let found = listening.addresses(name.as_str()).await;
            if found.is_empty() {
                return Err("the name leads to no address that is everybody's".into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Addresses in their order, a few of IPv4 and of IPv6: one of the two may lead nowhere from here.
pub(super) fn few_of_each(all: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let (mut v4, mut v6) = (0, 0);
    let few = all.filter(|at| {
        let count = if at.is_ipv6() { &mut v6 } else { &mut v4 };
        *count += 1;
        *count <= MAX_ADDRESSES
    });
    few.collect()
}

fn patient(
    mut dns: ResolverBuilder<TokioRuntimeProvider>,
    patience: Duration,
) -> Option<TokioResolver> {
    let options = dns.options_mut();
    options.timeout = patience;
    options.attempts = 1;
    options.cache_size = MAX_KNOWN;
    dns.build().ok()
}

/// RFC 2782, "Weight": the lowest priority first, and of equals one by chance, as their weights say.
/// `chance` draws a number up to the one that it is given, which may be drawn as well.
pub(super) fn in_order(mut records: Vec<SRV>, mut chance: impl FnMut(u32) -> u32) -> Vec<SRV> {
    records.sort_by_key(|record| (record.priority, record.weight));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(priority) = records.first().map(|first| first.priority) {
        let equals = || records.iter().take_while(|record| record.priority == priority);
        let drawn = chance(equals().map(|record| u32::from(record.weight)).sum());
        let sums = equals().scan(0, |sum, record| {
            *sum += u32::from(record.weight);
            Some(*sum)
        });
        let at = sums.take_while(|sum| *sum < drawn).count();
        ordered.push(records.remove(at));
    }
    ordered
}

fn chance(most: u32) -> u32 {
    // Without chance the lightest is first: any order is right.
    getrandom::u32().map_or(0, |drawn| drawn % (most + 1))
}
