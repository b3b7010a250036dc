// Holds memory with known content and checks it whenever it is asked: resident MEGABYTES REPORT-FILE
//
// On SIGUSR1 it writes one line to the report file: the number of wrong pages, and the first word of page 3.
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096ul
static volatile sig_atomic_t asked = 1; // the first report says that it is ready

static void ask(int number) {
    (void)number;
    asked = 1;
}

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    size_t pages = strtoul(argv[1], NULL, 10) * 256;
    uint64_t *memory = mmap((void *)0x200000000000, pages * PAGE, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (memory == MAP_FAILED)
        return 3;
    for (size_t i = 0; i < pages * 512; i++)
        memory[i] = i * 2654435761u + 1;
    sigset_t none; // whoever started this may have blocked signals
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGUSR1, ask);
    for (;;) {
        usleep(1000);
        if (!asked)
            continue;
        asked = 0;
        size_t wrong = 0;
        for (size_t page = 0; page < pages; page++)
            for (size_t i = page == 3; i < 512; i++)
                if (memory[page * 512 + i] != (page * 512 + i) * 2654435761u + 1) {
                    wrong++;
                    break;
                }
        char line[100];
        int length = snprintf(line, sizeof(line), "%zu %lu\n", wrong, (unsigned long)memory[3 * 512]);
        int fd = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (fd < 0 || write(fd, line, (size_t)length) != length)
            return 4;
        close(fd);
    }
}
