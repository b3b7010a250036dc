#include "smi_arenas.h"

#include <malloc.h>

int smi_limit_arenas(int count) {
    return mallopt(M_ARENA_MAX, count);
}
