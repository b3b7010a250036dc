#include "smi_xattr.h"

#include <sys/xattr.h>

ssize_t smi_get_xattr(const char *path, const char *name, void *value, size_t size) {
    return getxattr(path, name, value, size);
}

ssize_t smi_lget_xattr(const char *path, const char *name, void *value, size_t size) {
    return lgetxattr(path, name, value, size);
}

ssize_t smi_llist_xattr(const char *path, char *names, size_t size) {
    return llistxattr(path, names, size);
}

int smi_lset_xattr(const char *path, const char *name, const void *value, size_t size) {
    return lsetxattr(path, name, value, size, 0);
}

int smi_fset_xattr(int file, const char *name, const void *value, size_t size) {
    return fsetxattr(file, name, value, size, 0);
}
