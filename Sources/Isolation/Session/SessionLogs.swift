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
        let reader = FrameReader(link.stream)
        try reader.send(FrameHeader.frame(.logs, stream: follow ? 1 : 0, value: offset ?? 0))
        if offset == nil { offset = 0 }
        while let (header, payload) = try reader.next(before: nil, orEndOf: link.leash) {
            switch header.kind {
            case .logData:
                offset = header.value + UInt64(payload.count)
                guard writeAll(payload, to: output) else { return true }
            case .logEnd: return true
            case .refused:
                let message = String(decoding: payload, as: UTF8.self)
                throw IsolationError.refusal(SessionRefusal(rawValue: header.value), message)
            default: throw IsolationError.noAnswer()
            }
        }
        return false
    }

    /// Writes everything, waiting as long as the reader takes; false: nobody reads any more.
    private static func writeAll(_ bytes: [UInt8], to output: Int32) -> Bool {
        var written = 0
        while written < bytes.count {
            let count = bytes.withUnsafeBytes { write(output, $0.baseAddress.map { $0 + written }, $0.count - written) }
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
