import CLinux
import Glibc

/// A network namespace without a name, alive as long as its descriptor or a process in it.
package struct NetworkNamespace: Sendable {
    /// The namespace, for setns(2).
    package let descriptor: Descriptor

    /// Takes over a namespace's descriptor.
    package init(owning descriptor: Descriptor) {
        self.descriptor = descriptor
    }

    /// The namespace of a process.
    package init(of pid: Int32) throws(SyscallError) {
        descriptor = try Descriptor(open: "/proc/\(pid)/ns/net", O_RDONLY)
    }

    /// Makes a namespace with kernel parameters set in it; returns it with a route socket inside.
    ///
    /// `sysctls` are paths below /proc/sys, values, and whether a kernel without the parameter is fine.
    package static func create(
        sysctls: [(path: String, value: String, optional: Bool)]
    ) throws(SyscallError) -> (NetworkNamespace, NetlinkSocket) {
        let strings = CStringArray(sysctls.flatMap { ["/proc/sys/" + $0.path, $0.value] })
        let entries = sysctls.indices.map { index in
            smi_sysctl(
                path: strings[2 * index],
                value: strings[2 * index + 1],
                optional: sysctls[index].optional ? 1 : 0
            )
        }
        var socket: Int32 = -1
        let raw = withExtendedLifetime(strings) { smi_netns_create(entries, entries.count, &socket) }
        guard raw >= 0 else { throw SyscallError("unshare", code: -raw, subject: "network namespace") }
        return (
            NetworkNamespace(owning: Descriptor(owning: raw)), NetlinkSocket(owning: Descriptor(owning: socket))
        )
    }
}
