// Which processes have made others: PERF_RECORD_FORK of every processor (perf_event_open(2)).
#pragma once

#include <stddef.h>
#include <sys/types.h>

typedef struct smi_fork_watch smi_fork_watch;

// Starts to watch; NULL with errno where the kernel does not let us.
smi_fork_watch *smi_fork_watch_start(void);
void smi_fork_watch_stop(smi_fork_watch *watch);
// Takes out the processes (not threads) that have made others since the last call, some perhaps more than once. Returns
// how many, at most capacity (then call again), or -EOVERFLOW where some were lost: any process may have.
ssize_t smi_fork_watch_take(smi_fork_watch *watch, pid_t *parents, size_t capacity);
