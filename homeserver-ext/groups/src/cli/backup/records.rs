//! What an export holds, record by record, and in which order (protocol §1).

use std::io::Read;

use causeway_protocol::{
    ids::{AccountId, DeviceId, GroupId, MemberId, Timestamp},
    json,
    roster::Op,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::super::line::Line;
use crate::schemes::export_file::{NotOpened, Reader};

/// Rows are below it, so that the next ones can be counted.
const ROWS: i64 = 1 << 48;
/// Characters of the name of a group that was imported.
const MAX_NAME: usize = 100;

/// Whose it is, from where and when.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Origin {
    pub(super) account: AccountId,
    pub(super) member_id: MemberId,
    pub(super) device_id: DeviceId,
    pub(super) server_url: String,
    pub(super) made_at_ms: Timestamp,
    pub(super) version: String,
}

/// Which identity stands for which account.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) account: AccountId,
    pub(super) member_id: MemberId,
    pub(super) standing: String,
    pub(super) since_ms: Timestamp,
}

/// A group whose ops stand before this.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RosterOf {
    pub(super) group: GroupId,
    /// Whether the account takes part in it.
    pub(super) taken: bool,
    /// Up to which row its lines were shown.
    pub(super) shown: Option<i64>,
}

/// A group of another program.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Imported {
    pub(super) group: GroupId,
    pub(super) name: String,
    pub(super) shown: Option<i64>,
}

/// How many of each there were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) identities: u64,
    pub(super) ops: u64,
    pub(super) groups: u64,
    pub(super) imported_groups: u64,
    pub(super) lines: u64,
}

/// One of them.
pub(super) enum Record {
    Origin(Origin),
    Identity(Identity),
    Op(GroupId, Vec<u8>),
    Group(RosterOf),
    Imported(Imported),
    Line(Box<Line>),
    End(Counts),
}

/// The kinds, as numbers.
pub(super) const ORIGIN: u8 = 1;
pub(super) const IDENTITY: u8 = 2;
pub(super) const OP: u8 = 3;
pub(super) const GROUP: u8 = 4;
pub(super) const IMPORTED: u8 = 5;
pub(super) const LINE: u8 = 6;
pub(super) const END: u8 = 7;

impl Record {
    fn read(kind: u8, body: &[u8]) -> Result<Self, NotOpened> {
        let junk = |_| NotOpened::Junk("a record that cannot be read");
        Ok(match kind {
            ORIGIN => Self::Origin(json::from_slice(body).map_err(junk)?),
            IDENTITY => Self::Identity(json::from_slice(body).map_err(junk)?),
            OP => {
                let op = Op::parse(body).map_err(|_| NotOpened::Junk("an op that is none"))?;
                Self::Op(op.group(), body.to_vec())
            }
            GROUP => Self::Group(json::from_slice(body).map_err(junk)?),
            IMPORTED => Self::Imported(json::from_slice(body).map_err(junk)?),
            LINE => Self::Line(Box::new(json::from_slice(body).map_err(junk)?)),
            END => Self::End(json::from_slice(body).map_err(junk)?),
            _ => return Err(NotOpened::Junk("a record of an unknown kind")),
        })
    }
}

/// Reads records, each at its place or not at all.
pub(super) struct Records<R> {
    reader: Reader<R>,
    /// The kind of the one before.
    before: u8,
    /// Whose ops are being read.
    group: Option<GroupId>,
    row: i64,
    counts: Counts,
}

impl<R: Read> Records<R> {
    pub(super) fn new(reader: Reader<R>) -> Self {
        Self { reader, before: 0, group: None, row: 0, counts: Counts::default() }
    }

    /// What no two exports have in common.
    pub(super) fn salt(&self) -> &[u8] {
        self.reader.salt()
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// The next one; none at the end of a whole file.
    pub(super) fn next(&mut self) -> Result<Option<Record>, NotOpened> {
        let Some((kind, body)) = self.reader.record()? else {
            let is_whole = self.before == END;
            return is_whole.then_some(None).ok_or(NotOpened::Junk("no end"));
        };
        let body = Zeroizing::new(body.to_vec());
        // Groups stand behind their ops, and the next one's ops behind them.
        let is_next = match (self.before, kind) {
            (0, ORIGIN) => true,
            (0 | END, _) | (_, ORIGIN) => false,
            (GROUP, OP) => true,
            (OP, _) => matches!(kind, OP | GROUP),
            (before, _) => before <= kind,
        };
        if !is_next {
            return Err(NotOpened::Junk("a record that is not at its place"));
        }
        self.before = kind;
        let record = Record::read(kind, &body)?;
        self.look_at(&record).map_err(NotOpened::Junk)?;
        Ok(Some(record))
    }

    fn look_at(&mut self, record: &Record) -> Result<(), &'static str> {
        let is_row = |row: Option<i64>| row.is_none_or(|row| (0..ROWS).contains(&row));
        match record {
            Record::Origin(_) => {}
            Record::Identity(_) => self.counts.identities += 1,
            Record::Op(group, _) if self.group.is_none_or(|begun| begun == *group) => {
                self.group = Some(*group);
                self.counts.ops += 1;
            }
            Record::Group(RosterOf { group, shown, .. })
                if self.group.is_none_or(|begun| begun == *group) && is_row(*shown) =>
            {
                self.group = None;
                self.counts.groups += 1;
            }
            Record::Op(..) | Record::Group(_) => return Err("an op of another group"),
            Record::Imported(Imported { name, shown, .. }) => {
                if name.chars().count() > MAX_NAME || !is_row(*shown) {
                    return Err("a name that is too long");
                }
                self.counts.imported_groups += 1;
            }
            Record::Line(line) => {
                if line.row <= self.row || line.row >= ROWS {
                    return Err("a line that is not at its place");
                }
                self.row = line.row;
                self.counts.lines += 1;
            }
            Record::End(counts) if *counts == self.counts => {}
            Record::End(_) => return Err("another number of records"),
        }
        Ok(())
    }
}
