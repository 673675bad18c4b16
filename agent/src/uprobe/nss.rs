//! NSS: TLS is a layer on NSPR's descriptors, and its calls are NSPR's.
//!
//! NSPR's calls serve plain files and sockets as well: bytes that no TLS socket moved within the call
//! are none of TLS, and are not counted as missing. Prototypes: prio.h, ssl.h.

use super::library::{Library, function};
use agent_common::tls::Site;

/// `libnspr4`.
pub const NSPR: Library = Library {
    name: "NSS",
    marks: &["PR_Read", "PR_Write", "PR_ImportTCPSocket"],
    functions: &[
        // PRInt32 PR_Read(PRFileDesc *, void *, PRInt32); PRInt32 PR_Write(…)
        function("PR_Read", Site::receive(0, 1, false).perhaps()),
        function("PR_Write", Site::send(0, 1, false).perhaps()),
        // PRInt32 PR_Recv(PRFileDesc *, void *, PRInt32, PRIntn, PRIntervalTime); PRInt32 PR_Send(…)
        function("PR_Recv", Site::receive(0, 1, false).perhaps()),
        function("PR_Send", Site::send(0, 1, false).perhaps()),
        function("PR_Close", Site::forget(0)),
    ],
    inner: &[],
    forwards: &[],
};

/// NSS's own `libssl3`.
pub const SSL: Library = Library {
    name: "NSS (libssl3)",
    marks: &["SSL_ImportFD", "SSL_ForceHandshake"],
    functions: &[
        // SECStatus SSL_ForceHandshake(PRFileDesc *)
        function("SSL_ForceHandshake", Site::silent(0)),
    ],
    inner: &[],
    forwards: &[],
};
