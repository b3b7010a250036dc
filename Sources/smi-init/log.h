// The main program's output: a file of bounded size, its predecessor, and the offsets of both in one endless stream.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// Opens the log that the configuration names; 0 or an errno (the program then runs without a log).
int log_open(void);

void log_append(const uint8_t *bytes, size_t count);

// Offset after the last byte written.
uint64_t log_end(void);

// Bytes that could not be written, e.g. because the disk was full.
uint64_t log_lost(void);

// Reads from *offset, which first moves on to the oldest byte still kept. 0: nothing there now.
size_t log_read(uint64_t *offset, uint8_t *to, size_t count);
