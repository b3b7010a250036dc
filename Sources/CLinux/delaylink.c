#define _GNU_SOURCE 1
#include "smi_delaylink.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum {
    FRAME_MAX = 65536 + 64,
    /// Frames taken from one side before the other gets its turn.
    BATCH = 64,
};

int smi_tap_attach(int netns, const char *name) {
    int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (own < 0)
        return -1;
    int tap = -1, error = 0;
    if (setns(netns, CLONE_NEWNET) < 0) {
        error = errno;
    } else {
        // The device is looked up in the namespace of the thread that opens this file.
        tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
        struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI};
        strncpy(request.ifr_name, name, IFNAMSIZ - 1);
        if (tap < 0 || ioctl(tap, TUNSETIFF, &request) < 0)
            error = errno;
        if (setns(own, CLONE_NEWNET) < 0)
            error = errno;
    }
    close(own);
    if (!error)
        return tap;
    if (tap >= 0)
        close(tap);
    errno = error;
    return -1;
}

struct frame {
    struct frame *next;
    uint64_t due;
    size_t length;
    unsigned char bytes[];
};

/// Frames under way from one descriptor to another.
struct direction {
    int from, to;
    struct frame *first, **last;
    uint64_t bytes;
};

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/// Takes what has come; 0, or the errno of a device that is gone.
static int take(struct direction *d, uint64_t delay, uint64_t limit) {
    static unsigned char buffer[FRAME_MAX];
    for (int i = 0; i < BATCH; i++) {
        ssize_t length = read(d->from, buffer, sizeof buffer);
        if (length < 0)
            return errno == EAGAIN || errno == EINTR ? 0 : errno;
        if (length == 0 || d->bytes + (uint64_t)length > limit)
            continue;
        struct frame *frame = malloc(sizeof *frame + (size_t)length);
        if (!frame)
            continue;
        frame->next = NULL;
        frame->due = now() + delay;
        frame->length = (size_t)length;
        memcpy(frame->bytes, buffer, (size_t)length);
        *d->last = frame;
        d->last = &frame->next;
        d->bytes += (uint64_t)length;
    }
    return 0;
}

/// Gives on what is due. A frame that the device does not take (it is down) is lost, as on a wire.
static void give(struct direction *d) {
    uint64_t time = d->first ? now() : 0;
    while (d->first && d->first->due <= time) {
        struct frame *frame = d->first;
        ssize_t ignored = write(d->to, frame->bytes, frame->length);
        (void)ignored;
        d->first = frame->next;
        if (!d->first)
            d->last = &d->first;
        d->bytes -= frame->length;
        free(frame);
    }
}

int smi_delay_frames(int a, int b, uint64_t delay, uint64_t limit) {
    struct direction ways[2] = {{.from = a, .to = b}, {.from = b, .to = a}};
    // The default slack of 50 us would be added to each frame's delay.
    prctl(PR_SET_TIMERSLACK, 1000);
    for (int i = 0; i < 2; i++)
        ways[i].last = &ways[i].first;
    for (;;) {
        uint64_t next = UINT64_MAX;
        for (int i = 0; i < 2; i++)
            if (ways[i].first && ways[i].first->due < next)
                next = ways[i].first->due;
        uint64_t time = now();
        uint64_t left = next > time ? next - time : 0;
        struct timespec timeout = {(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
        struct pollfd files[2] = {{a, POLLIN, 0}, {b, POLLIN, 0}};
        if (ppoll(files, 2, next == UINT64_MAX ? NULL : &timeout, NULL) < 0 && errno != EINTR)
            return errno;
        for (int i = 0; i < 2; i++) {
            // Gone, with its namespace or by hand.
            if (files[i].revents & (POLLERR | POLLHUP | POLLNVAL) && !(files[i].revents & POLLIN))
                return EIO;
            int error = files[i].revents & POLLIN ? take(&ways[i], delay, limit) : 0;
            if (error)
                return error;
        }
        for (int i = 0; i < 2; i++)
            give(&ways[i]);
    }
}
