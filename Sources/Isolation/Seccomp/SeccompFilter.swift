import CLinux
import CSeccomp
import Glibc
import LinuxSystem

/// A sandbox's system call filter as a BPF program, compiled once per process by libseccomp.
package struct SeccompFilter: Sendable {
    /// An array of `struct sock_filter`.
    package let program: [UInt8]

    /// The filter of every sandbox.
    package static let sandbox = Result { () throws(SyscallError) in try SeccompFilter() }

    /// Compiles `SystemCallPolicy`.
    package init() throws(SyscallError) {
        guard let context = seccomp_init(Self.error(EPERM)) else { throw SyscallError("seccomp_init", code: ENOMEM) }
        defer { seccomp_release(context) }
        var rules = Rules(context: context)
        rules.check(seccomp_attr_set(context, SCMP_FLTATR_ACT_BADARCH, Self.error(ENOSYS)))
        // A binary tree: few comparisons for every call.
        rules.check(seccomp_attr_set(context, SCMP_FLTATR_CTL_OPTIMIZE, 2))
        Self.add(to: &rules)
        if rules.failure != 0 { throw SyscallError("seccomp_rule_add", code: -rules.failure, subject: rules.failed) }
        let file = try DescriptorPassing.memoryFile("filter")
        let code = seccomp_export_bpf(context, file.raw)
        guard code == 0 else { throw SyscallError("seccomp_export_bpf", code: -code) }
        try syscall("lseek") { lseek(file.raw, 0, SEEK_SET) }
        program = Self.prologue + (try FileContents.bytes(of: file))
    }

    private static func add(to rules: inout Rules) {
        for name in SystemCallPolicy.allowed { rules.add(allow, name) }
        for name in SystemCallPolicy.absent { rules.add(error(ENOSYS), name) }
        for number in SystemCallPolicy.absentNumbers { rules.add(error(ENOSYS), number: number, name: "\(number)") }
        rules.add(allow, "clone", [masked(0, SystemCallPolicy.cloneNamespaces, 0)])
        rules.add(allow, "unshare", [masked(0, SystemCallPolicy.unshareNamespaces, 0)])
        rules.add(allow, "seccomp", [masked(1, SystemCallPolicy.seccompListener, 0)])
        for value in SystemCallPolicy.personalities { rules.add(allow, "personality", [masked(0, int, value)]) }
        addSockets(to: &rules)
    }

    /// Families that can be moved and end inside: unix, IPv4 and IPv6 with TCP and UDP (MPTCP is off in the sandbox's
    /// network and says so itself), and netlink to read routes and sockets.
    private static func addSockets(to rules: inout Rules) {
        rules.add(allow, "socket", [masked(0, int, UInt64(AF_UNIX))])
        let typeMask: UInt64 = 0xf
        for family in [AF_INET, AF_INET6] {
            for type: UInt64 in [1, 2] {
                for proto: UInt64 in [0, 6, 17, 262] {
                    rules.add(
                        allow,
                        "socket",
                        [masked(0, int, UInt64(family)), masked(1, typeMask, type), masked(2, int, proto)]
                    )
                }
            }
        }
        for proto: UInt64 in [0, 4] {
            rules.add(allow, "socket", [masked(0, int, UInt64(AF_NETLINK)), masked(2, int, proto)])
        }
    }

    private static let allow: UInt32 = 0x7fff_0000
    /// An `int` argument: the upper half of the register means nothing to the kernel, so it must mean nothing here.
    private static let int: UInt64 = 0xffff_ffff

    private static func error(_ code: Int32) -> UInt32 { 0x0005_0000 | UInt32(code) }

    private static func masked(_ argument: UInt32, _ mask: UInt64, _ value: UInt64) -> scmp_arg_cmp {
        scmp_arg_cmp(arg: argument, op: SCMP_CMP_MASKED_EQ, datum_a: mask, datum_b: value)
    }

    /// ENOSYS for numbers that no rule knows: libseccomp can only deny what it has a name for, and a program must be
    /// able to tell a call that is too new from one that is forbidden.
    ///
    /// Also answers the x32 calls, which are numbered from 2^30.
    private static var prologue: [UInt8] {
        let load = instruction(code: 0x20, value: 0)  // A = seccomp_data.nr
        let above = instruction(code: 0x25, jumpFalse: 1, value: SystemCallPolicy.highestKnown)  // if A > … else skip 1
        let absent = instruction(code: 0x06, value: error(ENOSYS))
        return load + above + absent + gap + remap
    }

    /// EINVAL for mremap(2) of nothing, which makes a second mapping of shared memory: it could come and go without any
    /// trace, and what is written through it would be missing after a hand-off.
    ///
    /// The kernel rounds the old length up to whole pages: the last 4095 numbers are none, too.
    private static var remap: [UInt8] {
        let (high, low) = (instruction(code: 0x20, value: 28), instruction(code: 0x20, value: 24))
        let isRemap = instruction(code: 0x15, jumpFalse: 8, value: UInt32(seccomp_syscall_resolve_name("mremap")))
        let isSmall = instruction(code: 0x15, jumpFalse: 2, value: 0)
        let isZero = instruction(code: 0x15, jumpTrue: 3, jumpFalse: 4, value: 0)
        let isHuge = instruction(code: 0x15, jumpFalse: 3, value: 0xffff_ffff)
        let isLast = instruction(code: 0x25, jumpFalse: 1, value: 0xffff_f000)
        let refused = instruction(code: 0x06, value: error(EINVAL))
        let number = instruction(code: 0x20, value: 0)
        return isRemap + high + isSmall + low + isZero + isHuge + low + isLast + refused + number
    }

    private static var gap: [UInt8] {
        #if arch(x86_64)
        // 335…423 were never given out.
        let from = instruction(code: 0x35, jumpFalse: 2, value: 335)
        let to = instruction(code: 0x35, jumpTrue: 1, value: 424)
        return from + to + instruction(code: 0x06, value: error(ENOSYS))
        #else
        return []
        #endif
    }

    private static func instruction(
        code: UInt16,
        jumpTrue: UInt8 = 0,
        jumpFalse: UInt8 = 0,
        value: UInt32
    ) -> [UInt8] {
        Bytes.of(code) + [jumpTrue, jumpFalse] + Bytes.of(value)
    }
}

/// Adds rules to a libseccomp filter and remembers the first that failed.
private struct Rules {
    let context: scmp_filter_ctx
    var failure: Int32 = 0
    var failed = ""

    mutating func check(_ code: Int32, _ name: String = "attribute") {
        guard code != 0, failure == 0 else { return }
        failure = code
        failed = name
    }

    mutating func add(_ action: UInt32, _ name: String, _ arguments: [scmp_arg_cmp] = []) {
        var number = seccomp_syscall_resolve_name(name)
        // Older libseccomp does not know its name; the number is the same on every architecture.
        if number == -1, name == "fchmodat2" { number = 452 }
        add(action, number: number, name: name, arguments)
    }

    mutating func add(_ action: UInt32, number: Int32, name: String, _ arguments: [scmp_arg_cmp] = []) {
        // Below 0: a call that this architecture does not have.
        guard number >= 0 else { return }
        check(seccomp_rule_add_array(context, action, number, UInt32(arguments.count), arguments), name)
    }
}
