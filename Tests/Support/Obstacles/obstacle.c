// Does one thing that stands in the way of a dump, says "ready" in /root/ready, and waits. Static, for the tests.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void say(const char *path, const char *text) {
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file < 0 || write(file, text, strlen(text)) < 0)
        fail(path);
    close(file);
}

// A child that is traced by its parent.
static void traced(void) {
    pid_t child = fork();
    if (child == 0)
        for (;;)
            pause();
    if (ptrace(PTRACE_SEIZE, child, 0, 0) != 0)
        fail("ptrace");
}

// An open file without any name, larger than what goes into CRIU's images.
static void ghost(void) {
    static char block[1 << 20];
    memset(block, 'x', sizeof block);
    int file = open("/root/big", O_RDWR | O_CREAT | O_EXCL, 0600);
    for (int i = 0; i < 66; i++)
        if (file < 0 || write(file, block, sizeof block) != sizeof block)
            fail("big");
    unlink("/root/big");
}

// A connection that waits to be accepted: for ever, or until the file /root/accept is there.
static void pending(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(9000)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int server = socket(AF_INET, SOCK_STREAM, 0);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(server, (void *)&address, sizeof address) != 0 || listen(server, 4) != 0)
        fail("listen");
    if (connect(client, (void *)&address, sizeof address) != 0)
        fail("connect");
    say("/root/ready", "ready");
    while (access("/root/accept", F_OK) != 0)
        usleep(1000);
    if (accept(server, NULL, NULL) < 0)
        fail("accept");
}

// An open file whose name is gone, while another name of it is left; reads it back for ever.
static void linked(void) {
    int file = open("/root/first", O_RDWR | O_CREAT | O_EXCL, 0600);
    if (file < 0 || write(file, "contents", 8) != 8 || link("/root/first", "/root/second") != 0)
        fail("first");
    unlink("/root/first");
    say("/root/ready", "ready");
    for (;;) {
        char text[16] = {0};
        say("/root/read", pread(file, text, 8, 0) == 8 ? text : "lost");
        usleep(10000);
    }
}

int main(int count, char **arguments) {
    const char *what = count > 1 ? arguments[1] : "";
    if (strcmp(what, "traced") == 0)
        traced();
    else if (strcmp(what, "ghost") == 0)
        ghost();
    else if (strcmp(what, "pending") == 0)
        pending();
    else if (strcmp(what, "linked") == 0)
        linked();
    else
        return 2;
    say("/root/ready", "ready");
    for (;;)
        pause();
}
