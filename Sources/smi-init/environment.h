// The environment of a program: smi-init's defaults, then the sandbox's, then the request's, later ones winning.
#pragma once

// A NULL-terminated vector whose entries belong to others; NULL: no memory.
char **environment_merge(char *const *sandbox, char *const *request);

// The value of a name in such a vector, or NULL.
const char *environment_get(char *const *environment, const char *name);
