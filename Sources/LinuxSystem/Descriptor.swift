import Glibc
import Synchronization

/// A file descriptor with one owner: closed when the owner closes it or goes away, never twice.
package final class Descriptor: Sendable {
    private let slot: Atomic<Int32>

    /// Takes over an open descriptor.
    package init(owning raw: Int32) {
        self.slot = Atomic(raw)
    }

    /// Opens a path (open(2)); `O_CLOEXEC` is always added.
    package convenience init(open path: String, _ flags: Int32, mode: mode_t = 0o600) throws(SyscallError) {
        let raw = try syscall("open", path) { Glibc.open(path, flags | O_CLOEXEC, mode) }
        self.init(owning: raw)
    }

    deinit {
        close()
    }

    /// The descriptor's number; -1 once closed or given away.
    package var raw: Int32 { slot.load(ordering: .acquiring) }

    /// Closes now; further calls do nothing.
    package func close() {
        let raw = slot.exchange(-1, ordering: .acquiringAndReleasing)
        if raw >= 0 { _ = Glibc.close(raw) }
    }

    /// Gives the descriptor away: the caller owns the number from now on.
    package func release() -> Int32 {
        slot.exchange(-1, ordering: .acquiringAndReleasing)
    }

    /// A second descriptor of the same open file (fcntl(2), F_DUPFD_CLOEXEC).
    package func duplicate() throws(SyscallError) -> Descriptor {
        let copy = try syscall("fcntl") { fcntl(self.raw, F_DUPFD_CLOEXEC, 3) }
        return Descriptor(owning: copy)
    }
}
