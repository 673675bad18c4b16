//! One subject a file; every program is a thin attachment around a body that its variants share.
//!
//! | file | hooks | gives |
//! |---|---|---|
//! | `payload` | `sock_send_length`, `sock_recv_length` (6.3), or fexit on the socket families | bytes |
//! | `send_time` | `tcp_sendmsg_locked` (6.16), or fentry on it | when a send began, exact positions, its bytes |
//! | `arrival` | `sk_data_ready` (6.3), or fentry on `sock_def_readable` | when data became readable |
//! | `state` | `inet_sock_set_state` | who connected, when it closes |
//! | `tls` | uprobes on functions of TLS libraries | plaintext |
//! | `flow` | `inet_sock_set_state`, `tcp_*_reset`, the payload hooks, cgroup UDP hooks, an iterator | conversations |
//! | `process` | `sched_process_{fork,exec,exit}` | processes |

mod arrival;
mod flow;
mod payload;
mod process;
mod send_time;
mod state;
mod tls;

pub use flow::FlowState;
