#pragma once
#include "smi_fdpass.h"
#include "smi_spawn.h"
