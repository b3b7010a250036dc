#define _GNU_SOURCE 1
#include "smi_sandbox.h"
#include <errno.h>
#include <linux/bpf.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOAD_WORD(dst, src, offset)                                                                                    \
    { BPF_LDX | BPF_MEM | BPF_W, dst, src, offset, 0 }
#define MOVE(dst, src)                                                                                                 \
    { BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0 }
#define SHIFT_RIGHT(dst, value)                                                                                        \
    { BPF_ALU64 | BPF_RSH | BPF_K, dst, 0, 0, value }
#define SET(dst, value)                                                                                                \
    { BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, value }
#define AND(dst, value)                                                                                                \
    { BPF_ALU64 | BPF_AND | BPF_K, dst, 0, 0, value }
#define JUMP_EQUAL(dst, value, offset)                                                                                 \
    { BPF_JMP | BPF_JEQ | BPF_K, dst, 0, offset, value }
#define JUMP_NOT_EQUAL(dst, value, offset)                                                                             \
    { BPF_JMP | BPF_JNE | BPF_K, dst, 0, offset, value }
#define RETURN                                                                                                         \
    { BPF_JMP | BPF_EXIT, 0, 0, 0, 0 }

int smi_device_program(void) {
    // r2 type, r3 access, r4 major, r5 minor; r0 1 allows. Jumps count from the next instruction.
    static const struct bpf_insn program[] = {
        /* 0 */ LOAD_WORD(BPF_REG_2, BPF_REG_1, offsetof(struct bpf_cgroup_dev_ctx, access_type)),
        /* 1 */ MOVE(BPF_REG_3, BPF_REG_2),
        /* 2 */ SHIFT_RIGHT(BPF_REG_3, 16),
        /* 3 */ AND(BPF_REG_2, 0xffff),
        /* 4 */ LOAD_WORD(BPF_REG_4, BPF_REG_1, offsetof(struct bpf_cgroup_dev_ctx, major)),
        /* 5 */ LOAD_WORD(BPF_REG_5, BPF_REG_1, offsetof(struct bpf_cgroup_dev_ctx, minor)),
        /* 6 */ JUMP_NOT_EQUAL(BPF_REG_2, BPF_DEVCG_DEV_CHAR, 7),
        /* 7 */ AND(BPF_REG_3, BPF_DEVCG_ACC_MKNOD),
        /* 8 */ JUMP_NOT_EQUAL(BPF_REG_3, 0, 5),
        /* 9 */ JUMP_EQUAL(BPF_REG_4, 136, 11), // pts
        /* 10 */ JUMP_EQUAL(BPF_REG_4, 1, 5),
        /* 11 */ JUMP_NOT_EQUAL(BPF_REG_4, 5, 2),
        /* 12 */ JUMP_EQUAL(BPF_REG_5, 0, 8), // tty
        /* 13 */ JUMP_EQUAL(BPF_REG_5, 2, 7), // ptmx
        /* 14 */ SET(BPF_REG_0, 0),
        /* 15 */ RETURN,
        /* 16 */ JUMP_EQUAL(BPF_REG_5, 3, 4),     // null
        /* 17 */ JUMP_EQUAL(BPF_REG_5, 5, 3),     // zero
        /* 18 */ JUMP_EQUAL(BPF_REG_5, 7, 2),     // full
        /* 19 */ JUMP_EQUAL(BPF_REG_5, 8, 1),     // random
        /* 20 */ JUMP_NOT_EQUAL(BPF_REG_5, 9, 2), // urandom
        /* 21 */ SET(BPF_REG_0, 1),
        /* 22 */ RETURN,
        /* 23 */ SET(BPF_REG_0, 0),
        /* 24 */ RETURN,
    };
    union bpf_attr a;
    memset(&a, 0, sizeof a);
    a.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
    a.insns = (uintptr_t)program;
    a.insn_cnt = sizeof program / sizeof *program;
    a.license = (uintptr_t) "Apache-2.0";
    memcpy(a.prog_name, "smirun_devices", sizeof "smirun_devices");
    return (int)syscall(SYS_bpf, BPF_PROG_LOAD, &a, sizeof a);
}

int smi_device_attach(int cgroup, int program) {
    union bpf_attr a;
    memset(&a, 0, sizeof a);
    a.target_fd = (uint32_t)cgroup;
    a.attach_bpf_fd = (uint32_t)program;
    a.attach_type = BPF_CGROUP_DEVICE;
    return (int)syscall(SYS_bpf, BPF_PROG_ATTACH, &a, sizeof a);
}
