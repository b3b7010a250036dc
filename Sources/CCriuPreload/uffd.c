// Restored processes' userfaultfds can also protect pages from unseen writes.
//
// CRIU asks UFFDIO_API for events only. Asynchronous write protection (resolved by the kernel, nobody waits) has to be
// asked for in the same call; the agent then tracks writes from a process's first instruction on. A kernel that does
// not know it is asked again without.
#define _GNU_SOURCE
#include "preload.h"

#include <stdint.h>
#include <sys/syscall.h>

#define API_REQUEST 0xc018aa3ful           // UFFDIO_API: _IOWR(0xaa, 0x3f, struct api)
#define ASYNC_PROTECTION (1ull << 15)      // UFFD_FEATURE_WP_ASYNC
#define UNPOPULATED_PROTECTED (1ull << 13) // UFFD_FEATURE_WP_UNPOPULATED, which PAGEMAP_SCAN wants beside it

struct api {
    uint64_t api, features, ioctls;
};

int preload_answer_uffd_api(int fd, unsigned long request, void *argument, long *result) {
    struct api *asked = argument;
    // Without any feature it is a look at what the kernel knows.
    if (request != API_REQUEST || asked->features == 0)
        return 0;
    struct api wanted = *asked;
    wanted.features |= ASYNC_PROTECTION | UNPOPULATED_PROTECTED;
    *result = preload_syscall(SYS_ioctl, fd, (long)request, (long)&wanted, 0, 0, 0);
    if (*result < 0)
        return 0;
    *asked = wanted;
    return 1;
}
