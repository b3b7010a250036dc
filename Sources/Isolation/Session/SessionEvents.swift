/// Answers of smi-init, decoded.
package struct SessionOpened: Sendable, Equatable {
    package var session: UInt32
    package var isTerminal: Bool
    package var isNew: Bool
    package var pid: Int32
    /// smi-init has all input before this offset.
    package var inputReceived: UInt64
    /// Input may be sent up to here.
    package var inputLimit: UInt64
    /// Where each output goes on.
    package var outputStart: UInt64
    package var errorStart: UInt64
    /// Output that was dropped while no client was there, bytes.
    package var dropped: UInt64
    /// Number of the last signal delivered.
    package var lastSignal: UInt64

    /// An answer, as a test writes it.
    package init(
        session: UInt32,
        isTerminal: Bool = false,
        isNew: Bool = true,
        pid: Int32 = 2,
        inputReceived: UInt64 = 0,
        inputLimit: UInt64,
        outputStart: UInt64 = 0,
        errorStart: UInt64 = 0,
        dropped: UInt64 = 0,
        lastSignal: UInt64 = 0
    ) {
        self.session = session
        self.isTerminal = isTerminal
        self.isNew = isNew
        self.pid = pid
        self.inputReceived = inputReceived
        self.inputLimit = inputLimit
        self.outputStart = outputStart
        self.errorStart = errorStart
        self.dropped = dropped
        self.lastSignal = lastSignal
    }

    /// Reads an OPENED frame; nil where it is malformed.
    package init?(session value: UInt64, payload: [UInt8]) {
        var reader = ByteReader(payload)
        guard let mode = reader.integer(UInt8.self), let new = reader.integer(UInt8.self), reader.raw(2) != nil,
            let pid = reader.integer(Int32.self), let received = reader.integer(UInt64.self),
            let limit = reader.integer(UInt64.self), let output = reader.integer(UInt64.self),
            let error = reader.integer(UInt64.self), let dropped = reader.integer(UInt64.self),
            let signal = reader.integer(UInt64.self)
        else { return nil }
        self.init(
            session: UInt32(truncatingIfNeeded: value),
            isTerminal: mode == 2,
            isNew: new == 1,
            pid: pid,
            inputReceived: received,
            inputLimit: limit,
            outputStart: output,
            errorStart: error,
            dropped: dropped,
            lastSignal: signal
        )
    }
}

/// How a session's program ended.
package enum SessionExit: Sendable, Equatable {
    case status(Int32)
    case signal(Int32)
    /// It was never started: the stage (see the protocol) and errno.
    case notStarted(stage: UInt8, code: Int32)

    /// Reads the first bytes of an EXITED frame's payload; nil where they make no sense.
    package init?(how: UInt8, stage: UInt8, code: Int32) {
        switch how {
        case 1: self = .status(code)
        case 2: self = .signal(code)
        case 3: self = .notStarted(stage: stage, code: code)
        default: return nil
        }
    }

    /// Reads an EXITED frame; nil where it is malformed.
    package init?(payload: [UInt8]) {
        var reader = ByteReader(payload)
        guard let how = reader.integer(UInt8.self), let stage = reader.integer(UInt8.self), reader.raw(2) != nil,
            let code = reader.integer(Int32.self)
        else { return nil }
        self.init(how: how, stage: stage, code: code)
    }
}

/// Why smi-init refused (REFUSED); new codes may come.
package struct SessionRefusal: Sendable, Equatable, RawRepresentable {
    package let rawValue: UInt64

    package init(rawValue: UInt64) {
        self.rawValue = rawValue
    }

    package static let breach = SessionRefusal(rawValue: 1)
    package static let noSession = SessionRefusal(rawValue: 2)
    package static let taken = SessionRefusal(rawValue: 3)
    package static let tooMany = SessionRefusal(rawValue: 4)
    package static let resources = SessionRefusal(rawValue: 5)
    package static let abandoned = SessionRefusal(rawValue: 6)
    package static let noTerminal = SessionRefusal(rawValue: 7)
    package static let stopping = SessionRefusal(rawValue: 8)
}

/// How a session client's work ended.
package enum SessionOutcome: Sendable, Equatable {
    case exited(SessionExit)
    /// The user left; the session goes on.
    case detached(session: UInt32)
    /// Another client has the session.
    case taken(session: UInt32)
    case refused(SessionRefusal, message: String)
    /// The driver gave up, e.g. because no connection could be had in time.
    case gaveUp
}

/// What happens to a session client.
package enum SessionEvent: Sendable, Equatable {
    /// There is an authenticated connection.
    case connected
    /// The connection is gone.
    case disconnected

    case opened(SessionOpened)
    case data(SessionStream, offset: UInt64, count: Int)
    case ended(SessionStream, offset: UInt64)
    case inputAcknowledged(offset: UInt64, limit: UInt64)
    case signalAcknowledged(UInt64)
    case exited(SessionExit)
    case taken
    case refused(SessionRefusal, message: String)
    /// A frame that makes no sense.
    case breach

    /// Bytes were read from the local standard input, and kept.
    case inputRead(Int)
    case inputEnded
    /// Bytes of an output were written locally.
    case written(SessionStream, count: Int)
    /// Nobody reads this output locally any more.
    case outputClosed(SessionStream)
    case signal(Int32)
    case resized(WindowSize)
    case detach
    case giveUp
}

/// What a session client has to do.
package enum SessionEffect: Sendable, Equatable {
    /// Get another connection.
    case dial
    /// End this connection, and report `.disconnected`.
    case drop
    case sendStart(WindowSize?)
    case sendResume(session: UInt32, output: UInt64, error: UInt64, WindowSize?)
    case sendInput(offset: UInt64, count: Int)
    case sendEnd(offset: UInt64)
    case sendAcknowledge(SessionStream, offset: UInt64)
    case sendClose(SessionStream)
    case sendResize(WindowSize)
    case sendSignal(sequence: UInt64, number: Int32)
    case sendDetach
    case sendExitAcknowledge
    /// Input before this offset is not needed any more.
    case forgetInput(before: UInt64)
    /// Of the bytes of the data event, write this part out.
    case deliver(SessionStream, skip: Int, count: Int)
    /// Tell the user that output is missing.
    case reportDropped(UInt64)
    case finish(SessionOutcome)
}
