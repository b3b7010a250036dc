#include "string_list.h"

#include <stdlib.h>

char *strings_one(struct reader *reader) {
    uint32_t length = read32(reader);
    const uint8_t *bytes = read_bytes(reader, length);
    if (!bytes || memchr(bytes, 0, length)) {
        reader->bad = true;
        return NULL;
    }
    char *copy = malloc((size_t)length + 1);
    if (!copy) {
        reader->bad = true;
        return NULL;
    }
    memcpy(copy, bytes, length);
    copy[length] = 0;
    return copy;
}

char **strings_list(struct reader *reader) {
    uint32_t count = read32(reader);
    // Each entry takes 4 bytes at least: a larger count is a lie, and must not size an allocation.
    if (reader->bad || count > reader->left / 4) {
        reader->bad = true;
        return NULL;
    }
    char **list = calloc((size_t)count + 1, sizeof *list);
    if (!list) {
        reader->bad = true;
        return NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        list[i] = strings_one(reader);
        if (!list[i]) {
            strings_free(list);
            return NULL;
        }
    }
    return list;
}

void strings_free(char **list) {
    for (char **entry = list; entry && *entry; entry++)
        free(*entry);
    free(list);
}

size_t strings_count(char *const *list) {
    size_t count = 0;
    while (list && list[count])
        count++;
    return count;
}
