// Writes to random pages at a steady rate and reports the share of its time that this took.
//
// writer MEGABYTES PAGES-PER-SECOND SECONDS RESULT-FILE
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static double clock_s(clockid_t id) {
    struct timespec time;
    clock_gettime(id, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    if (argc < 5)
        return 2;
    size_t pages = strtoul(argv[1], NULL, 10) * 256, rate = strtoul(argv[2], NULL, 10);
    double seconds = atof(argv[3]);
    uint8_t *memory = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(memory, pages * 4096, MADV_NOHUGEPAGE);
    memset(memory, 1, pages * 4096);
    uint64_t state = 88172645463325252ull;
    double start = clock_s(CLOCK_MONOTONIC), busy = clock_s(CLOCK_THREAD_CPUTIME_ID);
    double written = 0, now;
    while ((now = clock_s(CLOCK_MONOTONIC) - start) < seconds) {
        for (; written < now * (double)rate; written++) {
            state ^= state << 13, state ^= state >> 7, state ^= state << 17;
            memset(memory + state % pages * 4096, (int)state, 4096);
        }
        usleep(2000);
    }
    FILE *file = fopen(argv[4], "w");
    fprintf(file, "%.6f", (clock_s(CLOCK_THREAD_CPUTIME_ID) - busy) / seconds);
    fclose(file);
    return 0;
}
