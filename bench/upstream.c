/* The cheapest OpenAI-shaped model server: one thread, epoll, keep-alive, loopback only.
 *
 *   upstream PORT
 *
 * The first segment of the path says how to behave, as words joined by '-':
 *   ok      answer: in one piece, or as a stream when the body asks for one
 *   nN      N content chunks in a stream (default 1: the whole text at once)
 *   dMS     wait MS milliseconds before the first byte       gMS  between the chunks
 *   eCODE   answer with that status                          hang never answer
 *   cut     drop the connection after five chunks
 * Every chunk begins with the time it was sent, as "@<CLOCK_MONOTONIC ns>;".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_FD 16384
#define HEAD "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion%s\",\"created\":1760000000,\"model\":\"bench-model\",\"choices\":["
#define TEXT "The lighthouse keeper counted the waves because nobody else would, and on the hundredth one a small boat " \
    "came round the point with its lamp already lit. She set the kettle on, opened the lower door, and waited. You are " \
    "late, she said, though there had never been an appointment. The visitor laughed, shook the rain from a wide hat " \
    "and laid three letters on the table: one from the harbour, one from the mainland, and one with no address at all."

struct conn {
    char *in; size_t used, room;
    long long due;                                  /* when the next piece may go */
    int busy, stream, chunks, sent, gap, code, hang, cut, list;
} conns[MAX_FD];

static int ep;

static long long now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void drop(int fd) {
    free(conns[fd].in);
    memset(&conns[fd], 0, sizeof conns[fd]);
    close(fd);
}

static void put(int fd, const char *data, size_t size) {
    while (size) {
        ssize_t done = send(fd, data, size, MSG_NOSIGNAL);
        if (done <= 0) return;                      /* seen again as a hang-up by epoll */
        data += done; size -= done;
    }
}

static void put_chunk(int fd, const char *data, int size) {
    char out[2048];
    put(fd, out, sprintf(out, "%x\r\n%.*s\r\n", size, size, data));
}

static void put_whole(int fd, int code, const char *body) {
    char out[4096];
    put(fd, out, sprintf(out, "HTTP/1.1 %d X\r\nContent-Type: application/json\r\n%sContent-Length: %zu\r\n\r\n%s",
                         code, code == 429 ? "Retry-After: 30\r\n" : "", strlen(body), body));
}

static void behave(struct conn *c, char *words) {
    c->busy = 1; c->chunks = 1; c->code = 200; c->sent = c->gap = c->hang = c->cut = 0; c->due = now_ns();
    for (char *word = strtok(words, "-"); word; word = strtok(0, "-")) {
        int number = atoi(word + 1);
        if (!strcmp(word, "hang")) c->hang = 1;
        else if (!strcmp(word, "cut")) c->cut = 1;
        else if (*word == 'n') c->chunks = number;
        else if (*word == 'g') c->gap = number;
        else if (*word == 'd') c->due += number * 1000000LL;
        else if (*word == 'e') c->code = number;
    }
}

/* Takes one whole request off the input; 0 when there is none yet. */
static int take(struct conn *c) {
    char *end = c->used ? memmem(c->in, c->used, "\r\n\r\n", 4) : 0, words[64] = "";
    if (!end) return 0;
    *end = 0;
    char *length = strcasestr(c->in, "\r\ncontent-length:");
    size_t head = end + 4 - c->in, size = length ? strtoul(length + 17, 0, 10) : 0;
    if (c->used < head + size) { *end = '\r'; return 0; }
    sscanf(c->in, "%*s /%63[^/ ]", words);
    char *asks = memmem(c->in + head, size, "\"stream\":", 9);
    c->list = !strncmp(c->in, "GET", 3);
    c->stream = asks && !strncmp(asks + 9 + (asks[9] == ' '), "true", 4);
    behave(c, words);
    c->used -= head + size;
    memmove(c->in, c->in + head + size, c->used);
    return 1;
}

static void put_piece(int fd, struct conn *c) {
    char data[1024];
    if (c->sent < c->chunks) {
        const char *text = c->chunks == 1 ? TEXT : " wave";
        int size = sprintf(data, "data: " HEAD "{\"index\":0,\"delta\":{%s\"content\":\"@%lld;%s\"},\"finish_reason\":null}]}\n\n",
                           ".chunk", c->sent ? "" : "\"role\":\"assistant\",", now_ns(), text);
        put_chunk(fd, data, size);
        c->sent++; c->due = now_ns() + c->gap * 1000000LL;
        return;
    }
    put_chunk(fd, data, sprintf(data, "data: " HEAD "{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n", ".chunk"));
    put_chunk(fd, data, sprintf(data, "data: " HEAD "],\"usage\":{\"prompt_tokens\":120,\"completion_tokens\":104,\"total_tokens\":224}}\n\n", ".chunk"));
    put_chunk(fd, "data: [DONE]\n\n", 14);
    put(fd, "0\r\n\r\n", 5);
    c->busy = 0;
}

/* Everything that may happen on a connection now. */
static void step(int fd) {
    struct conn *c = &conns[fd];
    while (c->busy || take(c)) {
        if ((c->hang && !c->list) || c->due > now_ns()) return;
        if (c->list) {
            put_whole(fd, 200, "{\"object\":\"list\",\"data\":[{\"id\":\"bench-model\",\"object\":\"model\"}]}");
            c->busy = 0;
        } else if (c->code != 200) {
            put_whole(fd, c->code, "{\"error\":{\"message\":\"made up\",\"type\":\"bench\"}}");
            c->busy = 0;
        } else if (!c->stream) {
            char body[2048];
            sprintf(body, HEAD "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"" TEXT "\"},\"finish_reason\":\"stop\"}],"
                    "\"usage\":{\"prompt_tokens\":120,\"completion_tokens\":104,\"total_tokens\":224}}", "");
            put_whole(fd, 200, body);
            c->busy = 0;
        } else {
            const char *head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            if (!c->sent) put(fd, head, strlen(head));
            if (c->cut && c->sent == 5) { drop(fd); return; }
            put_piece(fd, c);
        }
    }
}

static void hear(int fd) {
    struct conn *c = &conns[fd];
    for (;;) {
        if (c->room - c->used < 65536) c->in = realloc(c->in, c->room = c->room * 2 + 131072);
        ssize_t size = recv(fd, c->in + c->used, c->room - c->used - 1, MSG_DONTWAIT);
        if (size == 0) { drop(fd); return; }
        if (size < 0) break;
        c->in[c->used += size] = 0;
    }
    step(fd);
}

int main(int argc, char **argv) {
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), top = 0;
    struct sockaddr_in at = { AF_INET, htons(atoi(argv[argc - 1])), { htonl(INADDR_LOOPBACK) }, { 0 } };
    struct epoll_event events[256], listen_event = { EPOLLIN, { .fd = listener } };
    signal(SIGPIPE, SIG_IGN);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (void *)&at, sizeof at) || listen(listener, 4096)) { perror("upstream"); return 1; }
    ep = epoll_create1(0);
    epoll_ctl(ep, EPOLL_CTL_ADD, listener, &listen_event);
    for (;;) {
        long long now = now_ns(), wait = -1;
        for (int fd = 0; fd <= top; fd++)
            if (conns[fd].busy && !conns[fd].hang) {
                long long left = conns[fd].due > now ? conns[fd].due - now : 0;
                if (wait < 0 || left < wait) wait = left;
            }
        struct timespec pause = { wait / 1000000000LL, wait % 1000000000LL };
        int ready = epoll_pwait2(ep, events, 256, wait < 0 ? 0 : &pause, 0);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd != listener) { hear(fd); continue; }
            fd = accept(listener, 0, 0);
            if (fd < 0 || fd >= MAX_FD) { close(fd); continue; }
            struct epoll_event event = { EPOLLIN, { .fd = fd } };
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event);
            if (fd > top) top = fd;
        }
        now = now_ns();
        for (int fd = 0; fd <= top; fd++)
            if (conns[fd].busy && !conns[fd].hang && conns[fd].due <= now) step(fd);
    }
}
