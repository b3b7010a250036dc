import CLinux
import Glibc
import LinuxSystem
import Synchronization

/// The connection to `smi-pagekeeper`, the process that holds duplicates of userfaultfds.
///
/// While it lives, a page server that dies leaves faults waiting; a new one takes over from where it was.
package final class PageKeeper: Sendable {
    /// What the keeper holds of one address space.
    package struct Kept: Sendable {
        package let id: UInt64
        /// The process as its own pid namespace numbers it.
        package let pid: pid_t
        let userfault: Descriptor
        let journal: Descriptor
    }

    private enum Operation: UInt32 {
        case refused = 0
        case keep = 1
        case drop = 2
        case list = 3
    }

    private let socket: Mutex<Descriptor>

    /// Takes over a connected SOCK_SEQPACKET socket to a keeper.
    package init(connected socket: Descriptor) {
        self.socket = Mutex(socket)
    }

    /// Starts a keeper that listens at a path (removed first), and connects to it; its process is reaped when it ends.
    package static func start(executable: String, at path: String) throws -> (PageKeeper, pid: pid_t) {
        unlink(path)
        let listening = try seqpacket()
        try withAddress(path) { address, length in
            _ = try syscall("bind", path) { bind(listening.raw, address, length) }
        }
        chmod(path, 0o600)
        try syscall("listen", path) { listen(listening.raw, 8) }
        var request = SpawnRequest(executable, arguments: [executable])
        request.descriptors = [0: listening]
        let child = try request.start()
        runOnThread { _ = try? child.wait() }
        return (try connect(to: path), child.pid)
    }

    /// Connects to a keeper that runs, as a restarted server does.
    package static func connect(to path: String) throws -> PageKeeper {
        let socket = try seqpacket()
        try withAddress(path) { address, length in
            _ = try syscall("connect", path) { Glibc.connect(socket.raw, address, length) }
        }
        return PageKeeper(connected: socket)
    }

    private static func seqpacket() throws(SyscallError) -> Descriptor {
        let type = Int32(SOCK_SEQPACKET.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        return Descriptor(owning: try syscall("socket") { Glibc.socket(AF_UNIX, type, 0) })
    }

    /// Everything the keeper holds.
    package func list() throws(SyscallError) -> [Kept] {
        try socket.withLock { socket throws(SyscallError) in
            try Self.send(.list, id: 0, pid: 0, [], over: socket)
            var result: [Kept] = []
            while true {
                let (operation, pid, id, descriptors) = try Self.receive(from: socket)
                if operation == .list { return result }
                guard operation == .keep, descriptors.count == 2 else { continue }
                result.append(Kept(id: id, pid: pid, userfault: descriptors[0], journal: descriptors[1]))
            }
        }
    }

    /// Gives up everything that a keeper holds, so that it ends: the processes are gone.
    package func dropAll() throws(SyscallError) {
        for kept in try list() { try drop(id: kept.id) }
    }

    func keep(id: UInt64, pid: pid_t, userfault: Descriptor, journal: Descriptor) throws(SyscallError) {
        try request(.keep, id: id, pid: pid, [userfault, journal])
    }

    func drop(id: UInt64) throws(SyscallError) {
        try request(.drop, id: id, pid: 0, [])
    }

    private func request(
        _ operation: Operation,
        id: UInt64,
        pid: pid_t,
        _ descriptors: [Descriptor]
    )
        throws(SyscallError)
    {
        try socket.withLock { socket throws(SyscallError) in
            try Self.send(operation, id: id, pid: pid, descriptors, over: socket)
            guard try Self.receive(from: socket).0 == operation else {
                throw SyscallError("keep", code: ENOSPC, subject: "userfaultfd")
            }
        }
    }

    private static func send(
        _ operation: Operation,
        id: UInt64,
        pid: pid_t,
        _ descriptors: [Descriptor],
        over socket: Descriptor
    ) throws(SyscallError) {
        var message = smi_keeper_message(operation: operation.rawValue, pid: pid, id: id)
        let numbers = descriptors.map(\.raw)
        try syscall("sendmsg") {
            smi_send_fds(socket.raw, &message, MemoryLayout.size(ofValue: message), numbers, Int32(numbers.count))
        }
    }

    private static func receive(
        from socket: Descriptor
    ) throws(SyscallError) -> (Operation, pid_t, UInt64, [Descriptor]) {
        var message = smi_keeper_message()
        var numbers: [Int32] = [-1, -1]
        var received: Int32 = 0
        let count = try syscall("recvmsg") {
            smi_recv_fds(socket.raw, &message, MemoryLayout.size(ofValue: message), &numbers, 2, &received)
        }
        guard count == MemoryLayout.size(ofValue: message) else { throw SyscallError("recvmsg", code: ECONNRESET) }
        let descriptors = numbers[..<Int(received)].map { Descriptor(owning: $0) }
        return (Operation(rawValue: message.operation) ?? .refused, message.pid, message.id, descriptors)
    }
}

/// Calls `body` with the address of a unix socket.
func withAddress<Result>(
    _ path: String,
    _ body: (UnsafePointer<sockaddr>, socklen_t) throws -> Result
) throws -> Result {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else {
        throw SyscallError("bind", code: ENAMETOOLONG, subject: path)
    }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    return try withUnsafePointer(to: &address) { pointer in
        try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            try body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
        }
    }
}
