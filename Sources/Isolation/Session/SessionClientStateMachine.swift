/// The client's half of the session protocol, without any I/O: offsets, acknowledgements, and what to send again after
/// the connection was lost.
package struct SessionClientStateMachine: Sendable {
    /// Where the connection stands.
    package enum Link: Sendable, Equatable {
        case none
        /// The request has been sent, its answer is awaited.
        case requested
        case open
    }

    private struct Output: Sendable {
        var received: UInt64 = 0
        var written: UInt64 = 0
        var acknowledged: UInt64 = 0
        var ended = false
        /// Nobody reads it locally.
        var closed = false
    }

    private struct PendingSignal: Sendable {
        var sequence: UInt64
        var number: Int32
    }

    /// Bytes of input that are kept at most; at least smi-init's largest window, so that it can always be used fully.
    package static let inputCapacity: UInt64 = 256 << 10
    private static let acknowledgeEvery: UInt64 = 32 << 10

    package private(set) var link = Link.none
    /// How it ended; nil while it goes on.
    package private(set) var outcome: SessionOutcome?
    /// The session's number, once known.
    package private(set) var session: UInt32?
    private var window: WindowSize?
    private var outputs = [SessionStream.output: Output(), .error: Output()]
    private var inputAcknowledged: UInt64 = 0
    private var inputSent: UInt64 = 0
    private var inputRead: UInt64 = 0
    private var inputLimit: UInt64 = 0
    private var inputEnded = false
    private var endSent = false
    private var signals: [PendingSignal] = []
    private var lastSignal: UInt64 = 0
    private var detaching = false
    private var exit: SessionExit?

    /// A client that has not connected yet.
    package init(window: WindowSize? = nil) {
        self.window = window
    }

    /// How many bytes of input may be read now.
    package var inputRoom: Int {
        guard session != nil, outcome == nil, exit == nil, !inputEnded else { return 0 }
        return Int(Self.inputCapacity - min(Self.inputCapacity, inputRead - inputAcknowledged))
    }

    /// The first step: get a connection.
    package mutating func start() -> [SessionEffect] {
        [.dial]
    }

    /// Takes one event, and tells what to do, in this order.
    ///
    /// After `.finish` nothing more happens.
    package mutating func on(_ event: SessionEvent) -> [SessionEffect] {
        guard outcome == nil else { return [] }
        switch event {
        case .connected: return onConnected()
        case .disconnected: return onDisconnected()
        case .opened(let opened): return onOpened(opened)
        case .data(let stream, let offset, let count): return onData(stream, offset, count)
        case .ended(let stream, let offset): return onEnded(stream, offset)
        case .inputAcknowledged(let offset, let limit): return onInputAcknowledged(offset, limit)
        case .signalAcknowledged(let sequence):
            signals.removeAll { $0.sequence <= sequence }
            return []
        case .exited(let exit): return onExited(exit)
        case .taken: return finish(.taken(session: session ?? 0))
        case .refused(let code, let message): return onRefused(code, message)
        case .breach: return drop()
        case .inputRead(let count):
            inputRead += UInt64(count)
            return sendInput()
        case .inputEnded:
            inputEnded = true
            return sendInput()
        case .written(let stream, let count): return onWritten(stream, count)
        case .outputClosed(let stream): return onOutputClosed(stream)
        case .signal(let number): return onSignal(number)
        case .resized(let size):
            window = size
            return link == .open ? [.sendResize(size)] : []
        case .detach: return onDetach()
        case .giveUp: return finish(detaching ? .detached(session: session ?? 0) : .gaveUp)
        }
    }

    // MARK: The connection

    private mutating func onConnected() -> [SessionEffect] {
        guard link == .none else { return [] }
        link = .requested
        guard let session else { return [.sendStart(window)] }
        let output = outputs[.output]?.received ?? 0
        let error = outputs[.error]?.received ?? 0
        return [.sendResume(session: session, output: output, error: error, window)]
    }

    private mutating func onDisconnected() -> [SessionEffect] {
        link = .none
        if detaching { return finish(.detached(session: session ?? 0)) }
        // The program has ended and all is here: only local writing is left to do.
        return exit == nil ? [.dial] : []
    }

    /// The connection makes no sense: another one may.
    private mutating func drop() -> [SessionEffect] {
        link = .none
        return [.drop]
    }

    private mutating func onOpened(_ opened: SessionOpened) -> [SessionEffect] {
        guard link == .requested else { return drop() }
        let isFirst = session == nil
        guard isFirst || (opened.inputReceived >= inputAcknowledged && opened.inputReceived <= inputRead) else {
            return finish(.refused(.breach, message: "smi-init has other input than was sent"))
        }
        // An SMI that went back to an earlier epoch may have sent less than has arrived here.
        let starts: [(SessionStream, UInt64)] = [(.output, opened.outputStart), (.error, opened.errorStart)]
        guard starts.allSatisfy({ $1 >= outputs[$0]?.received ?? 0 }) else {
            return finish(.refused(.breach, message: "smi-init has sent less output than arrived"))
        }
        link = .open
        session = opened.session
        var effects: [SessionEffect] = []
        // What smi-init has is safe there, even where its acknowledgement was lost: without this the input could stay
        // full for ever.
        if !isFirst, opened.inputReceived > inputAcknowledged {
            inputAcknowledged = opened.inputReceived
            effects.append(.forgetInput(before: opened.inputReceived))
        }
        adopt(opened, isFirst: isFirst)
        if opened.dropped > 0 { effects.append(.reportDropped(opened.dropped)) }
        // Acknowledgements that were lost with the connection could hold the program up for ever.
        for stream in [SessionStream.output, .error] { effects += acknowledge(stream, always: true) }
        for (stream, output) in outputs.sorted(by: { $0.key.rawValue < $1.key.rawValue }) where output.closed {
            effects.append(.sendClose(stream))
        }
        if !isFirst { effects += window.map { [.sendResize($0)] } ?? [] }
        signals.removeAll { $0.sequence <= opened.lastSignal }
        effects += signals.map { .sendSignal(sequence: $0.sequence, number: $0.number) }
        effects += sendInput()
        if detaching { effects.append(.sendDetach) }
        return effects
    }

    private mutating func adopt(_ opened: SessionOpened, isFirst: Bool) {
        inputLimit = opened.inputLimit
        inputSent = opened.inputReceived
        endSent = false
        if isFirst {
            // Input read before is none: reading begins now. A session attached to counts on from where it is.
            inputAcknowledged = opened.inputReceived
            inputRead = opened.inputReceived
            lastSignal = opened.lastSignal
            for index in signals.indices { signals[index].sequence = lastSignal + UInt64(index) + 1 }
            lastSignal += UInt64(signals.count)
        }
        start(.output, at: opened.outputStart, isFirst: isFirst)
        start(.error, at: opened.errorStart, isFirst: isFirst)
    }

    private mutating func start(_ stream: SessionStream, at offset: UInt64, isFirst: Bool) {
        let gap = offset - (outputs[stream]?.received ?? 0)
        // What was dropped counts as written; what is being written still does not.
        outputs[stream]?.received = offset
        outputs[stream]?.written += gap
        outputs[stream]?.ended = false
    }

    // MARK: Output

    private mutating func onData(_ stream: SessionStream, _ offset: UInt64, _ count: Int) -> [SessionEffect] {
        guard link == .open, stream != .input, var output = outputs[stream], offset <= output.received else {
            return drop()
        }
        let known = output.received - offset
        guard known < UInt64(count) else { return [] }
        let new = count - Int(known)
        output.received += UInt64(new)
        if output.closed { output.written = output.received }
        outputs[stream] = output
        return output.closed ? acknowledge(stream) : [.deliver(stream, skip: Int(known), count: new)]
    }

    private mutating func onEnded(_ stream: SessionStream, _ offset: UInt64) -> [SessionEffect] {
        guard link == .open, let output = outputs[stream], output.closed || offset == output.received else {
            return drop()
        }
        outputs[stream]?.ended = true
        return []
    }

    private mutating func onWritten(_ stream: SessionStream, _ count: Int) -> [SessionEffect] {
        outputs[stream]?.written += UInt64(count)
        let effects = acknowledge(stream)
        return effects + finishWhenWritten()
    }

    private mutating func onOutputClosed(_ stream: SessionStream) -> [SessionEffect] {
        guard let output = outputs[stream], !output.closed else { return [] }
        outputs[stream]?.closed = true
        outputs[stream]?.written = output.received
        let close: [SessionEffect] = link == .open ? [.sendClose(stream)] : []
        return close + acknowledge(stream, always: true) + finishWhenWritten()
    }

    private mutating func acknowledge(_ stream: SessionStream, always: Bool = false) -> [SessionEffect] {
        guard link == .open, let output = outputs[stream] else { return [] }
        let news = output.written - min(output.written, output.acknowledged)
        let isDue = news >= Self.acknowledgeEvery || (news > 0 && output.written == output.received)
        guard isDue || (always && output.written > 0) else { return [] }
        outputs[stream]?.acknowledged = output.written
        return [.sendAcknowledge(stream, offset: output.written)]
    }

    // MARK: Input

    private mutating func onInputAcknowledged(_ offset: UInt64, _ limit: UInt64) -> [SessionEffect] {
        guard link == .open, offset <= inputSent, limit >= inputLimit else { return drop() }
        var effects: [SessionEffect] = []
        if offset > inputAcknowledged {
            inputAcknowledged = offset
            effects.append(.forgetInput(before: offset))
        }
        inputLimit = limit
        return effects + sendInput()
    }

    private mutating func sendInput() -> [SessionEffect] {
        guard link == .open, exit == nil else { return [] }
        var effects: [SessionEffect] = []
        let upTo = min(inputLimit, inputRead)
        if upTo > inputSent {
            effects.append(.sendInput(offset: inputSent, count: Int(upTo - inputSent)))
            inputSent = upTo
        }
        if inputEnded, inputSent == inputRead, !endSent {
            endSent = true
            effects.append(.sendEnd(offset: inputRead))
        }
        return effects
    }

    private mutating func onSignal(_ number: Int32) -> [SessionEffect] {
        guard exit == nil else { return [] }
        lastSignal += 1
        signals.append(PendingSignal(sequence: lastSignal, number: number))
        return link == .open ? [.sendSignal(sequence: lastSignal, number: number)] : []
    }

    // MARK: The end

    private mutating func onDetach() -> [SessionEffect] {
        guard !detaching else { return [] }
        detaching = true
        // Without a connection the session counts as detached before long anyway.
        return link == .open ? [.sendDetach] : finish(.detached(session: session ?? 0))
    }

    private mutating func onExited(_ exit: SessionExit) -> [SessionEffect] {
        guard link == .open, outputs.values.allSatisfy(\.ended) else { return drop() }
        self.exit = exit
        return finishWhenWritten()
    }

    private mutating func finishWhenWritten() -> [SessionEffect] {
        guard let exit, outputs.values.allSatisfy({ $0.written == $0.received }) else { return [] }
        let acknowledgement: [SessionEffect] = link == .open ? [.sendExitAcknowledge] : []
        return acknowledgement + finish(.exited(exit))
    }

    private mutating func onRefused(_ code: SessionRefusal, _ message: String) -> [SessionEffect] {
        if code == .taken { return finish(.taken(session: session ?? 0)) }
        return finish(.refused(code, message: message))
    }

    private mutating func finish(_ outcome: SessionOutcome) -> [SessionEffect] {
        self.outcome = outcome
        return [.finish(outcome)]
    }
}
