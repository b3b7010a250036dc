import Glibc
import LinuxSystem

/// Where a sandbox's smi-init listens, and the secret that it knows its agent by.
package struct InitEndpoint: Sendable, Equatable {
    package var address: String
    package var port: UInt16
    package var secret: [UInt8]

    /// An endpoint; the address is numeric, IPv4 or IPv6.
    package init(address: String, port: UInt16 = InitConfiguration.sessionPort, secret: [UInt8]) {
        self.address = address
        self.port = port
        self.secret = secret
    }
}

/// Connections of the host agent to smi-init.
///
/// These calls wait; use them from `offload`.
package enum InitConnection {
    private static let version: UInt16 = 1
    private static let welcomeSize = 16
    private static let attempts = 3

    /// Connects and authenticates; the connection can then be given to anybody, who sends one request on it.
    ///
    /// - Throws: `IsolationError` (`sessionUnreachable`) within `timeout`.
    package static func connect(
        _ endpoint: InitEndpoint,
        timeout: Duration = .seconds(2)
    ) throws(IsolationError) -> Descriptor {
        let deadline = ContinuousClock.now + timeout
        for _ in 0..<attempts {
            if let socket = try greet(endpoint, deadline) { return socket }
        }
        throw .brokenGreeting(name(endpoint))
    }

    /// A connection that has been welcomed; nil where smi-init closed it instead: the secret is wrong, or another request
    /// has just ended every connection.
    private static func greet(
        _ endpoint: InitEndpoint,
        _ deadline: ContinuousClock.Instant
    ) throws(IsolationError) -> Descriptor? {
        let what = name(endpoint)
        let socket: Descriptor
        do {
            let left = max(deadline - .now, .zero)
            socket = try StreamSocket.connect(address: endpoint.address, port: endpoint.port, timeout: left)
        } catch {
            throw .unreachable(what, error)
        }
        var hello = ByteWriter()
        hello.raw(Array("SMI1".utf8))
        hello.integer(version)
        hello.integer(version)
        hello.raw(endpoint.secret)
        // A new connection's buffer takes 40 bytes at once, or the connection is gone already.
        guard hello.bytes.withUnsafeBytes({ StreamSocket.send(socket, $0) }) == .moved(hello.bytes.count) else {
            return nil
        }
        guard try readWelcome(socket, what, deadline) else { return nil }
        var one: Int32 = 1
        setsockopt(socket.raw, Int32(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<Int32>.size))
        return socket
    }

    private static func name(_ endpoint: InitEndpoint) -> String {
        "\(endpoint.address) port \(endpoint.port)"
    }

    /// Has smi-init end every connection, and returns when it has: what a freeze wants.
    ///
    /// - Throws: `IsolationError` (`sessionUnreachable`) where smi-init has not confirmed within `timeout`.
    package static func quiesce(
        _ endpoint: InitEndpoint,
        timeout: Duration = .milliseconds(50)
    ) throws(IsolationError) {
        let deadline = ContinuousClock.now + timeout
        let socket = try connect(endpoint, timeout: timeout)
        let frame = FrameHeader.frame(.quiesce)
        _ = frame.withUnsafeBytes { StreamSocket.send(socket, $0) }
        // The answer, then EOF: smi-init has closed this connection too.
        let answer = readToEnd(socket, limit: FrameHeader.size, deadline)
        guard answer == FrameHeader.frame(.quiesced) else {
            throw .unreachable(name(endpoint), SyscallError("recv", code: ETIMEDOUT))
        }
    }

    /// Whether smi-init welcomed us; false where it closed the connection.
    private static func readWelcome(
        _ socket: Descriptor,
        _ what: String,
        _ deadline: ContinuousClock.Instant
    ) throws(IsolationError) -> Bool {
        var welcome: [UInt8] = []
        while welcome.count < welcomeSize {
            guard let piece = read(socket, welcomeSize - welcome.count, deadline) else {
                throw .unreachable(what, SyscallError("recv", code: ETIMEDOUT))
            }
            if piece.isEmpty { return false }
            welcome += piece
        }
        var reader = ByteReader(welcome)
        guard reader.raw(4) == Array("SMI1".utf8), reader.integer(UInt16.self) == version else {
            throw .brokenGreeting(what)
        }
        return true
    }

    /// Everything up to the end of the connection, which must come within the time and `limit` bytes; else nil.
    private static func readToEnd(
        _ socket: Descriptor,
        limit: Int,
        _ deadline: ContinuousClock.Instant
    ) -> [UInt8]? {
        var bytes: [UInt8] = []
        while bytes.count <= limit, let piece = read(socket, limit + 1 - bytes.count, deadline) {
            if piece.isEmpty { return bytes }
            bytes += piece
        }
        return nil
    }

    /// The next bytes, at most `count`; empty at the end, nil when the time is over.
    private static func read(
        _ socket: Descriptor,
        _ count: Int,
        _ deadline: ContinuousClock.Instant
    ) -> [UInt8]? {
        var buffer = [UInt8](repeating: 0, count: count)
        while true {
            switch buffer.withUnsafeMutableBytes({ StreamSocket.receive(socket, into: $0) }) {
            case .moved(let moved): return Array(buffer[..<moved])
            case .closed: return []
            case .wouldBlock:
                let left = deadline - ContinuousClock.now
                guard left > .zero, StreamSocket.wait(socket, for: POLLIN, atMost: left) else { return nil }
            }
        }
    }
}
