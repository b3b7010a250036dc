#pragma once
#include <stdint.h>

/// Attaches to an existing tap device of another network namespace; returns a non-blocking descriptor that reads and
/// writes Ethernet frames, or -1 with errno. The calling thread is back in its own namespace afterwards.
int smi_tap_attach(int netns, const char *_Nonnull name);

/// Carries frames between two such descriptors, each `delay` nanoseconds after it came, in order. At most `limit` bytes
/// are under way in each direction; what comes then is dropped, as by a full queue. Returns the errno of the failure
/// that ends it, such as EIO when a device is gone.
int smi_delay_frames(int a, int b, uint64_t delay, uint64_t limit);
