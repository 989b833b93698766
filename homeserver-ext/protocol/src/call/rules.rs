//! Every number of the rules of calls, in one place.

use std::time::Duration;

/// Participants that a mesh carries unless the server says otherwise.
pub const MESH_MAX: usize = 4;
/// Participants of a call, whatever carries it.
pub const MOST: usize = 256;
/// Matrix users who asked for a token and are awaited at a time.
pub const MOST_EXPECTED: usize = 16;
/// Of one of them, under the names of different devices; a further one takes the oldest one's place.
pub const MOST_EXPECTED_OF_ONE: usize = 2;
/// How long those of the mesh have to be ready on the SFU.
pub const READY: Duration = Duration::from_secs(8);
/// What the first who joins meanwhile adds to it.
pub const EXTENSION: Duration = Duration::from_secs(4);
/// How long both ways are used before one is let go.
pub const OVERLAP: Duration = Duration::from_secs(2);
/// How long the way that was left stays warm.
pub const LINGER: Duration = Duration::from_secs(5);
/// How long one has to connect, to a peer or to the SFU.
pub const CONNECT: Duration = Duration::from_secs(30);
/// How long one whose stream or uplink was lost may come back.
pub const GRACE: Duration = Duration::from_secs(15);
/// How long a Matrix user who asked for a token is awaited.
pub const EXPECTED: Duration = Duration::from_secs(30);
/// How long the SFU may be away before the call leaves it.
pub const SFU_AWAY: Duration = Duration::from_secs(30);
/// How long a call that no mesh can carry waits for it then.
pub const RECONNECT: Duration = Duration::from_mins(1);
/// How long the SFU is left alone after it failed.
pub const BREAK: Duration = Duration::from_secs(30);
/// How long a call without anybody stands.
pub const EMPTY: Duration = Duration::from_secs(30);
/// How long nobody may have come or gone before a call goes back to the mesh.
pub const STABLE: Duration = Duration::from_mins(1);
/// And how long ago the last switch must be.
pub const SINCE_SWITCH: Duration = Duration::from_mins(2);
/// No more than [`SWITCHES`] within this.
pub const SWITCH_WINDOW: Duration = Duration::from_mins(10);
/// Switches within [`SWITCH_WINDOW`] after which a call stays on the SFU.
pub const SWITCHES: usize = 3;
/// Versions by which a call is ahead whose server's database was put back from a copy.
pub const BEYOND_A_COPY: u64 = 1 << 32;
