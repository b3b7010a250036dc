#define _GNU_SOURCE 1
#include "smi_processors.h"

#include <errno.h>
#include <sched.h>

int smi_go_first(int processor) {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET((size_t)processor, &one);
    struct sched_param priority = {sched_get_priority_max(SCHED_FIFO)};
    if (sched_setaffinity(0, sizeof(one), &one) < 0 || sched_setscheduler(0, SCHED_FIFO, &priority) < 0)
        return -errno;
    return 0;
}
