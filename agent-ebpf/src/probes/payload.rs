//! Bytes that a call moved through a socket.
//!
//! | program | hook | kernels |
//! |---|---|---|
//! | `send_tracepoint`, `receive_tracepoint` | `sock_send_length`, `sock_recv_length`: after every socket send and receive, in the caller's context | 6.3 and later |
//! | `…_fexit` | fexit on `inet_sendmsg` and its like | with fentry |
//!
//! The attachments are in `typed.rs` (and `hooks/calls.rs`, for kernels with neither). [`call`] is their
//! body: filters ([`watched`]), position and times, whose bytes.
//! [`write`]: size classes, the way into the ring. [`connection`]: who talks to whom.
//! [`ktls`]: plaintext of sockets on which the kernel does TLS.
//! [`work`]: the steps of a call that the verifier takes one by one. [`in_kernel`]: receives that no registers explain.
//!
//! Not the system calls: there a hook taxes every call of every process, and a table of
//! descriptors would have to be kept right through dup, fork, exec and SCM_RIGHTS.

pub mod call;
mod connection;
mod in_kernel;
mod ktls;
mod watched;
pub mod work;
pub mod write;
