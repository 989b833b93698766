//! One model over all schemes: five people, and whatever a network, a server, a disk and two admins
//! may do to them.
//!
//! Never two texts under one index or key; nobody reads a text twice, or one that is not for them; and
//! once all is quiet, everybody has read everything that the server took for them.

mod played;

use std::collections::BTreeSet;

use causeway_protocol::roster::Scheme;
use proptest::{prelude::*, sample::Index};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use self::played::Played;

/// The first has the group, and goes on to be its admin.
const PEOPLE: usize = 5;
const SECOND_ADMIN: usize = 1;

/// In which way waiting rows are handed over.
#[derive(Debug, Clone, Copy)]
enum Order {
    AsTheyStand,
    Backwards,
    /// Once more after they were acknowledged.
    Twice,
    /// The process dies before it has written down what it took.
    InVain,
}

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    Say(usize),
    /// Sealed and written down, then the process dies, and nobody posts it.
    SayInVain(usize),
    Take(usize, usize, Order),
    Sync(usize),
    /// A row comes that differs from one that came by one byte.
    Corrupt(Index, Index, u8),
    /// The server gives a message to somebody for whom it is not.
    Leak(Index, usize),
    Rotate(usize),
    Add(usize, usize),
    Remove(usize, usize),
    /// The process that makes the so-many-th change from now on dies at it.
    DieIn(u32),
    Restart(usize),
    Copy(usize),
    /// The folder is the copy's again; its count file is not.
    PutBack(usize),
    Wait(u64),
}

/// What a step may rely on.
#[derive(Debug, Clone)]
struct Model {
    members: BTreeSet<usize>,
    admins: BTreeSet<usize>,
    copied: BTreeSet<usize>,
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        let members = BTreeSet::from([0, SECOND_ADMIN, 2]);
        let admins = BTreeSet::from([0, SECOND_ADMIN]);
        Just(Self { members, admins, copied: BTreeSet::new() }).boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Step> {
        use Order::{AsTheyStand, Backwards, InVain, Twice};
        let who = || 0..PEOPLE;
        let order = prop::sample::select(vec![AsTheyStand, AsTheyStand, Backwards, Twice, InVain]);
        let admin = || 0..=SECOND_ADMIN;
        prop_oneof![
            8 => who().prop_map(Step::Say),
            1 => who().prop_map(Step::SayInVain),
            6 => (who(), 1_usize..8, order).prop_map(|(who, n, how)| Step::Take(who, n, how)),
            3 => who().prop_map(Step::Sync),
            2 => (any::<Index>(), any::<Index>(), 1_u8..).prop_map(|(row, at, by)| {
                Step::Corrupt(row, at, by)
            }),
            2 => (any::<Index>(), who()).prop_map(|(row, whom)| Step::Leak(row, whom)),
            1 => who().prop_map(Step::Rotate),
            2 => (admin(), who()).prop_map(|(by, whom)| Step::Add(by, whom)),
            2 => (admin(), who()).prop_map(|(by, whom)| Step::Remove(by, whom)),
            1 => (0_u32..6).prop_map(Step::DieIn),
            1 => who().prop_map(Step::Restart),
            1 => who().prop_map(Step::Copy),
            1 => who().prop_map(Step::PutBack),
            1 => (1_u64..7_200_000).prop_map(Step::Wait),
        ]
        .boxed()
    }

    fn preconditions(state: &Self, step: &Step) -> bool {
        match step {
            Step::Say(who) | Step::SayInVain(who) | Step::Rotate(who) => {
                state.members.contains(who)
            }
            Step::Add(by, whom) => state.admins.contains(by) && !state.members.contains(whom),
            Step::Remove(by, whom) => {
                state.admins.contains(by)
                    && by != whom
                    && *whom != 0
                    && state.members.contains(whom)
            }
            Step::PutBack(who) => state.copied.contains(who),
            _ => true,
        }
    }

    fn apply(mut state: Self, step: &Step) -> Self {
        match step {
            Step::Add(_, whom) => drop(state.members.insert(*whom)),
            Step::Remove(_, whom) => {
                state.members.remove(whom);
                state.admins.remove(whom);
            }
            Step::Copy(who) => drop(state.copied.insert(*who)),
            _ => {}
        }
        state
    }
}

/// The model against machines that seal as scheme number `SCHEME`.
struct Test<const SCHEME: u8>;

impl<const SCHEME: u8> StateMachineTest for Test<SCHEME> {
    type SystemUnderTest = Played;
    type Reference = Model;

    fn init_test(model: &Model) -> Played {
        let scheme = Scheme::from_number(SCHEME).expect("a scheme");
        Played::begin(scheme, &model.members)
    }

    fn apply(mut played: Played, _: &Model, step: Step) -> Played {
        played.step(&step);
        played
    }

    fn check_invariants(played: &Played, _: &Model) {
        played.check();
    }

    fn teardown(played: Played, _: Model) {
        played.end();
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn sender_keys_keep_what_they_promise_whatever_happens(sequential 1..48 => Test<1>);

    #[test]
    fn pairwise_groups_keep_what_they_promise_whatever_happens(sequential 1..48 => Test<2>);

    #[test]
    fn shared_keys_keep_what_they_promise_whatever_happens(sequential 1..48 => Test<3>);
}
