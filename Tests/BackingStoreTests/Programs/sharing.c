// Shared memory of every kind, written in the way that each command says.
//
// sharing COMMANDS ANSWERS: reads lines "COMMAND PAGE" from one FIFO and answers each with "." in the other. Objects:
// 64 pages of shared anonymous memory, of a memfd (mapped twice), of another memfd that is never mapped to stay, of a
// System V segment whose size is not a multiple of a page.
//
// sharing - FILE: makes FILE once all but the segment is there, and waits.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ul
#define PAGES 64ul
#define SIZE (PAGES * PAGE)

static char *anonymous, *first, *second, *segment;
static int mapped, unmapped, segment_id;
static uint64_t counter;
static pid_t lingering;
static int letting_go[2];

// A new word at two places of a page, the last one of it too.
static void touch(char *start, size_t page) {
    counter = counter * 6364136223846793005ull + 1442695040888963407ull;
    memcpy(start + page * PAGE + 16, &counter, sizeof(counter));
    memcpy(start + page * PAGE + PAGE - 8, &counter, sizeof(counter));
}

static void *map(int fd, size_t size) {
    void *start = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
    if (start == MAP_FAILED)
        abort();
    return start;
}

// The same through a queue of asynchronous I/O, which is kept.
static void write_queued(int fd, size_t page) {
    static aio_context_t queue;
    static char data[PAGE];
    counter = counter * 6364136223846793005ull + 1442695040888963407ull;
    memcpy(data, &counter, sizeof(counter));
    struct iocb order = {.aio_fildes = (uint32_t)fd,
                         .aio_lio_opcode = IOCB_CMD_PWRITE,
                         .aio_buf = (uintptr_t)data,
                         .aio_nbytes = PAGE,
                         .aio_offset = (int64_t)(page * PAGE)};
    struct iocb *orders[] = {&order};
    struct io_event done;
    if ((queue == 0 && syscall(SYS_io_setup, 4, &queue) != 0) || syscall(SYS_io_submit, queue, 1, orders) != 1 ||
        syscall(SYS_io_getevents, queue, 1, 1, &done, NULL) != 1 || done.res != (int64_t)PAGE)
        abort();
}

// A child that writes and is gone before anybody has seen it; with `again`, its own child does it.
static void in_child(size_t page, int again) {
    pid_t child = fork();
    if (child == 0) {
        if (again)
            in_child(page, 0);
        else
            touch(anonymous, page);
        _exit(0);
    }
    waitpid(child, NULL, 0);
}

// A child that writes when it is told to, and is gone.
static void linger(size_t page) {
    if (pipe2(letting_go, O_CLOEXEC) != 0)
        abort();
    lingering = fork();
    if (lingering == 0) {
        char go;
        if (read(letting_go[0], &go, 1) == 1)
            touch(anonymous, page);
        _exit(0);
    }
}

static void release(void) {
    if (write(letting_go[1], ".", 1) != 1)
        abort();
    waitpid(lingering, NULL, 0);
    close(letting_go[0]);
    close(letting_go[1]);
}

// From now on through a descriptor that was opened by name, as that of a restored program.
static void reopen(int *fd) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", *fd);
    int again = open(path, O_RDWR | O_CLOEXEC);
    if (again < 0)
        abort();
    close(*fd);
    *fd = again;
}

static void write_page(int fd, size_t page) {
    char bytes[PAGE];
    memset(bytes, (int)++counter, sizeof(bytes));
    if (pwrite(fd, bytes, sizeof(bytes), (off_t)(page * PAGE)) < 0)
        abort();
}

static void passing_mapping(size_t page) {
    char *passing = map(mapped, SIZE);
    touch(passing, page);
    munmap(passing, SIZE);
}

static void passing_segment(size_t page) {
    char *passing = shmat(segment_id, NULL, 0);
    touch(passing, page);
    shmdt(passing);
}

static void run(const char *command, size_t page) {
    if (!strcmp(command, "anonymous"))
        touch(anonymous, page);
    else if (!strcmp(command, "first"))
        touch(first, page);
    else if (!strcmp(command, "second"))
        touch(second, page);
    else if (!strcmp(command, "segment"))
        touch(segment, page);
    else if (!strcmp(command, "write"))
        write_page(unmapped, page);
    else if (!strcmp(command, "write-mapped"))
        write_page(mapped, page);
    else if (!strcmp(command, "beside")) {
        touch(first, PAGES - 1 - page);
        write_page(mapped, page);
    } else if (!strcmp(command, "queued")) {
        touch(first, PAGES - 1 - page);
        write_queued(mapped, page);
    } else if (!strcmp(command, "linger"))
        linger(page);
    else if (!strcmp(command, "release"))
        release();
    else if (!strcmp(command, "reopen")) {
        reopen(&mapped);
        reopen(&unmapped);
    } else if (!strcmp(command, "punch"))
        fallocate(mapped, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(page * PAGE), PAGE);
    else if (!strcmp(command, "truncate")) {
        if (ftruncate(unmapped, (off_t)(page * PAGE)) != 0)
            abort();
    } else if (!strcmp(command, "dropped")) {
        touch(first, page);
        madvise(first + page * PAGE, PAGE, MADV_DONTNEED);
    } else if (!strcmp(command, "removed"))
        madvise(anonymous + page * PAGE, PAGE, MADV_REMOVE);
    else if (!strcmp(command, "moved")) {
        touch(anonymous, page);
        char *place = mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        anonymous = mremap(anonymous, SIZE, SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, place);
    } else if (!strcmp(command, "unmap")) {
        touch(second, page);
        munmap(second, SIZE);
        second = map(mapped, SIZE);
    } else if (!strcmp(command, "passing"))
        passing_mapping(page);
    else if (!strcmp(command, "passing-segment"))
        passing_segment(page);
    else if (!strcmp(command, "child"))
        in_child(page, 0);
    else if (!strcmp(command, "grandchild"))
        in_child(page, 1);
    else
        abort();
}

int main(int argc, char **argv) {
    char command[32];
    size_t page;
    anonymous = map(-1, SIZE);
    mapped = memfd_create("mapped", MFD_CLOEXEC);
    unmapped = memfd_create("unmapped", MFD_CLOEXEC);
    if (ftruncate(mapped, SIZE) != 0 || ftruncate(unmapped, SIZE) != 0)
        return 1;
    first = map(mapped, SIZE);
    second = map(mapped, SIZE);
    if (argc == 3 && !strcmp(argv[1], "-")) {
        for (page = 0; page < PAGES; page += 3) {
            touch(anonymous, page);
            touch(second, PAGES - 1 - page);
            run("write", page / 2);
        }
        close(open(argv[2], O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
        for (;;)
            pause();
    }
    segment_id = shmget(IPC_PRIVATE, SIZE - 1000, IPC_CREAT | 0600);
    segment = shmat(segment_id, NULL, 0);
    // It goes with this process.
    shmctl(segment_id, IPC_RMID, NULL);
    for (page = 0; page < PAGES; page += 2) {
        touch(anonymous, page);
        touch(first, page);
        touch(segment, page);
    }
    // Whoever waits for these finds everything made.
    FILE *commands = argc == 3 ? fopen(argv[1], "re") : NULL;
    int answers = argc == 3 ? open(argv[2], O_WRONLY | O_CLOEXEC) : -1;
    while (commands != NULL && fscanf(commands, "%31s %zu", command, &page) == 2) {
        run(command, page);
        if (write(answers, ".", 1) != 1)
            return 1;
    }
    return 0;
}
