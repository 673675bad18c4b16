//! Who asks on a connection of Go's HTTP client: goroutines of the connection's own write what they
//! are handed, so that the one that writes says nothing.

use aya_ebpf::{macros::uprobe, programs::ProbeContext};

use crate::kernel::{goroutine, registers::go_arguments, stack, task::current_ids};

/// `func (pc *persistConn) roundTrip(req *transportRequest) (*Response, error)`, where the arguments
/// are still in their registers.
#[uprobe]
#[inline(always)]
fn go_round_trip(ctx: ProbeContext) -> u32 {
    stack::stay_on_the_tasks();
    let (tgid, _, _) = current_ids();
    if let Some(program) = goroutine::known(tgid) {
        let (connection, g) = go_arguments(&ctx);
        goroutine::calls(tgid, program, g, connection);
    }
    0
}
