import CLinux
import Glibc

/// Stream and packet sockets: TCP to an address, unix sockets by path, and transfers that never wait.
package enum StreamSocket {
    /// What one transfer did.
    package enum Transfer: Equatable, Sendable {
        /// So many bytes went over, at least one.
        case moved(Int)
        /// Nothing can go over now.
        case wouldBlock
        /// The other end has closed (code 0), or the connection or pipe is broken.
        case closed(code: Int32)
    }

    /// Connects to a numeric IPv4 or IPv6 address; ETIMEDOUT where it takes longer than `timeout`.
    package static func connect(
        address: String,
        port: UInt16,
        timeout: Duration
    ) throws(SyscallError) -> Descriptor {
        var storage = sockaddr_storage()
        let (family, length) = fill(&storage, address: address, port: port)
        guard family >= 0 else { throw SyscallError("inet_pton", code: EINVAL, subject: address) }
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let socket = Descriptor(owning: try syscall("socket") { Glibc.socket(family, type, 0) })
        let result = withUnsafePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.connect(socket.raw, $0, length) }
        }
        let code = errno
        guard result < 0 else { return socket }
        guard code == EINPROGRESS else { throw SyscallError("connect", code: code, subject: address) }
        guard wait(socket, for: POLLOUT, atMost: timeout) else {
            throw SyscallError("connect", code: ETIMEDOUT, subject: address)
        }
        let failure = pendingError(of: socket)
        guard failure == 0 else { throw SyscallError("connect", code: failure, subject: address) }
        return socket
    }

    /// Listens on a unix socket of a type (`SOCK_STREAM`, `SOCK_SEQPACKET`), replacing what a dead process left there;
    /// the socket has mode 0600.
    package static func listen(unix path: String, type: __socket_type) throws(SyscallError) -> Descriptor {
        let socket = try unixSocket(type)
        var address = try unixAddress(path)
        _ = unlink(path)
        // The mode is that of the moment of bind(2): nobody can connect before it is narrowed.
        let mask = umask(0o177)
        defer { umask(mask) }
        try syscall("bind", path) { withUnixAddress(&address) { bind(socket.raw, $0, $1) } }
        try syscall("listen", path) { Glibc.listen(socket.raw, 128) }
        return socket
    }

    /// Connects to a unix socket.
    package static func connect(unix path: String, type: __socket_type) throws(SyscallError) -> Descriptor {
        let socket = try unixSocket(type)
        var address = try unixAddress(path)
        try syscall("connect", path) { withUnixAddress(&address) { Glibc.connect(socket.raw, $0, $1) } }
        return socket
    }

    /// The next waiting connection, CLOEXEC; nil where there is none now.
    package static func accept(_ listener: Descriptor) -> Descriptor? {
        let raw = smi_accept(listener.raw)
        return raw < 0 ? nil : Descriptor(owning: raw)
    }

    /// The user id of the process at the other end of a unix socket (SO_PEERCRED).
    package static func peerUser(of socket: Descriptor) throws(SyscallError) -> uid_t {
        var user: uid_t = 0
        try syscall("getsockopt") { smi_peer_user(socket.raw, &user) }
        return user
    }

    /// Receives what is there, without waiting.
    package static func receive(_ socket: Descriptor, into buffer: UnsafeMutableRawBufferPointer) -> Transfer {
        let count = recv(socket.raw, buffer.baseAddress, buffer.count, Int32(MSG_DONTWAIT))
        let code = errno
        return outcome(count, code: code, atEnd: .closed(code: 0))
    }

    /// Sends what the other end takes, without waiting and without SIGPIPE.
    package static func send(_ socket: Descriptor, _ bytes: UnsafeRawBufferPointer) -> Transfer {
        let flags = Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL)
        let count = Glibc.send(socket.raw, bytes.baseAddress, bytes.count, flags)
        let code = errno
        return outcome(count, code: code, atEnd: .wouldBlock)
    }

    /// Ends both directions, for every process that has the connection; the descriptors stay.
    package static func shutdown(_ socket: Descriptor) {
        _ = Glibc.shutdown(socket.raw, Int32(SHUT_RDWR))
    }

    /// Waits for one event of poll(2); false after `timeout`.
    package static func wait(_ descriptor: Descriptor, for event: Int32, atMost timeout: Duration) -> Bool {
        let deadline = ContinuousClock.now + timeout
        while true {
            let left = max(deadline - ContinuousClock.now, .zero)
            var entry = pollfd(fd: descriptor.raw, events: Int16(event), revents: 0)
            let count = poll(&entry, 1, left.milliseconds)
            if count > 0 { return true }
            if count == 0 && left == .zero { return false }
        }
    }

    /// Reads or writes (2) of any descriptor, as `Transfer` tells it.
    package static func outcome(_ count: Int, code: Int32, atEnd: Transfer) -> Transfer {
        if count > 0 { return .moved(count) }
        if count == 0 { return atEnd }
        return code == EAGAIN || code == EINTR ? .wouldBlock : .closed(code: code)
    }

    private static func pendingError(of socket: Descriptor) -> Int32 {
        var code: Int32 = 0
        var size = socklen_t(MemoryLayout<Int32>.size)
        return getsockopt(socket.raw, SOL_SOCKET, SO_ERROR, &code, &size) < 0 ? errno : code
    }

    private static func fill(
        _ storage: inout sockaddr_storage,
        address: String,
        port: UInt16
    ) -> (family: Int32, length: socklen_t) {
        var four = sockaddr_in()
        var six = sockaddr_in6()
        if inet_pton(AF_INET, address, &four.sin_addr) == 1 {
            four.sin_family = sa_family_t(AF_INET)
            four.sin_port = port.bigEndian
            copy(four, to: &storage)
            return (AF_INET, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
        guard inet_pton(AF_INET6, address, &six.sin6_addr) == 1 else { return (-1, 0) }
        six.sin6_family = sa_family_t(AF_INET6)
        six.sin6_port = port.bigEndian
        copy(six, to: &storage)
        return (AF_INET6, socklen_t(MemoryLayout<sockaddr_in6>.size))
    }

    private static func copy<Address>(_ address: Address, to storage: inout sockaddr_storage) {
        withUnsafeMutableBytes(of: &storage) { target in
            withUnsafeBytes(of: address) { target.copyMemory(from: $0) }
        }
    }

    private static func unixSocket(_ type: __socket_type) throws(SyscallError) -> Descriptor {
        let kind = Int32(type.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        return Descriptor(owning: try syscall("socket") { socket(AF_UNIX, kind, 0) })
    }

    private static func unixAddress(_ path: String) throws(SyscallError) -> sockaddr_un {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let bytes = Array(path.utf8)
        // One byte of the kernel's 108 is for the NUL.
        guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else {
            throw SyscallError("connect", code: ENAMETOOLONG, subject: path)
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        return address
    }

    private static func withUnixAddress(
        _ address: inout sockaddr_un,
        _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
    ) -> Int32 {
        withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
    }
}

extension Duration {
    /// Whole milliseconds, rounded up, at most a day: what poll(2) and epoll_wait(2) take.
    package var milliseconds: Int32 {
        let parts = components
        guard parts.seconds < 86_400 else { return 86_400_000 }
        return Int32(parts.seconds * 1000 + (parts.attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
    }
}
