import Glibc
import LinuxSystem
import Synchronization

@testable import Isolation

/// Dials through a relay of the test's own that cuts every connection after a random number of bytes, with whatever is
/// under way lost.
final class FaultyRelay: Sendable {
    private struct State: Sendable {
        var generator: Generator
        var connections = 0
        var live: [Descriptor] = []
    }

    /// A small generator with a seed, so that a failure can be repeated.
    struct Generator: RandomNumberGenerator, Sendable {
        var state: UInt64

        mutating func next() -> UInt64 {
            // splitmix64
            state &+= 0x9e37_79b9_7f4a_7c15
            var mixed = state
            mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
            mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
            return mixed ^ (mixed >> 31)
        }
    }

    private let state: Mutex<State>
    private let target: @Sendable () throws -> Descriptor
    private let longest: Int

    /// A relay whose connections are cut after `longest` bytes at the latest.
    init(seed: UInt64, longest: Int, _ target: @escaping @Sendable () throws -> Descriptor) {
        state = Mutex(State(generator: Generator(state: seed)))
        self.target = target
        self.longest = longest
    }

    var connections: Int { state.withLock(\.connections) }

    var dialler: SessionDial {
        { try self.dial() }
    }

    private func dial() throws -> SessionLink {
        let inner = try target()
        let (near, far) = try DescriptorPassing.socketPair(Int32(SOCK_STREAM.rawValue))
        let budget = state.withLock { state in
            state.connections += 1
            state.live = [inner, far]
            // Now and then a connection that brings nothing at all, and many that end in the first frames.
            let shape = Int.random(in: 0..<4, using: &state.generator)
            return shape == 0
                ? Int.random(in: 0..<200, using: &state.generator)
                : Int.random(in: 0..<longest, using: &state.generator)
        }
        runOnThread { Self.relay(inner, far, budget) }
        return SessionLink(stream: near)
    }

    private static func relay(_ inner: Descriptor, _ far: Descriptor, _ budget: Int) {
        var left = budget
        var buffer = [UInt8](repeating: 0, count: 16384)
        while left > 0 {
            var waits = WaitSet()
            let fromInner = waits.add(inner.raw, POLLIN)
            let fromFar = waits.add(far.raw, POLLIN)
            waits.wait(atMost: nil)
            if waits.isReady(fromInner), !copy(inner, far, &buffer, &left) { break }
            if waits.isReady(fromFar), !copy(far, inner, &buffer, &left) { break }
        }
        // Reset rather than closed: what is in the buffers is lost.
        var linger = Glibc.linger(l_onoff: 1, l_linger: 0)
        setsockopt(inner.raw, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
        inner.close()
        far.close()
    }

    private static func copy(_ from: Descriptor, _ to: Descriptor, _ buffer: inout [UInt8], _ left: inout Int) -> Bool {
        let count = read(from.raw, &buffer, min(buffer.count, left))
        guard count > 0 else { return false }
        left -= count
        var sent = 0
        while sent < count {
            let piece = buffer.withUnsafeBytes {
                send(to.raw, $0.baseAddress.map { $0 + sent }, count - sent, Int32(MSG_NOSIGNAL))
            }
            if piece > 0 {
                sent += piece
                continue
            }
            guard errno == EAGAIN else { return false }
            guard StreamSocket.wait(to, for: POLLOUT, atMost: .seconds(10)) else { return false }
        }
        return true
    }
}
