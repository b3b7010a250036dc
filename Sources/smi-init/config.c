#include "config.h"

#include "string_list.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum { DEFAULT_LOG_LIMIT = 1 << 20, MIN_LOG_LIMIT = 4096 };

struct config config;

static int read_exactly(int fd, uint8_t *to, size_t count) {
    while (count) {
        ssize_t got = read(fd, to, count);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? errno : EPROTO;
        to += got;
        count -= (size_t)got;
    }
    return 0;
}

static int read_strings(uint32_t length) {
    uint8_t *bytes = malloc(length ? length : 1);
    if (!bytes)
        return ENOMEM;
    int code = read_exactly(CONFIG_FD, bytes, length);
    if (!code) {
        struct reader reader = {.at = bytes, .left = length};
        config.argv = strings_list(&reader);
        config.environment = strings_list(&reader);
        config.directory = strings_one(&reader);
        config.log = strings_one(&reader);
        if (reader.bad || reader.left)
            code = EPROTO;
    }
    free(bytes);
    return code;
}

int config_read(void) {
    uint8_t header[CONFIG_HEADER];
    int code = read_exactly(CONFIG_FD, header, sizeof header);
    if (code)
        return code;
    uint32_t length = get32(header + 12);
    if (memcmp(header, "SMIC", 4) || get16(header + 4) != 1 || length > CONFIG_MAX)
        return EPROTO;
    config.port = get16(header + 6);
    config.log_limit = get32(header + 8);
    if (!config.log_limit)
        config.log_limit = DEFAULT_LOG_LIMIT;
    if (config.log_limit < MIN_LOG_LIMIT)
        config.log_limit = MIN_LOG_LIMIT;
    memcpy(config.secret, header + 16, SECRET_SIZE);
    code = read_strings(length);
    close(CONFIG_FD);
    return code;
}

void status_report(enum stage stage, int code, int pid, int port) {
    uint8_t record[STATUS_SIZE];
    memcpy(record, "SMIS", 4);
    put32(record + 4, 1);
    put32(record + 8, stage);
    put32(record + 12, (uint32_t)code);
    put32(record + 16, (uint32_t)pid);
    put32(record + 20, (uint32_t)port);
    // Fits any pipe; where nobody reads any more there is nobody to tell.
    ssize_t written = write(STATUS_FD, record, sizeof record);
    (void)written;
    close(STATUS_FD);
}
