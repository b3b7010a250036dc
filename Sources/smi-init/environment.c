#include "environment.h"

#include "string_list.h"

#include <stdlib.h>

static char *const defaults[] = {
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME=/root",
    "USER=root",
    "LOGNAME=root",
    NULL,
};

static size_t name_length(const char *entry) {
    const char *equals = strchr(entry, '=');
    return equals ? (size_t)(equals - entry) : strlen(entry);
}

static void set(char **merged, size_t *count, char *entry) {
    size_t length = name_length(entry);
    for (size_t i = 0; i < *count; i++) {
        if (name_length(merged[i]) == length && !strncmp(merged[i], entry, length)) {
            merged[i] = entry;
            return;
        }
    }
    merged[(*count)++] = entry;
}

char **environment_merge(char *const *sandbox, char *const *request) {
    size_t most = strings_count(defaults) + strings_count(sandbox) + strings_count(request);
    char **merged = calloc(most + 1, sizeof *merged);
    if (!merged)
        return NULL;
    size_t count = 0;
    char *const *sources[] = {defaults, sandbox, request};
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
        for (char *const *entry = sources[i]; entry && *entry; entry++)
            set(merged, &count, *entry);
    return merged;
}

const char *environment_get(char *const *environment, const char *name) {
    size_t length = strlen(name);
    for (; *environment; environment++)
        if (!strncmp(*environment, name, length) && (*environment)[length] == '=')
            return *environment + length + 1;
    return NULL;
}
