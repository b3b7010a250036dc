// Questions: a connection sends one byte and gets one line of JSON.
//   r  what was seen since the last r     v  how many pages have other contents than were written
//   s  what the counting thread has done so far
//   p  pause changing pages               g  go on
#include "workload.h"
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static int listen_on(const void *port) {
    int on = 1;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t) * (const int *)port)};
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 16) < 0) {
        perror("workload: listen");
        exit(1);
    }
    return listener;
}

static int report(char *line, size_t size) {
    int length =
        snprintf(line, size, "{\"gap_ms\":%.3f,\"touch_ms\":%.3f,\"touch_longest_ms\":%.3f,\"changed_after\":%llu}\n",
                 (double)seen.gap / 1e6, (double)seen.touch / 1e6, (double)seen.touch_longest / 1e6,
                 (unsigned long long)seen.changed_after);
    seen.gap = seen.touch = seen.touch_longest = 0;
    seen.changed_after = 0;
    return length;
}

static int answer(char question, char *line, size_t size) {
    switch (question) {
    case 'r':
        return report(line, size);
    case 's':
        return report_counts(line, size);
    case 'v': {
        lock_pages();
        size_t wrong = wrong_pages();
        unlock_pages();
        return snprintf(line, size, "{\"wrong_pages\":%zu}\n", wrong);
    }
    case 'p':
    case 'g':
        running = question == 'g';
        return snprintf(line, size, "{}\n");
    default:
        return snprintf(line, size, "{\"error\":\"unknown question\"}\n");
    }
}

void *serve_questions(void *port) {
    int listener = listen_on(port);
    for (;;) {
        int connection = accept(listener, NULL, NULL);
        char question, line[256];
        if (connection >= 0 && read(connection, &question, 1) == 1) {
            int length = answer(question, line, sizeof line);
            if (write(connection, line, (size_t)length) < 0)
                perror("workload: answer");
        }
        close(connection);
    }
    return 0;
}

void *serve_echo(void *port) {
    int listener = listen_on(port);
    for (;;) {
        int on = 1, connection = accept(listener, NULL, NULL);
        if (connection < 0)
            continue;
        setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        char buffer[4096];
        ssize_t count;
        while ((count = read(connection, buffer, sizeof buffer)) > 0) {
            if (write(connection, buffer, (size_t)count) != count)
                break;
        }
        close(connection);
    }
    return 0;
}
