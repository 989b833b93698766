//! Which op: its number on the wire and its name in the protocol (§3.2).

/// Which of the eight ops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Begins a group.
    Create = 0,
    /// Takes members in.
    Add = 1,
    /// Takes members out.
    Remove = 2,
    /// Makes or unmakes an admin.
    Role = 3,
    /// Replaces the policy.
    Policy = 4,
    /// The signer goes.
    Leave = 5,
    /// The signer's device list changes.
    Devices = 6,
    /// Ends the group.
    Close = 7,
}

impl Kind {
    /// Its name in the protocol.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Add => "add",
            Self::Remove => "remove",
            Self::Role => "role",
            Self::Policy => "policy",
            Self::Leave => "leave",
            Self::Devices => "devices",
            Self::Close => "close",
        }
    }

    /// The op with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Create,
            1 => Self::Add,
            2 => Self::Remove,
            3 => Self::Role,
            4 => Self::Policy,
            5 => Self::Leave,
            6 => Self::Devices,
            7 => Self::Close,
            _ => return None,
        })
    }
}
