// A TLS connection with both ends in this thread: for each number on standard input, so many SSL_write of
// one end and SSL_read of the other, and the nanoseconds that they took. First line: the sockets' cookies.
// Debian has the library's headers in a package of its own, hence the prototypes.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

void *TLS_client_method(void);
void *TLS_server_method(void);
void *SSL_CTX_new(void *);
void *SSL_new(void *);
int SSL_set_fd(void *, int);
int SSL_CTX_use_certificate_file(void *, const char *, int);
int SSL_CTX_use_PrivateKey_file(void *, const char *, int);
void SSL_set_connect_state(void *);
void SSL_set_accept_state(void *);
int SSL_do_handshake(void *);
int SSL_read(void *, void *, int);
int SSL_write(void *, const void *, int);

enum { PEM = 1, SIZE = 256 };

static void demand(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "tls: %s failed\n", what);
        exit(1);
    }
}

static unsigned long long cookie(int fd) {
    unsigned long long value = 0;
    socklen_t size = sizeof value;
    demand(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &value, &size) == 0, "SO_COOKIE");
    return value;
}

static long long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void block(int fd, int blocks) {
    fcntl(fd, F_SETFL, blocks ? 0 : O_NONBLOCK);
}

int main(int count, char **words) {
    demand(count == 3, "tls CERTIFICATE KEY");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    demand(bind(listener, (void *)&address, size) == 0, "bind");
    demand(listen(listener, 1) == 0, "listen");
    getsockname(listener, (void *)&address, &size);
    int there = socket(AF_INET, SOCK_STREAM, 0);
    demand(connect(there, (void *)&address, size) == 0, "connect");
    int here = accept(listener, NULL, NULL);
    setsockopt(there, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);

    void *client = SSL_new(SSL_CTX_new(TLS_client_method()));
    void *context = SSL_CTX_new(TLS_server_method());
    demand(SSL_CTX_use_certificate_file(context, words[1], PEM) == 1, "the certificate");
    demand(SSL_CTX_use_PrivateKey_file(context, words[2], PEM) == 1, "the key");
    void *server = SSL_new(context);
    SSL_set_fd(client, there);
    SSL_set_fd(server, here);
    SSL_set_connect_state(client);
    SSL_set_accept_state(server);
    block(there, 0);
    block(here, 0);
    int done = 0;
    for (int tries = 0; tries < 1000000 && done != 3; tries++)
        done = (SSL_do_handshake(client) == 1) | (SSL_do_handshake(server) == 1) << 1;
    demand(done == 3, "the handshake");
    block(there, 1);
    block(here, 1);

    printf("%llu %llu\n", cookie(there), cookie(here));
    fflush(stdout);
    char bytes[SIZE] = {7};
    char line[64];
    while (fgets(line, sizeof line, stdin)) {
        long calls = strtol(line, NULL, 10);
        long long began = now();
        for (long n = 0; n < calls; n++) {
            demand(SSL_write(client, bytes, SIZE) == SIZE, "SSL_write");
            demand(SSL_read(server, bytes, SIZE) == SIZE, "SSL_read");
        }
        printf("%lld\n", now() - began);
        fflush(stdout);
    }
    return 0;
}
