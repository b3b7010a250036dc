import CLinux
import Glibc

/// Descriptors over unix sockets (SCM_RIGHTS, unix(7)).
package enum DescriptorPassing {
    /// Sends bytes (at least one) with at most 64 descriptors; the caller keeps its own copies.
    package static func send(
        _ bytes: [UInt8],
        _ descriptors: [Descriptor],
        over socket: Descriptor
    ) throws(SyscallError) {
        let numbers = descriptors.map(\.raw)
        let sent = try syscall("sendmsg") {
            withExtendedLifetime(descriptors) {
                smi_send_fds(socket.raw, bytes, bytes.count, numbers, Int32(numbers.count))
            }
        }
        guard sent == bytes.count else { throw SyscallError("sendmsg", code: EMSGSIZE) }
    }

    /// Receives up to `limit` bytes and 64 descriptors; no bytes means that the other end closed.
    package static func receive(
        from socket: Descriptor,
        limit: Int = 4096
    ) throws(SyscallError) -> (bytes: [UInt8], descriptors: [Descriptor]) {
        var bytes = [UInt8](repeating: 0, count: limit)
        var numbers = [Int32](repeating: -1, count: 64)
        var received: Int32 = 0
        let count = try syscall("recvmsg") {
            smi_recv_fds(socket.raw, &bytes, limit, &numbers, 64, &received)
        }
        return (Array(bytes[..<count]), numbers[..<Int(received)].map { Descriptor(owning: $0) })
    }

    /// A connected pair of unix sockets of a type (`SOCK_STREAM`, `SOCK_SEQPACKET`), CLOEXEC.
    package static func socketPair(_ type: Int32) throws(SyscallError) -> (Descriptor, Descriptor) {
        var pair: [Int32] = [-1, -1]
        try syscall("socketpair") { socketpair(AF_UNIX, type | Int32(SOCK_CLOEXEC.rawValue), 0, &pair) }
        return (Descriptor(owning: pair[0]), Descriptor(owning: pair[1]))
    }

    /// An anonymous file in memory, sealable, CLOEXEC.
    package static func memoryFile(_ name: String) throws(SyscallError) -> Descriptor {
        Descriptor(owning: try syscall("memfd_create", name) { smi_memfd(name) })
    }

    /// A pipe, CLOEXEC: (read end, write end).
    package static func pipe() throws(SyscallError) -> (read: Descriptor, write: Descriptor) {
        var pair: [Int32] = [-1, -1]
        try syscall("pipe2") { smi_pipe(&pair) }
        return (Descriptor(owning: pair[0]), Descriptor(owning: pair[1]))
    }
}
