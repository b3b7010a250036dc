import Foundation
import Glibc
import LinuxSystem
import Synchronization
import Testing

/// Somebody on a lab host who holds one TCP connection to a machine, over however many hand-offs.
final class LabClient: Sendable {
    /// How long an answer may take: more than any hand-off, less than for ever.
    private static let patience = Duration.seconds(60)

    private let socket: Descriptor
    private let received = Mutex<[UInt8]>([])

    /// Connects from a host's network namespace; waits, with a limit, until the machine's program listens.
    init(_ cluster: ClusterFixture, on host: String, to user: String, port: UInt16) async throws {
        let (lab, address) = (cluster.lab, try await cluster.smirun.inspect(user).addresses.ipv4)
        let deadline = ContinuousClock.now + .seconds(30)
        socket = try await offload {
            let holder = try #require(lab.status().hosts.first { $0.name == host }?.holder)
            let namespace = try NetworkNamespace(of: holder)
            while true {
                do {
                    return try namespace.connect(ipv4: address, port: port)
                } catch let error as SyscallError {
                    guard error.code == ECONNREFUSED, ContinuousClock.now < deadline else { throw error }
                    poll(nil, 0, 20)
                }
            }
        }
    }

    /// Sends bytes as they are.
    func send(_ text: String) async throws {
        try await offload { [self] in try FileContents.writeAll(Array(text.utf8), to: socket) }
    }

    /// Waits until an answer ends with `end`, and takes it.
    func receive(until end: String) async throws -> String {
        try await offload { [self] in
            let end = Array(end.utf8)
            return String(decoding: try take { Self.find(end, in: $0).map { $0 + end.count } }, as: UTF8.self)
        }
    }

    /// Waits for this many bytes and takes them.
    func receive(count: Int) async throws -> [UInt8] {
        try await offload { [self] in try take { $0.count >= count ? count : nil } }
    }

    /// Sends a question and takes the answer.
    func ask(_ question: String, until end: String) async throws -> String {
        try await send(question)
        return try await receive(until: end)
    }

    /// Takes as many of the bytes that have come as `enough` says, once it says so.
    private func take(_ enough: ([UInt8]) -> Int?) throws -> [UInt8] {
        let deadline = ContinuousClock.now + Self.patience
        while true {
            let taken = received.withLock { bytes -> [UInt8]? in
                guard let count = enough(bytes) else { return nil }
                defer { bytes.removeFirst(count) }
                return Array(bytes[..<count])
            }
            if let taken { return taken }
            var entry = pollfd(fd: socket.raw, events: Int16(POLLIN), revents: 0)
            guard poll(&entry, 1, deadline.millisecondsLeft) > 0 else { throw Silence(cause: "no answer in time") }
            var buffer = [UInt8](repeating: 0, count: 64 << 10)
            let count = try syscall("read") { read(socket.raw, &buffer, buffer.count) }
            guard count > 0 else { throw Silence(cause: "the machine closed the connection") }
            received.withLock { $0 += buffer[..<count] }
        }
    }

    private static func find(_ pattern: [UInt8], in bytes: [UInt8]) -> Int? {
        guard bytes.count >= pattern.count else { return nil }
        return (0...(bytes.count - pattern.count)).first { bytes[$0...].starts(with: pattern) }
    }
}

/// Somebody who was expected to say something did not.
struct Silence: Error, CustomStringConvertible {
    let cause: String

    var description: String { cause }
}

/// Asks again and again until there is an answer, or fails after a minute.
func eventually<Value>(
    _ what: String,
    within limit: Duration = .seconds(60),
    _ look: () async throws -> Value?
) async throws -> Value {
    let deadline = ContinuousClock.now + limit
    while true {
        if let value = try await look() { return value }
        guard ContinuousClock.now < deadline else { throw Silence(cause: "\(what): not within \(limit)") }
        try await Task.sleep(for: .milliseconds(20))
    }
}

/// Something that goes on in parallel with a test's body until told to stop.
final class Flag: Sendable {
    private let raised = Mutex(false)

    var isRaised: Bool { raised.withLock { $0 } }

    func raise() { raised.withLock { $0 = true } }
}
