// Objects of the kernel's own tmpfs: shared anonymous memory, memfd, System V segments.
#define _GNU_SOURCE
#include "smi_shared.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ull
#define SECOND 1000000000ll

static int64_t nanoseconds(struct timespec time) {
    return (int64_t)time.tv_sec * SECOND + time.tv_nsec;
}

static uint64_t device_number(dev_t device) {
    return (uint64_t)major(device) << 32 | minor(device);
}

uint64_t smi_shared_device(void) {
    // It never changes; that two threads find it out at once does no harm.
    static _Atomic uint64_t known;
    struct stat status;
    uint64_t device = known;
    if (device != 0)
        return device;
    int fd = memfd_create("device", MFD_CLOEXEC);
    if (fd >= 0 && fstat(fd, &status) == 0)
        device = device_number(status.st_dev);
    if (fd >= 0)
        close(fd);
    known = device;
    return device;
}

static int take(const struct stat *status, struct smi_shared_state *state) {
    if (!S_ISREG(status->st_mode) || device_number(status->st_dev) != smi_shared_device())
        return -ENOENT;
    *state = (struct smi_shared_state){
        .inode = status->st_ino,
        .size = (uint64_t)status->st_size,
        .accessed = nanoseconds(status->st_atim),
        .modified = nanoseconds(status->st_mtim),
        .changed = nanoseconds(status->st_ctim),
    };
    return 0;
}

int smi_shared_look(int fd, struct smi_shared_state *state) {
    struct stat status;
    return fstat(fd, &status) == 0 ? take(&status, state) : -errno;
}

int smi_shared_look_at(const char *path, struct smi_shared_state *state) {
    struct stat status;
    return stat(path, &status) == 0 ? take(&status, state) : -errno;
}

int smi_shared_open(const char *path) {
    int fd = open(path, O_RDONLY | O_NOATIME | O_CLOEXEC);
    return fd >= 0 ? fd : -errno;
}

int64_t smi_realtime(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return nanoseconds(now);
}

ssize_t smi_shared_present(int fd, uint64_t *from, struct smi_span *out, size_t capacity) {
    size_t count = 0;
    while (count < capacity) {
        off_t data = lseek(fd, (off_t)(*from * PAGE), SEEK_DATA);
        off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
        if (hole < 0 && errno != ENXIO)
            return -errno;
        if (hole < 0) {
            *from = ~0ull;
            break;
        }
        *from = ((uint64_t)hole + PAGE - 1) / PAGE;
        out[count++] = (struct smi_span){(uint64_t)data / PAGE, *from};
    }
    return (ssize_t)count;
}

// The page that the end of an object lies in, as a mapping sees it: what lies behind the end in it is content too
// (shmget(2) gives whole pages), but read(2) and write(2) leave it out.
static uint8_t *map_last(int fd, uint64_t size, int protection) {
    void *page = mmap(NULL, PAGE, protection, MAP_SHARED, fd, (off_t)(size / PAGE * PAGE));
    return page != MAP_FAILED ? page : NULL;
}

int smi_shared_read(int fd, uint64_t first, size_t count, void *buffer) {
    size_t length = count * PAGE, done = 0;
    while (done < length) {
        ssize_t got = pread(fd, (uint8_t *)buffer + done, length - done, (off_t)(first * PAGE + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    if (done % PAGE != 0) {
        uint8_t *page = map_last(fd, first * PAGE + done, PROT_READ);
        if (page == NULL)
            return -errno;
        memcpy((uint8_t *)buffer + done / PAGE * PAGE, page, PAGE);
        munmap(page, PAGE);
        done = (done / PAGE + 1) * PAGE;
    }
    memset((uint8_t *)buffer + done, 0, length - done);
    return 0;
}

int smi_shared_create(const char *name, uint64_t size, int sealable) {
    int fd = memfd_create(name, MFD_CLOEXEC | (sealable ? MFD_ALLOW_SEALING : 0));
    if (fd >= 0 && ftruncate(fd, (off_t)size) != 0) {
        int saved = errno;
        close(fd);
        return -saved;
    }
    return fd >= 0 ? fd : -errno;
}

int smi_shared_write(int fd, uint64_t first, size_t count, const void *buffer) {
    struct stat status;
    if (fstat(fd, &status) != 0)
        return -1;
    uint64_t size = (uint64_t)status.st_size, start = first * PAGE, end = (first + count) * PAGE;
    int has_last = size % PAGE != 0 && start <= size && size < end;
    if (end > size)
        end = size / PAGE * PAGE;
    while (start < end) {
        ssize_t put = pwrite(fd, (const uint8_t *)buffer + (start - first * PAGE), end - start, (off_t)start);
        if (put < 0 && errno != EINTR)
            return -1;
        start += put > 0 ? (uint64_t)put : 0;
    }
    if (!has_last)
        return 0;
    uint8_t *page = map_last(fd, size, PROT_READ | PROT_WRITE);
    if (page == NULL)
        return -1;
    memcpy(page, (const uint8_t *)buffer + (size / PAGE - first) * PAGE, PAGE);
    return munmap(page, PAGE);
}

int smi_shared_drop(int fd, uint64_t first, uint64_t end) {
    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(first * PAGE),
                     (off_t)((end - first) * PAGE));
}
