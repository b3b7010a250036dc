import CLinux
import Glibc
import LinuxSystem
import Synchronization

/// Memory of a `criu swrk` that waits for its restore: the tasks, which are its forks, inherit it
/// (Sources/CCriuPreload/inherit.c).
///
/// It is charged to the sandbox's cgroup, in which swrk waits. All calls block, and fail once the restore has begun.
package final class CriuInheritance: Sendable {
    /// How long swrk, which may have to start first, takes for an answer at most, ms.
    private static let patience: Int32 = 2000

    private struct State {
        /// Closed, it lets swrk end.
        var orders: Descriptor?
        var isSealed = false
    }

    /// How much may be written there, bytes.
    package let bytes: Int64
    private let pid: pid_t
    private let state: Mutex<State>

    init(pid: pid_t, orders: Descriptor, bytes: Int64) {
        self.pid = pid
        self.bytes = bytes
        state = Mutex(State(orders: orders))
    }

    /// Has swrk map ranges of addresses, in bytes, readable and writable.
    package func map(_ ranges: [Range<UInt64>]) throws(SyscallError) {
        try order(SMI_INHERIT_MAP, ranges)
    }

    /// Has swrk drop what is in ranges of addresses.
    package func drop(_ ranges: [Range<UInt64>]) throws(SyscallError) {
        try order(SMI_INHERIT_DROP, ranges)
    }

    /// Writes pages of 4 KB, one after the other in `data`, to addresses in swrk.
    package func write(_ addresses: [UInt64], _ data: UnsafeRawPointer) throws(SyscallError) {
        try whileOpen { _ in smi_pages_write(pid, addresses, addresses.count, data) }
    }

    private func order(_ operation: Int, _ ranges: [Range<UInt64>]) throws(SyscallError) {
        guard !ranges.isEmpty else { return }
        let starts = ranges.map(\.lowerBound)
        let lengths = ranges.map { $0.upperBound - $0.lowerBound }
        try whileOpen {
            smi_inherit_order($0.raw, Int32(operation), starts, lengths, ranges.count, Self.patience)
        }
    }

    /// While this is not sealed swrk has not been reaped: its number is not another process's.
    private func whileOpen(_ body: (Descriptor) -> Int32) throws(SyscallError) {
        let result = state.withLock { state in
            guard !state.isSealed, let orders = state.orders else { return -EPIPE }
            return body(orders)
        }
        guard result == 0 else { throw SyscallError("write", code: -result, subject: "criu swrk's memory") }
    }

    /// Nothing is ordered or written from now on.
    func seal() {
        state.withLock { $0.isSealed = true }
    }

    /// Lets swrk end, which stays after the restore so that the tasks share with it what they have not written.
    package func letGo() {
        state.withLock { $0 = State(orders: nil, isSealed: true) }
    }
}
