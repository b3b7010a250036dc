import Glibc
import LinuxSystem

/// The client's bytes and frames.
extension SessionClient {
    private static let receivesPerTurn = 4
    private static let largestRead = 128 << 10

    // MARK: Effects

    func perform(_ effects: [SessionEffect], data: UnsafeRawBufferPointer? = nil) {
        for effect in effects { perform(effect, data) }
    }

    private func perform(_ effect: SessionEffect, _ data: UnsafeRawBufferPointer?) {
        switch effect {
        case .dial: redial()
        case .drop: lost()
        case .deliver(let stream, let skip, let count):
            if let data { deliver(stream, UnsafeRawBufferPointer(rebasing: data[skip..<skip + count])) }
        case .forgetInput(let offset):
            input.removeFirst(Int(offset - inputBase))
            inputBase = offset
        case .reportDropped(let count):
            dropped += count
            onDropped?(count)
        case .finish: break
        default: send(effect)
        }
    }

    private func send(_ effect: SessionEffect) {
        switch effect {
        case .sendStart(let window): outgoing.append(start.frame(key: key, window: window))
        case .sendResume(let session, let output, let error, let window):
            outgoing.append(
                SessionStart.resumeFrame(key: key, session: session, window: window, received: (output, error))
            )
        case .sendInput(let offset, let count): sendInput(offset, count)
        case .sendEnd(let offset): outgoing.append(FrameHeader.frame(.end, value: offset))
        case .sendAcknowledge(let stream, let offset):
            outgoing.append(FrameHeader.frame(.acknowledge, stream: stream.rawValue, value: offset))
        case .sendClose(let stream): outgoing.append(FrameHeader.frame(.close, stream: stream.rawValue))
        case .sendResize(let size):
            outgoing.append(FrameHeader.frame(.resize, value: UInt64(size.rows) << 16 | UInt64(size.columns)))
        case .sendSignal(let sequence, let number):
            var payload = ByteWriter()
            payload.integer(UInt32(bitPattern: number))
            outgoing.append(FrameHeader.frame(.signal, value: sequence, payload: payload.bytes))
        case .sendDetach: outgoing.append(FrameHeader.frame(.detach))
        case .sendExitAcknowledge: outgoing.append(FrameHeader.frame(.exitAcknowledge))
        default: break
        }
        sendOutgoing()
    }

    private func sendInput(_ offset: UInt64, _ count: Int) {
        var from = Int(offset - inputBase)
        let end = from + count
        while from < end {
            let piece = min(FrameHeader.maxData, end - from)
            outgoing.append(FrameHeader(.data, value: inputBase + UInt64(from), length: piece).encoded())
            outgoing.append(UnsafeRawBufferPointer(rebasing: input.bytes[from..<from + piece]))
            from += piece
        }
    }

    // MARK: The connection

    func transfer() {
        sendOutgoing()
        for _ in 0..<Self.receivesPerTurn {
            guard let stream = link?.stream, machine.outcome == nil else { return }
            switch StreamSocket.receive(stream, into: incoming) {
            case .moved(let count): take(UnsafeRawBufferPointer(rebasing: incoming[..<count]), from: stream)
            case .wouldBlock: return
            case .closed: return lost()
            }
        }
    }

    private func take(_ bytes: UnsafeRawBufferPointer, from stream: Descriptor) {
        // The parser is a value and the handler may replace the connection: what follows then belongs to the old one.
        var parser = self.parser
        parser.feed(bytes) { piece in
            handle(piece)
            return machine.outcome == nil && link?.stream === stream
        }
        if link?.stream === stream { self.parser = parser }
    }

    private func handle(_ piece: FrameParser.Piece) {
        switch piece {
        case .data(let header, let offset, let bytes):
            guard header.kind == .data, let stream = SessionStream(rawValue: header.stream) else {
                return feed(.breach)
            }
            perform(machine.on(.data(stream, offset: offset, count: bytes.count)), data: bytes)
        case .frame(let header, let payload):
            let event = SessionEvent(header, payload)
            if case .opened(let opened) = event { accept(opened) }
            feed(event)
        case .breach: feed(.breach)
        }
    }

    private func accept(_ opened: SessionOpened) {
        if machine.session == nil { inputBase = opened.inputReceived }
        connectionWorks()
    }

    func sendOutgoing() {
        while let stream = link?.stream, !outgoing.isEmpty {
            switch StreamSocket.send(stream, outgoing.bytes) {
            case .moved(let count): outgoing.removeFirst(count)
            case .wouldBlock: return
            // Whatever can still be received is received first; then the loss shows there.
            case .closed: return outgoing.removeAll()
            }
        }
    }

    /// The last words (that the exit status has arrived) are worth a moment.
    func flushLast() {
        let deadline = ContinuousClock.now + Self.detachWithin
        while let stream = link?.stream, !outgoing.isEmpty, ContinuousClock.now < deadline {
            guard StreamSocket.wait(stream, for: POLLOUT, atMost: deadline - .now) else { return }
            sendOutgoing()
        }
        // smi-init ends the connection once it has forgotten the session; a relay must not be cut before that.
        if case .exited = machine.outcome, let stream = link?.stream {
            _ = StreamSocket.wait(stream, for: POLLIN, atMost: Self.goodbyeWithin)
        }
    }

    // MARK: Local output

    private func queue(_ stream: SessionStream) -> ByteQueue { pending[stream == .output ? 0 : 1] }

    private func end(_ stream: SessionStream) -> WriteEnd { stream == .output ? local.output : local.error }

    private func deliver(_ stream: SessionStream, _ bytes: UnsafeRawBufferPointer) {
        let queue = queue(stream)
        guard queue.isEmpty else { return queue.append(bytes) }
        var rest = bytes
        while !rest.isEmpty {
            switch end(stream).write(rest) {
            case .moved(let count):
                rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(count))
                if rest.isEmpty { return feed(.written(stream, count: bytes.count)) }
            case .wouldBlock:
                queue.append(rest)
                let written = bytes.count - rest.count
                if written > 0 { feed(.written(stream, count: written)) }
                return
            case .closed: return closed(stream)
            }
        }
    }

    func flush(_ stream: SessionStream) {
        let queue = queue(stream)
        while !queue.isEmpty {
            switch end(stream).write(queue.bytes) {
            case .moved(let count):
                queue.removeFirst(count)
                feed(.written(stream, count: count))
            case .wouldBlock: return
            case .closed: return closed(stream)
            }
        }
    }

    private func closed(_ stream: SessionStream) {
        queue(stream).removeAll()
        // A terminal that has gone away ends its client, not the session.
        if start.isTerminal { detach() }
        feed(.outputClosed(stream))
    }

    // MARK: Local input

    func readInput() {
        let room = min(machine.inputRoom, Self.largestRead)
        guard room > 0 else { return }
        let space = input.space(room)
        let count = read(local.input, space.baseAddress, local.isRaw ? min(room, 4096) : room)
        let code = errno
        switch StreamSocket.outcome(count, code: code, atEnd: .closed(code: 0)) {
        case .moved(let count) where local.isRaw:
            typed(Array(space[..<count]))
        case .moved(let count):
            input.filled(count)
            feed(.inputRead(count))
        case .wouldBlock: break
        case .closed where local.isRaw: detach()
        case .closed: feed(.inputEnded)
        }
    }

    private func typed(_ bytes: [UInt8]) {
        let (pass, leaves) = keys.filter(bytes)
        take(pass)
        releaseKeyAt = keys.isHolding ? .now + Self.holdKeyFor : nil
        if leaves { detach() }
    }

    func take(_ bytes: [UInt8]) {
        guard !bytes.isEmpty else { return }
        input.append(bytes)
        feed(.inputRead(bytes.count))
    }
}
