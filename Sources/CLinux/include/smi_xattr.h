// Extended attributes by path (a `/proc/self/fd/N` of an O_PATH descriptor names any kind of file without following
// it).
#pragma once
#include <stddef.h>
#include <sys/types.h>

/// getxattr(2): the value's length, or -1 with errno.
ssize_t smi_get_xattr(const char *_Nonnull path, const char *_Nonnull name, void *_Nullable value, size_t size);

/// lgetxattr(2): the value's length, or -1 with errno.
ssize_t smi_lget_xattr(const char *_Nonnull path, const char *_Nonnull name, void *_Nullable value, size_t size);

/// llistxattr(2): the length of the names, each ended by a zero byte, or -1 with errno.
ssize_t smi_llist_xattr(const char *_Nonnull path, char *_Nullable names, size_t size);

/// lsetxattr(2); -1 with errno.
int smi_lset_xattr(const char *_Nonnull path, const char *_Nonnull name, const void *_Nullable value, size_t size);

/// fsetxattr(2); -1 with errno.
int smi_fset_xattr(int file, const char *_Nonnull name, const void *_Nullable value, size_t size);
