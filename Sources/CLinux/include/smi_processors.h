// A thread before all others of its processor.
#pragma once

// Keeps the calling thread on one processor, before all others there (sched(7): SCHED_FIFO). 0, or -errno.
int smi_go_first(int processor);
