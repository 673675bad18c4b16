/* An HTTPS client that gives OpenSSL buffers of its own making (BIO_meth_new) in place of a socket.
 *
 * buffers PORT PATH REQUESTS GATE
 *
 * Each request on a connection of its own. Before the second one it waits for the file GATE. Debian has the
 * library's headers in a package of its own, hence the prototypes.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void *TLS_client_method(void);
void *SSL_CTX_new(void *);
void *SSL_new(void *);
void SSL_free(void *);
void SSL_set_bio(void *, void *, void *);
void SSL_set_connect_state(void *);
int SSL_do_handshake(void *);
int SSL_read(void *, void *, int);
int SSL_write(void *, const void *, int);
void *BIO_meth_new(int, const char *);
int BIO_meth_set_write(void *, int (*)(void *, const char *, int));
int BIO_meth_set_read(void *, int (*)(void *, char *, int));
int BIO_meth_set_ctrl(void *, long (*)(void *, int, long, void *));
void *BIO_new(void *);
void BIO_set_init(void *, int);
void BIO_set_flags(void *, int);
void BIO_clear_flags(void *, int);

enum { READS = 1, RETRY = 8, FLAGS = 15, FLUSH = 11, ROOM = 1 << 16 };

static char out[ROOM], in[ROOM];
static int out_len, in_len;

static void demand(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "buffers: %s failed\n", what);
        exit(1);
    }
}

static int put(void *bio, const char *bytes, int len) {
    (void)bio;
    demand(len <= ROOM - out_len, "room");
    memcpy(out + out_len, bytes, len);
    out_len += len;
    return len;
}

static int take(void *bio, char *bytes, int len) {
    BIO_clear_flags(bio, FLAGS);
    if (in_len == 0) {
        BIO_set_flags(bio, READS | RETRY);
        return -1;
    }
    len = len < in_len ? len : in_len;
    memcpy(bytes, in, len);
    in_len -= len;
    memmove(in, in + len, in_len);
    return len;
}

static long control(void *bio, int command, long number, void *pointer) {
    (void)bio, (void)number, (void)pointer;
    return command == FLUSH;
}

static void flush(int fd) {
    for (int sent = 0; sent < out_len;) {
        int some = write(fd, out + sent, out_len - sent);
        demand(some > 0, "write");
        sent += some;
    }
    out_len = 0;
}

/* Outside of any call of the library. 0 at the end. */
static int fill(int fd) {
    int some = read(fd, in + in_len, ROOM - in_len);
    demand(some >= 0, "read");
    in_len += some;
    return some;
}

int main(int count, char **words) {
    demand(count == 5, "buffers PORT PATH REQUESTS GATE:");
    void *method = BIO_meth_new(128, "buffers of the program");
    BIO_meth_set_write(method, put);
    BIO_meth_set_read(method, take);
    BIO_meth_set_ctrl(method, control);
    void *context = SSL_CTX_new(TLS_client_method());
    char request[1024], answer[ROOM];
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nConnection: close\r\n\r\n",
             words[2], words[1]);
    for (int number = 0; number < atoi(words[3]); number++) {
        while (number == 1 && access(words[4], F_OK) != 0)
            usleep(10000);
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        address.sin_port = htons(atoi(words[1]));
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        demand(connect(fd, (void *)&address, sizeof address) == 0, "connect");
        void *ssl = SSL_new(context), *bio = BIO_new(method);
        BIO_set_init(bio, 1);
        SSL_set_bio(ssl, bio, bio);
        SSL_set_connect_state(ssl);
        in_len = out_len = 0;
        while (SSL_do_handshake(ssl) != 1) {
            flush(fd);
            demand(fill(fd) > 0, "the handshake");
        }
        flush(fd);
        demand(SSL_write(ssl, request, strlen(request)) == (int)strlen(request), "SSL_write");
        flush(fd);
        int total = 0;
        while (fill(fd) > 0)
            for (int some; (some = SSL_read(ssl, answer, sizeof answer)) > 0;)
                total += some;
        demand(total > 0, "SSL_read");
        SSL_free(ssl);
        close(fd);
        printf("%d\n", total);
        fflush(stdout);
    }
    return 0;
}
