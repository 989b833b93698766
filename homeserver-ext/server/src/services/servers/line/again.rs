//! What a server lost is put on its way again.

use causeway_protocol::ids::{ServerLinkId, Timestamp};

use super::{Line, Mark};

impl Line {
    /// The server is given all again behind `after`, which it lost; up to `kept_from` something is not kept
    /// any more.
    pub(in super::super) fn give_again(
        &mut self,
        mine: ServerLinkId,
        (now, now_ms): (Timestamp, u64),
        (after, kept_from): (i64, i64),
    ) {
        self.begin_anew(mine, now_ms);
        // It is read again, in its order.
        let is_read = |mark| matches!(mark, Mark::Rows(_) | Mark::Part(..) | Mark::Ops(..));
        self.queue.retain(|queued| !queued.mark.is_some_and(is_read));
        self.queued_bytes = self.queue.iter().map(|queued| queued.bytes).sum();
        self.cursor = Some(after);
        self.ops.clear();
        if self.giving.begin_again(after, kept_from) {
            self.conduct.had_gap(now, "it was put back further than what is kept for it reaches");
        }
    }

    /// Of what is there for it up to the cursor all is on its way.
    pub(in super::super) fn is_put(&mut self) {
        let queued = self.queue.iter().filter_map(|queued| queued.mark?.row()).max();
        let sent = self.sent.iter().filter_map(|sent| sent.gives);
        let sent = sent.filter_map(|gives| i64::try_from(gives.seq).ok()).max();
        self.giving.is_put_up_to(self.cursor.unwrap_or(0), queued.max(sent));
    }
}
