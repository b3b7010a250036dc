/// The kinds of frames of the session protocol (docs/session-protocol.md).
package enum FrameType: UInt8, Sendable {
    case open = 0x01
    case attach = 0x02
    case list = 0x03
    case status = 0x04
    case logs = 0x05
    case quiesce = 0x06
    case bye = 0x07
    case data = 0x10
    case end = 0x11
    case acknowledge = 0x12
    case close = 0x13
    case resize = 0x20
    case signal = 0x21
    case signalAcknowledge = 0x22
    case detach = 0x23
    case exitAcknowledge = 0x24
    case opened = 0x40
    case exited = 0x41
    case taken = 0x42
    case refused = 0x43
    case session = 0x44
    case listEnd = 0x45
    case statusReply = 0x46
    case logData = 0x47
    case logEnd = 0x48
    case quiesced = 0x49
}

/// A stream of a session.
package enum SessionStream: UInt8, Sendable, CaseIterable {
    case input = 0
    case output = 1
    case error = 2
}

/// The 16 bytes before every payload.
package struct FrameHeader: Sendable, Equatable {
    /// Bytes of a header.
    package static let size = 16
    /// The largest payload of a DATA frame.
    package static let maxData = 65536

    package var type: UInt8
    package var stream: UInt8
    package var value: UInt64
    /// Bytes of payload that follow.
    package var length: Int

    /// A header to be sent.
    package init(_ type: FrameType, stream: UInt8 = 0, value: UInt64 = 0, length: Int = 0) {
        self.type = type.rawValue
        self.stream = stream
        self.value = value
        self.length = length
    }

    /// Reads a header; the buffer holds 16 bytes.
    package init(decoding bytes: UnsafeRawBufferPointer) {
        length = Int(UInt32(littleEndian: bytes.loadUnaligned(as: UInt32.self)))
        type = bytes[4]
        stream = bytes[5]
        value = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
    }

    /// The kind of frame; nil for one that this version does not know.
    package var kind: FrameType? { FrameType(rawValue: type) }

    /// The header's bytes.
    package func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.integer(UInt32(length))
        writer.integer(type)
        writer.integer(stream)
        writer.integer(UInt16(0))
        writer.integer(value)
        return writer.bytes
    }

    /// A whole frame with a small payload.
    package static func frame(
        _ type: FrameType,
        stream: UInt8 = 0,
        value: UInt64 = 0,
        payload: [UInt8] = []
    ) -> [UInt8] {
        FrameHeader(type, stream: stream, value: value, length: payload.count).encoded() + payload
    }
}

/// Names one client's claim to a session; 16 random bytes.
package struct SessionKey: Sendable, Equatable {
    /// Bytes of a key.
    package static let size = 16
    package let bytes: [UInt8]

    /// A new key.
    package init() {
        var generator = SystemRandomNumberGenerator()
        bytes = (0..<Self.size).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    }
}

/// A terminal's size in characters.
package struct WindowSize: Sendable, Equatable {
    package var rows: UInt16
    package var columns: UInt16

    /// A size.
    package init(rows: UInt16, columns: UInt16) {
        self.rows = rows
        self.columns = columns
    }
}

/// What a session client asks for first.
package enum SessionStart: Sendable, Equatable {
    /// A program with pipes.
    case exec(argv: [String], environment: [String], workingDirectory: String)
    /// A program on a new terminal; an empty argv is a login shell.
    case terminal(argv: [String], environment: [String], workingDirectory: String)
    /// A terminal session that exists.
    case attach(session: UInt32)

    /// Whether the session has a terminal.
    package var isTerminal: Bool {
        if case .exec = self { return false }
        return true
    }

    /// The first frame of a new session or client.
    package func frame(key: SessionKey, window: WindowSize?) -> [UInt8] {
        switch self {
        case .exec(let argv, let environment, let directory):
            Self.open(key, mode: 1, window, argv, environment, directory)
        case .terminal(let argv, let environment, let directory):
            Self.open(key, mode: 2, window, argv, environment, directory)
        case .attach(let session):
            Self.attachFrame(key: key, session: session, resume: false, window: window, received: (0, 0))
        }
    }

    /// The frame that goes on with a session after a loss of the connection.
    package static func resumeFrame(
        key: SessionKey,
        session: UInt32,
        window: WindowSize?,
        received: (UInt64, UInt64)
    ) -> [UInt8] {
        attachFrame(key: key, session: session, resume: true, window: window, received: received)
    }

    private static func open(
        _ key: SessionKey,
        mode: UInt8,
        _ window: WindowSize?,
        _ argv: [String],
        _ environment: [String],
        _ directory: String
    ) -> [UInt8] {
        var writer = ByteWriter()
        writer.raw(key.bytes)
        writer.raw([mode, 0, 0, 0])
        writer.integer(window?.rows ?? 0)
        writer.integer(window?.columns ?? 0)
        writer.list(argv)
        writer.list(environment)
        writer.string(directory)
        return FrameHeader.frame(.open, payload: writer.bytes)
    }

    private static func attachFrame(
        key: SessionKey,
        session: UInt32,
        resume: Bool,
        window: WindowSize?,
        received: (UInt64, UInt64)
    ) -> [UInt8] {
        var writer = ByteWriter()
        writer.raw(key.bytes)
        writer.integer(session)
        writer.raw([resume ? 1 : 0, 0, 0, 0])
        writer.integer(window?.rows ?? 0)
        writer.integer(window?.columns ?? 0)
        writer.integer(received.0)
        writer.integer(received.1)
        return FrameHeader.frame(.attach, payload: writer.bytes)
    }
}
