#if canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#elseif canImport(Darwin)
import Darwin
#endif

/// Plays a trace back: lines in the order of the file, spaced as their times are, `speed` times as fast.
package struct RoamReplay: Sendable {
    /// How fast; `.infinity` waits for nothing.
    package var speed: Double

    /// What was played.
    package struct Summary: Sendable, Hashable {
        /// Lines handed on.
        package var lines = 0
        /// Lines that could not be read.
        package var malformed = 0
        /// Number of the first of them, counted from 1.
        package var firstMalformed: Int?
    }

    package init(speed: Double = 1) {
        self.speed = speed
    }

    /// Plays a file, `-` for standard input.
    ///
    /// The sink gets each line at its moment, with the time of the trace; give it to a live daemon without, so that its
    /// record bears the time of the replay. Ends early, without an error, when the task is cancelled. Throws
    /// `RoamingError` where the file cannot be read or is no trace.
    package func run(
        file path: String,
        sink: (RoamLine) async throws -> Void
    ) async throws -> Summary {
        let descriptor = path == "-" ? 0 : open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw RoamingError(
                .trace,
                cause: "cannot open \(path): \(String(cString: strerror(errno)))",
                remedy: "name a CSV file with a header, or a file of JSON lines"
            )
        }
        defer { if descriptor != 0 { close(descriptor) } }
        return try await run(read: { try Self.read(descriptor, path) }, name: path, sink: sink)
    }

    /// Plays what `read` gives, chunk by chunk until an empty one.
    package func run(
        read: () throws -> [UInt8],
        name: String,
        sink: (RoamLine) async throws -> Void
    ) async throws -> Summary {
        var parser = RoamLineParser()
        var summary = Summary()
        var pending: [UInt8] = []
        var origin: (trace: Double, clock: ContinuousClock.Instant)?
        var isFirst = true
        var isEnd = false
        var number = 0
        while !isEnd, !Task.isCancelled {
            let chunk = try read()
            isEnd = chunk.isEmpty
            if isFirst, chunk.starts(with: [0x1f, 0x8b]) { throw Self.compressed(name) }
            isFirst = false
            pending += isEnd && !pending.isEmpty ? [0x0a] : chunk
            var start = 0
            while let end = pending[start...].firstIndex(of: 0x0a) {
                number += 1
                let line = parser.parse(pending[start..<end])
                start = end + 1
                if parser.malformed > 0, summary.firstMalformed == nil { summary.firstMalformed = number }
                guard let line else { continue }
                try? await wait(for: line, &origin)
                guard !Task.isCancelled else { break }
                try await sink(line)
                summary.lines += 1
            }
            pending.removeFirst(start)
            // A line without end is no line, and must not fill the memory.
            if pending.count > 16 * RoamLine.maximumLength { pending = [] }
            guard !parser.isUnusable else { throw Self.headless(name) }
        }
        summary.malformed = parser.malformed
        return summary
    }

    /// Sleeps until a line's moment: the first line's is now.
    private func wait(for line: RoamLine, _ origin: inout (trace: Double, clock: ContinuousClock.Instant)?) async throws
    {
        guard speed.isFinite, speed > 0, let time = line.absoluteTime else { return }
        guard let (trace, clock) = origin else {
            origin = (time, .now)
            return
        }
        let moment = clock.advanced(by: .seconds((time - trace) / speed))
        if moment > .now { try await Task.sleep(until: moment, clock: .continuous) }
    }

    private static func read(_ descriptor: CInt, _ name: String) throws -> [UInt8] {
        var problem: CInt = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: 65_536) { buffer, count in
            var got = -1
            repeat {
                #if canImport(Glibc)
                got = Glibc.read(descriptor, buffer.baseAddress, buffer.count)
                #elseif canImport(Musl)
                got = Musl.read(descriptor, buffer.baseAddress, buffer.count)
                #else
                got = Darwin.read(descriptor, buffer.baseAddress, buffer.count)
                #endif
                problem = got < 0 ? errno : 0
            } while problem == EINTR
            count = max(0, got)
        }
        guard problem == 0 else {
            throw RoamingError(
                .trace,
                cause: "cannot read \(name): \(String(cString: strerror(problem)))",
                remedy: "name a readable file"
            )
        }
        return bytes
    }

    private static func compressed(_ name: String) -> RoamingError {
        RoamingError(.trace, cause: "\(name) is compressed", remedy: "zcat \(name) | smirun roam --replay -")
    }

    private static func headless(_ name: String) -> RoamingError {
        RoamingError(
            .trace,
            cause: "\(name) is neither JSON lines nor CSV with the columns user and ap",
            remedy: "begin the file with a header such as day,t_s,user,ap,event,rssi_dbm"
        )
    }
}
