#include "smi_linux.h"
