import Foundation
import Glibc
import LinuxSystem
import Synchronization

/// A user's device in the lab: it speaks TCP to the machine from a lab host's network namespace, numbers every byte it
/// sends and checks that the echo is the same bytes, once and in order.
final class DemoClient: Sendable {
    /// What the client has seen so far.
    struct Observed: Sendable {
        /// Bytes that came back as they should.
        var bytes: Int64 = 0
        /// Set where a byte was lost, doubled or changed, or the connection failed.
        var fault: String?
        /// Longest time between two arrivals since it was last asked, ms.
        var longestGapMs = 0.0
    }

    private let observed = Mutex(Observed())
    private let socket: Descriptor

    /// Takes over a connection and begins to send.
    init(connection: Descriptor) {
        socket = connection
        let run: @Sendable () throws -> Void = { [self] in exchange() }
        Task { try await offload(run) }
    }

    /// What was seen; the longest gap starts anew.
    func takeObserved() -> Observed {
        observed.withLock { seen in
            defer { seen.longestGapMs = 0 }
            return seen
        }
    }

    /// Waits, at most `limit`, until bytes have come back that were not there when this was called.
    func awaitProgress(limit: Duration) async throws {
        let before = observed.withLock(\.bytes)
        let deadline = ContinuousClock.now + limit
        while ContinuousClock.now < deadline {
            let seen = observed.withLock { $0 }
            if seen.bytes > before || seen.fault != nil { return }
            try await Task.sleep(for: .milliseconds(5))
        }
        fail("nothing came back for \(limit)")
    }

    /// Ends the connection.
    func close() {
        shutdown(socket.raw, Int32(SHUT_RDWR))
    }

    /// Sends the next numbers while up to 64 KB are on the way, and checks what comes back.
    private func exchange() {
        var sent: UInt64 = 0
        var received: UInt64 = 0
        var last = ContinuousClock.now
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            if sent - received < 65536 {
                let chunk = (0..<1024).map { UInt8(truncatingIfNeeded: Self.pattern(sent + UInt64($0))) }
                let count = write(socket.raw, chunk, chunk.count)
                guard count > 0 else { return fail("sending failed: \(String(cString: strerror(errno)))") }
                sent += UInt64(count)
            }
            let count = recv(socket.raw, &buffer, buffer.count, 0)
            guard count > 0 else {
                return fail(count == 0 ? "the connection ended" : String(cString: strerror(errno)))
            }
            for index in 0..<count
            where buffer[index] != UInt8(truncatingIfNeeded: Self.pattern(received + UInt64(index))) {
                return fail("byte \(received + UInt64(index)) is wrong")
            }
            received += UInt64(count)
            let now = ContinuousClock.now
            let gap = now - last
            last = now
            let total = Int64(received)
            observed.withLock { seen in
                seen.bytes = total
                seen.longestGapMs = max(seen.longestGapMs, gap / .milliseconds(1))
            }
            // A calm client: about 1 MB/s at most, so that it does not compete with the hand-off for the link.
            breathe()
        }
    }

    private func breathe() {
        var pause = timespec(tv_sec: 0, tv_nsec: 1_000_000)
        nanosleep(&pause, nil)
    }

    private func fail(_ reason: String) {
        observed.withLock { $0.fault = $0.fault ?? reason }
    }

    /// Byte at a position of the stream: depends on all of the position, so that shifted or doubled data is seen.
    private static func pattern(_ position: UInt64) -> UInt64 {
        var mixed = position &* 0x9E37_79B9_7F4A_7C15
        mixed ^= mixed >> 29
        return mixed >> 17
    }
}
