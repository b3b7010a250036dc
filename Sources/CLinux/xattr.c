#include "smi_xattr.h"

#include <sys/xattr.h>

ssize_t smi_get_xattr(const char *path, const char *name, void *value, size_t size) {
    return getxattr(path, name, value, size);
}

ssize_t smi_list_xattr(const char *path, char *names, size_t size) {
    return listxattr(path, names, size);
}

int smi_set_xattr(const char *path, const char *name, const void *value, size_t size) {
    return setxattr(path, name, value, size, 0);
}

int smi_remove_xattr(const char *path, const char *name) {
    return removexattr(path, name);
}
