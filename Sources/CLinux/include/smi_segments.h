// System V segments in an IPC namespace that no process is in: made before a restore, which takes the namespace over.
#pragma once

#include <stdint.h>

// A new, empty IPC namespace: a descriptor (close-on-exec) that keeps it, or -errno.
int smi_segments_start(void);
// Makes a segment with this identifier, key and size (bytes) in the namespace. Gives a descriptor (close-on-exec) of
// its memory, which does not count as an attachment, or -errno; -EEXIST where the identifier is taken.
int smi_segments_add(int space, int id, int key, uint64_t size);
// Removes a segment from the namespace. 0 or -errno.
int smi_segments_remove(int space, int id);
