import Glibc
import LinuxSystem

/// Reads frames one after the other from a connection, waiting for each.
final class FrameReader {
    private let stream: Descriptor
    private let held = ByteQueue()

    init(_ stream: Descriptor) {
        self.stream = stream
    }

    /// Sends a small frame; a connection that takes none of it is broken.
    func send(_ frame: [UInt8]) throws {
        let sent = frame.withUnsafeBytes { StreamSocket.send(stream, $0) }
        guard sent == .moved(frame.count) else { throw IsolationError.noAnswer() }
    }

    /// The next frame; nil at the end of the connection.
    ///
    /// - Throws: `IsolationError` when the time is over, or for what is no frame.
    func next(before deadline: ContinuousClock.Instant) throws -> (FrameHeader, [UInt8])? {
        guard try fill(FrameHeader.size, deadline) else { return nil }
        let header = FrameHeader(decoding: held.bytes)
        guard header.length <= FrameHeader.maxData else { throw IsolationError.noAnswer() }
        guard try fill(FrameHeader.size + header.length, deadline) else { return nil }
        let payload = Array(held.bytes[FrameHeader.size..<FrameHeader.size + header.length])
        held.removeFirst(FrameHeader.size + header.length)
        return (header, payload)
    }

    /// Whether so many bytes are there; false at the end of the connection.
    private func fill(_ count: Int, _ deadline: ContinuousClock.Instant) throws -> Bool {
        while held.count < count {
            switch StreamSocket.receive(stream, into: held.space(16 << 10)) {
            case .moved(let moved): held.filled(moved)
            case .closed: return false
            case .wouldBlock:
                let left = deadline - .now
                guard left > .zero else { throw IsolationError.noAnswer() }
                _ = StreamSocket.wait(stream, for: POLLIN, atMost: left)
            }
        }
        return true
    }
}
