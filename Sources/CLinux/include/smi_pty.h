#pragma once

/// Opens a pseudo-terminal (pty(7)), both ends close-on-exec; 0 or -errno.
int smi_pty_open(int *_Nonnull master, int *_Nonnull slave);
