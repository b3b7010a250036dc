import Foundation
import Glibc
import LinuxSystem
import Orchestrator
import Synchronization

/// A client outside: it sends eight bytes every millisecond to the machine's echo and notes how long nothing came back.
final class EchoProbe: Sendable {
    private struct State {
        var received = 0
        var longest = 0.0
        var fault: String?
    }

    private let state = Mutex(State())
    private let socket: Descriptor
    /// Bytes that may be on the way: the probe goes on through a pause without filling the link when it ends.
    private static let window = 4096

    /// Begins to send on a connection to the echo.
    init(_ connection: Descriptor) throws {
        socket = connection
        var on: Int32 = 1
        let size = socklen_t(MemoryLayout<Int32>.size)
        try syscall("setsockopt", "TCP_NODELAY") {
            setsockopt(connection.raw, Int32(IPPROTO_TCP), TCP_NODELAY, &on, size)
        }
        runOnThread { [self] in exchange() }
    }

    /// The longest time between two arrivals, ms, since this was last asked.
    func takeLongest() -> Double {
        state.withLock { state in
            defer { state.longest = 0 }
            return state.longest
        }
    }

    /// Waits until something comes back that is not there yet.
    ///
    /// - Throws: where nothing comes within `limit`, or the connection has failed.
    func awaitProgress(limit: Duration) async throws {
        let before = state.withLock(\.received)
        let deadline = ContinuousClock.now + limit
        while true {
            let now = state.withLock { $0 }
            if now.fault == nil, now.received > before { return }
            guard now.fault == nil, ContinuousClock.now < deadline else {
                throw OrchestratorError(
                    .internalError,
                    cause: "the client lost the machine: \(now.fault ?? "nothing came back within \(limit)")",
                    remedy: "look at the daemons' logs"
                )
            }
            try await Task.sleep(for: .milliseconds(2))
        }
    }

    /// Ends the connection and the probe's thread.
    func close() {
        StreamSocket.shutdown(socket)
    }

    private func exchange() {
        var (sent, received) = (0, 0)
        var last = ContinuousClock.now
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            if sent - received < Self.window {
                let count = write(socket.raw, buffer, 8)
                guard count > 0 else { return fail("sending failed: \(String(cString: strerror(errno)))") }
                sent += count
            }
            var entry = pollfd(fd: socket.raw, events: Int16(POLLIN), revents: 0)
            if poll(&entry, 1, 1) > 0 {
                let count = read(socket.raw, &buffer, buffer.count)
                guard count > 0 else { return fail("the connection ended") }
                received += count
                let gap = millisecondsSince(last)
                last = .now
                let total = received
                state.withLock { state in
                    state.received = total
                    state.longest = max(state.longest, gap)
                }
                breathe()
            }
        }
    }

    private func breathe() {
        var pause = timespec(tv_sec: 0, tv_nsec: 1_000_000)
        nanosleep(&pause, nil)
    }

    private func fail(_ reason: String) {
        state.withLock { $0.fault = reason }
    }
}
