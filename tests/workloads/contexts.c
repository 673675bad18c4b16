/* A program that publishes its trace context by thread, as OTEP 4947 says, and sends requests.
 *
 * contexts PORT THREADS REQUESTS MODE [LIBRARY]
 *
 * Each thread sends its requests on a connection of its own; a line of standard output for each says what
 * was published meanwhile: `path trace span`, `-` for none. With LIBRARY the variable is that library's, else
 * the program's own, or that of a library that it was linked with. The same file makes all three:
 * VARIABLE defines the variable, MAIN the rest.
 *
 * MODE: `plain`; `fork`: a child sends; `hostile`: what is published is garbage, the most of it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct record {
    uint8_t trace[16], span[8], valid, flags;
    uint16_t attributes_size;
    uint8_t attributes[36];
} __attribute__((packed, aligned(2)));

#ifdef VARIABLE
/* Large libraries have more variables than the room that loaders keep for late ones. */
#ifdef LARGE
__attribute__((visibility("default"))) __thread char contexts_room[LARGE];
#endif
__attribute__((visibility("default"))) __thread struct record *volatile otel_thread_ctx_v1;

__attribute__((visibility("default"))) void contexts_attach(struct record *record)
{
#ifdef LARGE
    contexts_room[0] = 1;
#endif
    otel_thread_ctx_v1 = record;
}
#endif

#ifdef MAIN
void contexts_attach(struct record *record);
#pragma weak contexts_attach
static void (*attach)(struct record *);
static int port, requests, hostile;

#define FENCE __atomic_signal_fence(__ATOMIC_SEQ_CST)

static uint64_t mixed(uint64_t x)
{
    x += 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    x = (x ^ x >> 27) * 0x94d049bb133111eb;
    return x ^ x >> 31;
}

static void fill(struct record *record, int thread, int n)
{
    uint64_t ids[3];
    for (int i = 0; i < 3; i++)
        ids[i] = mixed(((uint64_t)getpid() << 40) + ((uint64_t)thread << 24) + n * 4 + i);
    memcpy(record->trace, ids, 24);
    record->flags = 1;
    record->attributes_size = 0;
}

/* A record whose last byte is the last of its page, with nothing behind it. */
static struct record *at_the_edge(void)
{
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(page + 4096, 4096);
    return (struct record *)(page + 4096 - 28);
}

/* Publishes for request `n`; what is to be seen of it, or NULL. */
static struct record *publish(struct record *own, struct record *edge, int thread, int n)
{
    if (hostile) {
        static struct record *const nowhere[] = {
            (void *)1, (void *)0xdeadbeef, (void *)0xffff888000000000, (void *)-1L, (void *)0x8000000000000000,
        };
        int kind = n % 10;
        if (kind < 5) {
            attach(nowhere[kind]);
            return NULL;
        }
        fill(edge, thread, n);
        edge->valid = kind == 5 ? 2 : 1;
        if (kind == 6)
            memset(edge->trace, 0, 16);
        if (kind == 7)
            memset(edge->span, 0, 8);
        /* Right all the same: nobody asks for attributes. */
        edge->attributes_size = 65535;
        attach(kind == 8 ? (void *)((char *)edge + 8) : edge);
        return kind == 9 ? edge : NULL;
    }
    switch (n % 4) {
    case 0: /* a record of its own, by pointer */
        attach(NULL);
        FENCE;
        fill(own, thread, n);
        own->valid = 1;
        FENCE;
        attach(own);
        return own;
    case 1: /* detached */
        attach(NULL);
        return NULL;
    case 2: /* a fixed record, by its flag */
        attach(edge);
        edge->valid = 0;
        FENCE;
        fill(edge, thread, n);
        FENCE;
        edge->valid = 1;
        return edge;
    default: /* detached by the flag */
        edge->valid = 0;
        return NULL;
    }
}

static void hex(char *to, const uint8_t *from, int len)
{
    for (int i = 0; i < len; i++)
        sprintf(to + 2 * i, "%02x", from[i]);
}

static void ask(int fd, const char *path)
{
    char text[4096];
    int len = snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: contexts\r\n\r\n", path);
    if (write(fd, text, len) != len)
        exit(3);
    size_t have = 0, want = 0;
    while (!want || have < want) {
        ssize_t got = read(fd, text + have, sizeof text - 1 - have);
        if (got <= 0)
            exit(4);
        have += got;
        text[have] = 0;
        char *end = strstr(text, "\r\n\r\n"), *size = strcasestr(text, "content-length:");
        if (end && size)
            want = end + 4 - text + atoi(size + 15);
    }
}

static void *run(void *argument)
{
    int thread = (int)(intptr_t)argument;
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (void *)&to, sizeof to))
        exit(2);
    struct record *own = calloc(1, sizeof *own), *edge = at_the_edge();
    for (int n = 0; n < requests; n++) {
        char path[64], trace[33] = "-", span[17] = "-";
        snprintf(path, sizeof path, "/contexts/%d/%d/%d", (int)getpid(), thread, n);
        struct record *seen = publish(own, edge, thread, n);
        if (seen) {
            hex(trace, seen->trace, 16);
            hex(span, seen->span, 8);
        }
        ask(fd, path);
        printf("%s %s %s\n", path, trace, span);
    }
    attach(NULL);
    close(fd);
    return NULL;
}

int main(int count, char **words)
{
    if (count < 5)
        return 1;
    port = atoi(words[1]);
    int threads = atoi(words[2]);
    requests = atoi(words[3]);
    hostile = !strcmp(words[4], "hostile");
    attach = contexts_attach;
    if (count > 5) {
        /* Threads that were there before the library. */
        void *library = dlopen(words[5], RTLD_NOW | RTLD_LOCAL);
        if (!library)
            return fputs(dlerror(), stderr), 1;
        attach = dlsym(library, "contexts_attach");
    }
    /* A program that starts is known within this time. */
    usleep(100000);
    if (!strcmp(words[4], "fork")) {
        pid_t child = fork();
        if (child) {
            int status;
            waitpid(child, &status, 0);
            return status ? 5 : 0;
        }
    }
    pthread_t all[64];
    for (int i = 0; i < threads; i++)
        pthread_create(&all[i], NULL, run, (void *)(intptr_t)i);
    for (int i = 0; i < threads; i++)
        pthread_join(all[i], NULL);
    fflush(stdout);
    return 0;
}
#endif
