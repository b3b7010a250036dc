// What smi-init is started with and what it reports back: the start contract in README.md.
#pragma once

#include "protocol.h"

#include <stdbool.h>

enum {
    CONFIG_FD = 3,
    STATUS_FD = 4,
    CONFIG_HEADER = 48,
    CONFIG_MAX = 1 << 20,
    STATUS_SIZE = 24,
};

enum stage {
    STAGE_RUNNING = 0,
    STAGE_CONFIG = 1,
    STAGE_SETUP = 2,
    STAGE_LISTEN = 3,
    STAGE_FORK = 4,
    STAGE_DIRECTORY = 5,
    STAGE_EXEC = 6,
};

struct config {
    uint8_t secret[SECRET_SIZE];
    uint16_t port;
    uint32_t log_limit;
    char **argv;
    char **environment;
    char *directory;
    char *log;
};

extern struct config config;

// Reads the configuration from CONFIG_FD and closes it; 0 or an errno.
int config_read(void);

// Writes the status record to STATUS_FD and closes it.
void status_report(enum stage stage, int code, int pid, int port);
