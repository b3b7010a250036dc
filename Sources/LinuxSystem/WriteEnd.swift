import Glibc

/// Writes to standard output or error without ever waiting, and without changing it for the processes that share it.
///
/// `O_NONBLOCK` belongs to the open file, which the shell and others share; pipes and terminals are therefore opened a
/// second time, sockets written with a flag, and regular files just written.
package final class WriteEnd: Sendable {
    private enum Kind: Sendable {
        case plain
        case reopened(Descriptor)
        case socket
        /// Shared and not to be opened again: after poll(2) says so, a small write does not wait (pipe(7), PIPE_BUF).
        case small
    }

    private static let smallWrite = 4096
    private let number: Int32
    private let kind: Kind

    /// Writes to an open descriptor, which stays the caller's.
    package init(_ number: Int32) {
        self.number = number
        var status = stat()
        guard fstat(number, &status) == 0 else {
            kind = .plain
            return
        }
        switch status.st_mode & S_IFMT {
        case S_IFREG: kind = .plain
        case S_IFSOCK: kind = .socket
        default: kind = Self.reopen(number).map { .reopened($0) } ?? .small
        }
    }

    private static func reopen(_ number: Int32) -> Descriptor? {
        try? Descriptor(open: "/proc/self/fd/\(number)", O_WRONLY | O_NONBLOCK | O_NOCTTY)
    }

    /// What to give to poll(2).
    package var pollable: Int32 {
        if case .reopened(let descriptor) = kind { return descriptor.raw }
        return number
    }

    /// Writes what can be written now.
    package func write(_ bytes: UnsafeRawBufferPointer) -> StreamSocket.Transfer {
        switch kind {
        case .plain: return transfer(number, bytes)
        case .reopened(let descriptor): return transfer(descriptor.raw, bytes)
        case .socket:
            let flags = Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL)
            let count = send(number, bytes.baseAddress, bytes.count, flags)
            let code = errno
            return StreamSocket.outcome(count, code: code, atEnd: .wouldBlock)
        case .small:
            var entry = pollfd(fd: number, events: Int16(POLLOUT), revents: 0)
            guard poll(&entry, 1, 0) > 0 else { return .wouldBlock }
            return transfer(number, UnsafeRawBufferPointer(rebasing: bytes.prefix(Self.smallWrite)))
        }
    }

    private func transfer(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> StreamSocket.Transfer {
        let count = Glibc.write(descriptor, bytes.baseAddress, bytes.count)
        let code = errno
        return StreamSocket.outcome(count, code: code, atEnd: .wouldBlock)
    }
}
