//! GnuTLS 3.
//!
//! Prototypes: gnutls/gnutls.h.

use super::library::{Library, function};
use agent_common::tls::Site;

/// `libgnutls`.
pub const LIBRARY: Library = Library {
    name: "GnuTLS",
    marks: &["gnutls_record_send", "gnutls_record_recv"],
    functions: &[
        // ssize_t gnutls_record_send(gnutls_session_t, const void *, size_t)
        function("gnutls_record_send", Site::send(0, 1, true)),
        function("gnutls_record_send2", Site::send(0, 1, true)),
        function("gnutls_record_send_early_data", Site::send(0, 1, true)),
        // ssize_t gnutls_record_recv(gnutls_session_t, void *, size_t)
        function("gnutls_record_recv", Site::receive(0, 1, true)),
        function("gnutls_record_recv_seq", Site::receive(0, 1, true)),
        function("gnutls_handshake", Site::silent(0)),
        function("gnutls_deinit", Site::forget(0)),
    ],
    inner: &[],
    forwards: &[("gnutls_record_send", "gnutls_record_send2")],
};
