#pragma once

/// Puts a terminal into raw mode, once; it is put back by smi_tty_restore, at exit, and before the process dies of a
/// fatal signal. -1 with errno where fd is no terminal.
int smi_tty_raw(int fd);

/// Puts the terminal back as smi_tty_raw found it; async-signal-safe, and harmless where there is nothing to do.
void smi_tty_restore(void);

/// Sets raw mode again, e.g. after the process was stopped and goes on.
void smi_tty_again(void);

/// The terminal's size; -1 with errno where fd is no terminal.
int smi_tty_size(int fd, unsigned short *_Nonnull rows, unsigned short *_Nonnull columns);

/// Makes each of these signals write its number, one byte, to fd (non-blocking) instead of what it did; ignores
/// SIGPIPE.
int smi_signals_to(int fd, const int *_Nonnull signals, int count);

/// Undoes smi_signals_to.
void smi_signals_restore(void);
