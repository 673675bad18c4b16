//! OpenSSL 1.1 and 3.x, LibreSSL, and BoringSSL with its symbols; also linked statically.
//!
//! Prototypes: SSL_read(3), SSL_write(3), SSL_do_handshake(3), SSL_set_bio(3), BIO_write(3).

use super::library::{Function, Inner, Library, function};
use agent_common::tls::Site;

/// `libssl`.
pub const SSL: Library = Library {
    name: "OpenSSL",
    marks: &["SSL_read", "SSL_write"],
    functions: &[
        // int SSL_read(SSL *, void *, int); int SSL_write(SSL *, const void *, int)
        function("SSL_read", Site::receive(0, 1, false)),
        function("SSL_write", Site::send(0, 1, false)),
        // int SSL_read_ex(SSL *, void *, size_t, size_t *); int SSL_write_ex(…)
        function("SSL_read_ex", Site::receive_counted(0, 1, 3)),
        function("SSL_write_ex", Site::send_counted(0, 1, 3)),
        // int SSL_write_ex2(SSL *, const void *, size_t, uint64_t, size_t *), since 3.3
        function("SSL_write_ex2", Site::send_counted(0, 1, 4)),
        // ossl_ssize_t SSL_sendfile(SSL *, int, off_t, size_t, int): the bytes come from a file
        function("SSL_sendfile", Site::send_file(0)),
        function("SSL_peek", Site::silent(0)),
        function("SSL_peek_ex", Site::silent(0)),
        function("SSL_do_handshake", Site::silent(0)),
        function("SSL_connect", Site::silent(0)),
        function("SSL_accept", Site::silent(0)),
        function("SSL_set_bio", Site::forget(0)),
        function("SSL_clear", Site::forget(0)),
        function("SSL_free", Site::forget(0)),
        BIO_WRITE,
    ],
    inner: &[
        // int ssl_read_internal(SSL *, void *, size_t, size_t *)
        Inner { exact: "SSL_read_ex", others: &["SSL_read"], site: Site::receive_counted(0, 1, 3) },
        // int ssl_write_internal(SSL *, const void *, size_t, uint64_t, size_t *), since 3.3
        Inner { exact: "SSL_write_ex2", others: &["SSL_write"], site: Site::send_counted(0, 1, 4) },
        // int ssl_write_internal(SSL *, const void *, size_t, size_t *)
        Inner { exact: "SSL_write_ex", others: &["SSL_write"], site: Site::send_counted(0, 1, 3) },
    ],
    forwards: &[],
};

/// `libcrypto`: where the ciphertext goes when it does not go to a socket.
pub const CRYPTO: Library = Library {
    name: "OpenSSL (libcrypto)",
    marks: &["BIO_write", "BIO_read"],
    functions: &[BIO_WRITE],
    inner: &[],
    forwards: &[],
};

/// `int BIO_write(BIO *, const void *, int)`.
const BIO_WRITE: Function = function("BIO_write", Site::ciphertext(1));
