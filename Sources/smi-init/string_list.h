// Length-prefixed strings of a configuration or request, as the NULL-terminated vectors that execve wants.
#pragma once

#include "wire.h"

// One string, copied (malloc); NULL where the reader is bad, holds a NUL inside, or memory is short.
char *strings_one(struct reader *reader);

// A count and that many strings; NULL as above. Free with strings_free.
char **strings_list(struct reader *reader);

void strings_free(char **list);

size_t strings_count(char *const *list);
