// malloc(3)'s pools of memory.
#pragma once

// Lets threads share so many pools; 1 on success (mallopt(3)).
int smi_limit_arenas(int count);
