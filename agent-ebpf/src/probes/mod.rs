//! One subject a file; every program is a thin attachment around a body that its variants share.
//!
//! | file | hooks | gives |
//! |---|---|---|
//! | `payload` | `sock_send_length`, `sock_recv_length` (6.3), or fexit on the socket families | bytes |
//! | `send_time` | `tcp_sendmsg_locked` (6.16), or fentry on it | when a send began, exact positions, its bytes |
//! | `arrival` | `sk_data_ready` (6.3), or fentry on `sock_def_readable` | when data became readable |
//! | `payload::in_kernel` | `skb_copy_datagram_iovec`, `io_uring_create`; attached when needed | bytes that io_uring receives |
//! | `page_test` | as `send_time`; attached for a test when the agent starts | where pages lie |
//! | `state` | `inet_sock_set_state` | who connected, when it closes |
//! | `go` | uprobe in Go's HTTP client | who asks |
//! | `tls` | uprobes on functions of TLS libraries | plaintext |
//! | `tls_go` | uprobes in Go's `crypto/tls` | the same |
//! | `tls_rust` | uprobes on methods of rustls | plaintext |
//! | `flow` | `inet_sock_set_state`, `tcp_*_reset`, the payload hooks, cgroup UDP hooks, an iterator | conversations |
//! | `process` | `sched_process_{fork,exec,exit}` | processes |

pub mod arrival;
mod flow;
mod go;
mod page_test;
pub mod payload;
pub mod process;
pub mod send_time;
pub mod state;
pub mod tls;
pub mod tls_go;
pub mod tls_rust;

pub use flow::FlowState;
