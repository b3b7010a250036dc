import Glibc
import LinuxSystem

/// The main program's log.
extension SessionCommands {
    private static let firstDelay = Duration.milliseconds(10)
    private static let longestDelay = Duration.milliseconds(500)

    /// Writes the main program's output to a descriptor, and with `follow` goes on as it grows, over hand-offs too.
    ///
    /// Returns at the end of the log, when nobody reads the output any more, or (following) never.
    ///
    /// - Throws: `IsolationError`, or the dialling error.
    package static func logs(
        follow: Bool,
        to output: Int32 = STDOUT_FILENO,
        patience: Duration = .seconds(120),
        dial: SessionDial
    ) throws {
        // Where the reader goes away, writing fails, and that is a good end.
        signal(SIGPIPE, SIG_IGN)
        var offset: UInt64?
        var delay = firstDelay
        var deadline = ContinuousClock.now + patience
        while true {
            do {
                let before = offset
                if try transfer(from: &offset, follow, output, dial()) { return }
                if offset != before {
                    deadline = .now + patience
                    delay = firstDelay
                }
            } catch let error as IsolationError where offset != nil && error.isWorthRetrying && .now < deadline {
                // Below: the SMI may be on its way.
            }
            guard ContinuousClock.now < deadline else { throw IsolationError.lost(nil) }
            pause(delay)
            delay = min(delay * 2, longestDelay)
        }
    }

    /// Copies what one connection brings; true: that was all.
    private static func transfer(
        from offset: inout UInt64?,
        _ follow: Bool,
        _ output: Int32,
        _ link: SessionLink
    ) throws -> Bool {
        let request = FrameHeader.frame(.logs, stream: follow ? 1 : 0, value: offset ?? 0)
        guard request.withUnsafeBytes({ StreamSocket.send(link.stream, $0) }) == .moved(request.count) else {
            return false
        }
        var reached = offset ?? 0
        defer { offset = reached }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 16)
        defer { buffer.deallocate() }
        var parser = FrameParser()
        while let bytes = receive(link, into: buffer) {
            var end: Result<Bool, IsolationError>?
            parser.feed(bytes) { piece in
                end = take(piece, &reached, output)
                return end == nil
            }
            if let end { return try end.get() }
        }
        return false
    }

    /// Writes a piece out, as far as it has come; nil: go on.
    private static func take(
        _ piece: FrameParser.Piece,
        _ reached: inout UInt64,
        _ output: Int32
    ) -> Result<Bool, IsolationError>? {
        switch piece {
        case .data(let header, let offset, let bytes):
            guard header.kind == .logData else { return .failure(.noAnswer()) }
            reached = offset + UInt64(bytes.count)
            return writeAll(bytes, to: output) ? nil : .success(true)
        case .frame(let header, let payload) where header.kind == .refused:
            let message = String(decoding: payload, as: UTF8.self)
            return .failure(.refusal(SessionRefusal(rawValue: header.value), message))
        case .frame(let header, _): return header.kind == .logEnd ? .success(true) : .failure(.noAnswer())
        case .breach: return .failure(.noAnswer())
        }
    }

    /// The next bytes; nil when the connection or its leash has ended.
    private static func receive(
        _ link: SessionLink,
        into buffer: UnsafeMutableRawBufferPointer
    ) -> UnsafeRawBufferPointer? {
        while true {
            switch StreamSocket.receive(link.stream, into: buffer) {
            case .moved(let count): return UnsafeRawBufferPointer(rebasing: buffer[..<count])
            case .closed: return nil
            case .wouldBlock:
                var waits = WaitSet()
                _ = waits.add(link.stream.raw, POLLIN)
                let ended = waits.add(link.leash?.raw, POLLIN)
                waits.wait(atMost: nil)
                if waits.isReady(ended) { return nil }
            }
        }
    }

    /// Writes everything, waiting as long as the reader takes; false: nobody reads any more.
    private static func writeAll(_ bytes: UnsafeRawBufferPointer, to output: Int32) -> Bool {
        var written = 0
        while written < bytes.count {
            let count = write(output, bytes.baseAddress.map { $0 + written }, bytes.count - written)
            let code = errno
            if count > 0 {
                written += count
            } else if code == EAGAIN {
                var entry = pollfd(fd: output, events: Int16(POLLOUT), revents: 0)
                _ = poll(&entry, 1, -1)
            } else if code != EINTR {
                return false
            }
        }
        return true
    }

    private static func pause(_ time: Duration) {
        _ = poll(nil, 0, time.milliseconds)
    }
}
