// Shared by spawn.c and sandbox.c; not part of the module.
#pragma once
#include "smi_spawn.h"

/// Reports {stage, errno} to the parent and ends the child.
_Noreturn void smi_child_fail(int report, int stage);

/// The steps of a sandbox's first process up to exec: root, /proc, masks, hostname, limits, privileges, filter.
/// Never returns on failure.
void smi_sandbox_enter(const struct smi_sandbox *s, int report);
void smi_sandbox_confine(const struct smi_sandbox *s, int report);
