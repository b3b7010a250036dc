import CLinux
import Glibc
import LinuxSystem

/// The devices that a sandbox's processes may open: null, zero, full, random, urandom, tty, ptmx and pseudo-terminals.
///
/// None may be made. A BPF program on the version 2 cgroup, loaded once; it stays with the cgroup when the daemon dies.
package final class DevicePolicy: Sendable {
    private let program: Descriptor

    /// Loads the program.
    package init() throws(SyscallError) {
        program = Descriptor(owning: try syscall("bpf", "device program") { smi_device_program() })
    }

    /// Attaches the program to a cgroup, replacing one of ours.
    package func attach(to cgroup: Descriptor, path: String) throws(SyscallError) {
        try syscall("bpf", path) { smi_device_attach(cgroup.raw, program.raw) }
    }
}
