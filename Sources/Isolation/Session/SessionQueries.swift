import Glibc
import LinuxSystem

/// One session, as `list` tells it.
package struct SessionSummary: Sendable, Equatable {
    package var session: UInt32
    package var isTerminal: Bool
    /// Whether a client has it now.
    package var isAttached: Bool
    package var pid: Int32
    /// How it ended; nil while it runs.
    package var exit: SessionExit?
    /// Seconds since 1970.
    package var started: UInt64
    /// The command, cut to 127 bytes.
    package var title: String

    init?(_ header: FrameHeader, _ payload: [UInt8]) {
        var reader = ByteReader(payload)
        guard let mode = reader.integer(UInt8.self), let ended = reader.integer(UInt8.self),
            let attached = reader.integer(UInt8.self), let how = reader.integer(UInt8.self),
            let pid = reader.integer(Int32.self), let code = reader.integer(Int32.self),
            let started = reader.integer(UInt64.self), let title = reader.string()
        else { return nil }
        session = UInt32(truncatingIfNeeded: header.value)
        isTerminal = mode == 2
        isAttached = attached == 1
        self.pid = pid
        exit = ended == 1 ? SessionExit(how: how, stage: 0, code: code) : nil
        self.started = started
        self.title = title
    }
}

/// smi-init's view of its sandbox, as `status` tells it.
package struct InitReport: Sendable, Equatable {
    /// The main program.
    package enum Program: Sendable, Equatable {
        case none
        case running(pid: Int32)
        case exited(status: Int32)
        case killed(signal: Int32)
    }

    /// smi-init's version, such as `0.1.0`.
    package var version: String
    package var program: Program
    /// Seconds since 1970; 0 where it does not apply.
    package var programStarted: UInt64
    package var programEnded: UInt64
    package var liveSessions: Int
    package var connections: Int
    /// Bytes that the main program has written to its log.
    package var logBytes: UInt64
    /// Bytes of them that could not be kept, as when the disk was full.
    package var logBytesLost: UInt64
    package var isStopping: Bool

    init?(_ payload: [UInt8]) {
        var reader = ByteReader(payload)
        guard let version = reader.integer(UInt32.self), let state = reader.integer(UInt32.self),
            let pid = reader.integer(Int32.self), let code = reader.integer(Int32.self),
            let started = reader.integer(UInt64.self), let ended = reader.integer(UInt64.self),
            let sessions = reader.integer(UInt32.self), let connections = reader.integer(UInt32.self),
            let end = reader.integer(UInt64.self), let lost = reader.integer(UInt64.self),
            let stopping = reader.integer(UInt32.self)
        else { return nil }
        self.version = "\(version >> 16 & 255).\(version >> 8 & 255).\(version & 255)"
        switch state {
        case 1: program = .running(pid: pid)
        case 2: program = .exited(status: code)
        case 3: program = .killed(signal: code)
        default: program = .none
        }
        programStarted = started
        programEnded = ended
        liveSessions = Int(sessions)
        self.connections = Int(connections)
        logBytes = end
        logBytesLost = lost
        isStopping = stopping != 0
    }
}

/// Questions to smi-init: one frame out, a few back. These calls wait; use them from `offload`.
extension SessionCommands {
    /// The sessions, oldest first.
    package static func list(timeout: Duration = .seconds(5), dial: SessionDial) throws -> [SessionSummary] {
        var sessions: [SessionSummary] = []
        try ask(.list, until: .listEnd, timeout, dial) { header, payload in
            if header.kind == .session, let summary = SessionSummary(header, payload) { sessions.append(summary) }
        }
        return sessions.sorted { $0.session < $1.session }
    }

    /// smi-init and the main program.
    package static func status(timeout: Duration = .seconds(5), dial: SessionDial) throws -> InitReport {
        var report: InitReport?
        try ask(.status, until: .statusReply, timeout, dial) { report = InitReport($1) }
        guard let report else { throw IsolationError.noAnswer() }
        return report
    }

    private static func ask(
        _ question: FrameType,
        until last: FrameType,
        _ timeout: Duration,
        _ dial: SessionDial,
        _ take: (FrameHeader, [UInt8]) -> Void
    ) throws {
        let link = try dial()
        let reader = FrameReader(link.stream)
        try reader.send(FrameHeader.frame(question))
        let deadline = ContinuousClock.now + timeout
        while let (header, payload) = try reader.next(before: deadline) {
            if header.kind == .refused {
                let message = String(decoding: payload, as: UTF8.self)
                throw IsolationError.refusal(SessionRefusal(rawValue: header.value), message)
            }
            take(header, payload)
            if header.kind == last { return }
        }
        throw IsolationError.noAnswer()
    }
}
