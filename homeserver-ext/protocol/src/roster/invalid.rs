//! Why an op is refused: the reasons of the nine steps, in the order in which they are asked.

macro_rules! reasons {
    ($($step:literal: $($(#[$doc:meta])* $name:ident = $text:literal;)+)+) => {
        /// Why an op is not valid: the first thing that is wrong, in the order of the steps.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Invalid {
            $($($(#[$doc])* $name,)+)+
        }

        impl Invalid {
            /// Which of the nine steps refused it.
            pub const fn step(self) -> u8 {
                match self { $($(Self::$name => $step,)+)+ }
            }

            /// One word for logs, answers and test vectors.
            pub const fn reason(self) -> &'static str {
                match self { $($(Self::$name => $text,)+)+ }
            }
        }
    };
}

reasons! {
    1:
    /// Not an op of this version.
    BadDomain = "bad_domain";
    /// Shorter or longer than its fields say.
    BadLength = "bad_length";
    /// Above [`super::MAX_OP`].
    TooLarge = "too_large";
    /// No such op.
    UnknownKind = "unknown_kind";
    2:
    /// `create` for another epoch than 0, or another op for another than the head's next.
    WrongEpoch = "wrong_epoch";
    /// `create` with a `prev`.
    CreatePrev = "create_prev";
    /// `create` where there is a group already.
    CreateInside = "create_inside";
    /// No such group here.
    NoGroup = "no_group";
    /// Of another group.
    WrongGroup = "wrong_group";
    /// Nothing follows `close`.
    Closed = "closed";
    /// Made on another roster than the head's.
    StalePrev = "stale_prev";
    3:
    /// An identity key signs `devices` only.
    IdentityKeyOnlyDevices = "identity_key_only_devices";
    /// An identity key has no certificate and no Curve25519 key.
    IdentityNotZero = "identity_not_zero";
    /// The signer's certificate is not by the member's identity over this device.
    BadCertificate = "bad_certificate";
    4:
    /// Not signed by the signer over this core.
    BadSignature = "bad_signature";
    5:
    /// The body ends before its fields do.
    TruncatedBody = "truncated_body";
    /// The body goes on after its fields.
    TrailingBody = "trailing_body";
    /// A string is not UTF-8.
    BadUtf8 = "bad_utf8";
    /// Another beginning than the group's id names.
    GroupIdMismatch = "group_id_mismatch";
    /// The creator's devices lack the one that signs.
    CreatorDeviceMissing = "creator_device_missing";
    6:
    /// The signer is not in the group.
    SignerNotMember = "signer_not_member";
    /// The signing device is not in the member's newest list.
    DeviceNotCounting = "device_not_counting";
    /// A bridge signs only its own `leave`.
    BridgeSigns = "bridge_signs";
    /// Only an admin may do this.
    NotAdmin = "not_admin";
    7:
    /// No such scheme.
    BadScheme = "bad_scheme";
    /// A list without items.
    Empty = "empty";
    /// A list that names one twice.
    Duplicate = "duplicate";
    /// Devices that do not ascend.
    Unsorted = "unsorted";
    /// No such role.
    BadRole = "bad_role";
    /// Neither 0 nor 1.
    BadAddBy = "bad_add_by";
    /// Neither 0 nor 1.
    BadPostBy = "bad_post_by";
    /// Neither 1 nor 2.
    BadMinVersion = "bad_min_version";
    /// Below a minute or above 30 days.
    BadTtl = "bad_ttl";
    /// 0, or above the scheme's cap.
    BadMaxMembers = "bad_max_members";
    /// Not one of the scheme's, or a legacy one where it may not be.
    BadSuite = "bad_suite";
    /// Not an account's name.
    BadAccount = "bad_account";
    /// A legacy id outside a legacy group.
    LegacyId = "legacy_id";
    8:
    /// Who is added is here already.
    AlreadyMember = "already_member";
    /// One bridge is the most.
    SecondBridge = "second_bridge";
    /// More than the policy takes.
    OverMaxMembers = "over_max_members";
    /// Who is meant is not here.
    TargetAbsent = "target_absent";
    /// Nobody becomes a bridge, and a bridge nothing else.
    BridgeRole = "bridge_role";
    /// The version never goes back.
    MinVersionFalls = "min_version_falls";
    /// The device list is not newer than the member's former one.
    ListVersion = "list_version";
    9:
    /// The group would have no admin.
    NoAdminLeft = "no_admin_left";
}

impl std::fmt::Display for Invalid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "op refused in step {}: {}", self.step(), self.reason())
    }
}

impl std::error::Error for Invalid {}
