// The library that is preloaded into CRIU, and into CRIU alone. It answers single calls that the kernel refuses or
// that would undo what the agent needs; everything else goes through unchanged. One topic per file; the entry points
// that replace libc's functions are in entry.c and only dispatch.
#pragma once

#include <stddef.h>
#include <sys/resource.h>

// Makes a system call directly; returns the kernel's result (-errno on failure), never touches errno.
long preload_syscall(long number, long a, long b, long c, long d, long e, long f);

// limits.c: a limit of another process from /proc/PID/limits; 0, or -errno.
int preload_read_limit(int pid, unsigned resource, struct rlimit *limit);

// linkremap.c: true when the file must stay, because the dump succeeded and its copy is still to be read.
int preload_keeps_link_remap(const char *path);

// gate.c: what a ptrace request's options become; and what a detach must pass, which kills all and does not return
// before the freeze.
long preload_gate_options(long request, long data);
void preload_gate_pass(long request);

// skip_carried.c: answers a scan for a dump's pages without the memory that the agent carries; 1 if *result is the
// answer (regions or -errno), 0 if the kernel must be asked.
int preload_answer_scan(int fd, unsigned long request, void *argument, long *result);
// A descriptor in the place of /proc/PID/smaps (opened as "smaps" in that directory), or -1 to open the real one.
int preload_open_smaps(int directory, const char *path);

// uffd.c: has a restored process's userfaultfd protect pages as well; 1 if *result is the answer (0 or -errno), 0 if
// the kernel must be asked.
int preload_answer_uffd_api(int fd, unsigned long request, void *argument, long *result);

// zombies.c: looks into an image that was opened; and the status that a process that CRIU ends with `status` is to end
// with.
void preload_note_image(const char *path, int fd);
int preload_exit_status(int status);

// shared.c: whether an open object of shared memory is carried by the agent, so that a search for its pages finds none.
int preload_is_carried_shared(int fd, int whence);
// CRIU has made a memfd; and opens a file of the images: that of a memfd which the agent has filled already has no
// pages, the filled one takes the place of CRIU's.
void preload_note_memfd(int fd);
void preload_fill_shared(int images, const char *image);
// From the images directory up to the root of the agent's file system, whatever root this process has.
#define PRELOAD_UP "../../../../../../../../../../../../../../../.."
// Reads a small file that is opened with these; the caller frees it. NULL where there is none.
char *preload_read_list(int directory, const char *path);

// segments.c: before CRIU reads the first image of an IPC namespace: its root task moves into the one that the agent
// has filled; 0, or -errno. And what shmget(2) gives: one of the segments there, or a new one; its identifier, or
// -errno.
int preload_join_segments(int images, const char *image);
long preload_get_segment(int key, size_t size, int flags);

// inherit.c: before CRIU receives its request: carries out what the agent orders meanwhile.
void preload_await_request(int fd, int flags);
// CRIU opens an image: that of a task's pages begins the making of its mappings.
void preload_begin_inheriting(int images, const char *image);
// CRIU makes a task: the new process's number, 0 in it, or -errno.
long preload_clone(const void *arguments, size_t size);
// CRIU has mapped memory: it may be what the task's mappings will be made in.
void preload_note_reservation(long start, size_t length, int prot, int flags);
// CRIU has made a mapping, or moved one that the task has from its parent: its start, or -errno where it must not be.
long preload_inherit_mapping(long start, size_t length, int prot, int flags);
long preload_inherit_moved(long start, size_t length);
