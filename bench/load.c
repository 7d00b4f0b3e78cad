/* A closed-loop load client for chat completions on loopback: one thread, epoll, keep-alive.
 *
 *   load PORT PATH BODY_FILE CONNECTIONS COUNT MAX_SECONDS [HEADER]
 *
 * Each connection sends the body, reads the whole answer (Content-Length or chunked) and goes on, until COUNT answers
 * are in. Prints one JSON object: answers, failures, seconds, and quantiles in microseconds of the whole time, of the
 * time to the first content and of every chunk's transit (upstream.c writes the time of sending into it), and the
 * first 16 latencies.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct series { long long *at; size_t count, room; };
struct conn { int fd; char *in; size_t used, room, sent, read; long long began, first; } *conns;

static struct series whole, first, transit;
static struct sockaddr_in server = { .sin_family = AF_INET };
static char *request;
static size_t request_size;
static long long heads[16];
static int ep, wanted, started, ended, failed;

static long long now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void note(struct series *s, long long value) {
    if (s->count == s->room) s->at = realloc(s->at, (s->room = s->room * 2 + 1024) * sizeof *s->at);
    s->at[s->count++] = value;
}

static int compare(const void *a, const void *b) {
    long long x = *(long long *)a, y = *(long long *)b;
    return (x > y) - (x < y);
}

static void print(const char *name, struct series *s) {
    if (!s->count) return;
    qsort(s->at, s->count, sizeof *s->at, compare);
    printf(", \"%s\": {\"p50\": %.1f, \"p99\": %.1f, \"count\": %zu}", name, s->at[s->count / 2] / 1e3,
           s->at[s->count * 99 / 100] / 1e3, s->count);
}

static void dial(struct conn *c) {
    int one = 1;
    struct epoll_event event = { EPOLLIN, { .ptr = c } };
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (void *)&server, sizeof server)) { perror("load"); exit(1); }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &event);
}

static void ask(struct conn *c) {
    if (started == wanted) { c->began = 0; return; }
    started++;
    c->used = c->read = 0; c->first = 0; c->began = now_ns();
    for (size_t sent = 0; sent < request_size;) {
        ssize_t done = send(c->fd, request + sent, request_size - sent, MSG_NOSIGNAL);
        if (done <= 0) return;
        sent += done;
    }
}

static void end(struct conn *c, int good) {
    long long took = now_ns() - c->began;
    if (ended < 16) heads[ended] = good ? took : -1;
    ended++;
    if (good) {
        note(&whole, took);
        if (c->first) note(&first, c->first - c->began);
    } else failed++;
    ask(c);
}

static void read_stamps(struct conn *c) {
    char *mark;
    long long now = now_ns();
    while ((mark = memchr(c->in + c->read, '@', c->used - c->read))) {
        char *stop = memchr(mark, ';', c->in + c->used - mark);
        if (!stop) { c->read = mark - c->in; return; }
        if (!c->first) c->first = now;
        note(&transit, now - atoll(mark + 1));
        c->read = stop - c->in;
    }
    c->read = c->used;
}

/* 1 when a whole good answer is in, -1 when a whole bad one is. */
static int whole_answer(struct conn *c) {
    char *stop = memmem(c->in, c->used, "\r\n\r\n", 4);
    if (!stop) return 0;
    size_t head = stop + 4 - c->in;
    char *length = strcasestr(c->in, "\ncontent-length:");
    int good = atoi(c->in + 9) == 200;
    if (length && length < stop) return c->used >= head + strtoul(length + 16, 0, 10) ? (good ? 1 : -1) : 0;
    if (c->used < head + 5 || memcmp(c->in + c->used - 5, "0\r\n\r\n", 5)) return 0;
    return memmem(c->in + c->used - 40, 40, "[DONE]", 6) && !memmem(c->in, c->used, "\"error\":{", 9) ? 1 : -1;
}

static void hear(struct conn *c) {
    for (;;) {
        if (c->room - c->used < 65536) c->in = realloc(c->in, c->room = c->room * 2 + 262144);
        ssize_t size = recv(c->fd, c->in + c->used, c->room - c->used - 1, MSG_DONTWAIT);
        if (size == 0) {
            close(c->fd);
            if (c->began) { dial(c); end(c, 0); }   /* idle ones are the server's to close */
            return;
        }
        if (size < 0) break;
        c->in[c->used += size] = 0;
    }
    read_stamps(c);
    int state = whole_answer(c);
    if (state) end(c, state > 0);
}

int main(int argc, char **argv) {
    if (argc < 7) { fprintf(stderr, "usage: load PORT PATH BODY_FILE CONNECTIONS COUNT MAX_SECONDS [HEADER]\n"); return 2; }
    int connections = atoi(argv[4]);
    FILE *file = fopen(argv[3], "rb");
    if (!file) { perror(argv[3]); return 1; }
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    request = malloc(size + 4096);
    request_size = sprintf(request, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\nContent-Type: application/json\r\n%s%sContent-Length: %ld\r\n\r\n",
                           argv[2], argv[1], argc > 7 ? argv[7] : "", argc > 7 ? "\r\n" : "", size);
    request_size += fread(request + request_size, 1, size, file);
    server.sin_port = htons(atoi(argv[1]));
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    wanted = atoi(argv[5]);
    ep = epoll_create1(0);
    conns = calloc(connections, sizeof *conns);
    long long began = now_ns(), until = began + (long long)(atof(argv[6]) * 1e9);
    for (int i = 0; i < connections; i++) { dial(&conns[i]); ask(&conns[i]); }
    struct epoll_event events[256];
    while (ended < wanted && now_ns() < until) {
        int ready = epoll_wait(ep, events, 256, 100);
        for (int i = 0; i < ready; i++) hear(events[i].data.ptr);
    }
    printf("{\"answers\": %d, \"failures\": %d, \"seconds\": %.3f", ended, failed, (now_ns() - began) / 1e9);
    print("whole", &whole);
    print("first", &first);
    print("transit", &transit);
    printf(", \"heads_ms\": [");
    for (int i = 0; i < ended && i < 16; i++) printf("%s%.2f", i ? ", " : "", heads[i] / 1e6);
    printf("]}\n");
    return 0;
}
