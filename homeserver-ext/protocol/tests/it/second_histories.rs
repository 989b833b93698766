use causeway_protocol::roster::{Log, Offer, Op};
use serde_json::Value;

use crate::vectors::{Get, NATIVE, unhex};

fn parse(op: &Value) -> Op {
    Op::parse(&unhex(op)).unwrap()
}

fn install(log: &mut Option<Log>, op: &Op) {
    match log {
        None => *log = Some(Log::begin(op).unwrap()),
        Some(log) => assert!(matches!(log.offer(op), Offer::Installed(_))),
    }
}

#[test]
fn the_branch_installed_first_stays() {
    let section = &NATIVE["second_histories"];
    for item in section.list("items") {
        for order in item.list("orders") {
            let mut log = None;
            for op in section["histories"].list(item.text("history")) {
                install(&mut log, &parse(op));
            }
            let (first, then) = match order.text("installed") {
                "a and then_after_a" => ("a", item.list("then_after_a")),
                first => (first, &[][..]),
            };
            install(&mut log, &parse(&item[first]));
            for op in then {
                install(&mut log, &parse(op));
            }
            let mut log = log.unwrap();
            let Offer::Fork(fork) = log.offer(&parse(&item[order.text("offered")])) else {
                panic!("{}: no fork seen", item.text("name"));
            };
            let hash = |branch: &str| item.array::<32>(&format!("{branch}_op_hash"));
            assert_eq!(fork.installed.as_bytes(), &hash(first));
            assert_eq!(fork.offered.as_bytes(), &hash(order.text("offered")));
            assert_eq!(log.head().hash().as_bytes(), &order.array("head"));
            assert_eq!(u64::from(log.head().epoch().0), order.number("head_epoch"));
        }
    }
}

#[test]
fn one_core_under_two_signatures_is_one_op() {
    let section = &NATIVE["second_histories"];
    for item in section.list("same_op") {
        let mut log = crate::vectors::log(section["histories"].list(item.text("history")));
        let (a, b) = (parse(&item["a"]), parse(&item["b"]));
        assert_ne!(a.as_bytes(), b.as_bytes());
        assert_eq!(a.hash().as_bytes(), &item.array("op_hash"));
        assert!(matches!(log.offer(&a), Offer::Installed(_)));
        assert!(matches!(log.offer(&b), Offer::Known(epoch) if epoch == a.epoch()));
    }
}

#[test]
fn what_is_not_next_is_neither_installed_nor_a_fork() {
    let section = &NATIVE["second_histories"];
    let item = &section.list("items")[6];
    let history = section["histories"].list("f");
    let mut log = crate::vectors::log(history);
    let late = parse(&item.list("then_after_a")[1]);
    assert!(matches!(log.offer(&late), Offer::Ahead(epoch) if epoch.0 == 2));
    assert!(matches!(log.offer(&parse(&history[0])), Offer::Known(_)));
    log.forget_before(log.head().epoch());
    assert!(matches!(log.offer(&parse(&history[1])), Offer::Known(_)));
    let (a, b) = (parse(&item["a"]), parse(&item["b"]));
    assert!(matches!(log.offer(&a), Offer::Installed(_)));
    log.forget_before(log.head().epoch());
    assert!(matches!(log.offer(&b), Offer::Forgotten));
}
