#pragma once
#include "smi_fdpass.h"
#include "smi_netns.h"
#include "smi_sandbox.h"
#include "smi_spawn.h"
