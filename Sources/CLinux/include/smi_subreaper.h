#ifndef SMI_SUBREAPER_H
#define SMI_SUBREAPER_H

/// Makes the calling process the parent of its descendants' orphans (PR_SET_CHILD_SUBREAPER). Returns 0, or -1 with
/// errno.
int smi_become_subreaper(void);

#endif
