import CLinux
import Glibc

/// How a helper command ended.
package struct HelperResult: Sendable, Equatable {
    /// Exit status; 128 + n after signal n.
    package let status: Int32
    /// What it wrote to its standard output.
    package let output: String
    /// What it wrote to its standard error.
    package let error: String
    /// Whether it was killed because its time was up.
    package let timedOut: Bool
}

/// A helper command under way, with its output collected.
package final class HelperRun: Sendable {
    /// The command itself.
    package let child: ChildProcess
    private let output: Descriptor
    private let error: Descriptor
    private let deadline: ContinuousClock.Instant

    init(child: ChildProcess, output: Descriptor, error: Descriptor, deadline: ContinuousClock.Instant) {
        self.child = child
        self.output = output
        self.error = error
        self.deadline = deadline
    }

    /// Waits for the end of the command; one that has not ended at its time limit is killed.
    package func finish() throws(SyscallError) -> HelperResult {
        var collected: [[UInt8]] = [[], []]
        let open = [output, error]
        var timedOut = false
        while open.contains(where: { $0.raw >= 0 }) {
            var files = open.map { pollfd(fd: $0.raw, events: Int16(POLLIN), revents: 0) }
            if poll(&files, nfds_t(files.count), deadline.millisecondsLeft) == 0 {
                timedOut = true
                try child.signal(SIGKILL)
                break
            }
            for index in files.indices where files[index].revents != 0 {
                if !open[index].readSome(into: &collected[index]) { open[index].close() }
            }
        }
        let status = try child.wait()
        return HelperResult(
            status: status.code,
            output: String(decoding: collected[0], as: UTF8.self),
            error: String(decoding: collected[1], as: UTF8.self),
            timedOut: timedOut
        )
    }
}

/// The two ends of a pipe, close-on-exec.
package struct DescriptorPair: Sendable {
    package let read: Descriptor
    package let write: Descriptor

    /// A new pipe.
    package static func pipe() throws(SyscallError) -> DescriptorPair {
        var ends: [Int32] = [-1, -1]
        try syscall("pipe2") { smi_pipe(&ends) }
        return DescriptorPair(read: Descriptor(owning: ends[0]), write: Descriptor(owning: ends[1]))
    }
}

extension Descriptor {
    /// Reads what is there, at most 16 KB; false at the end.
    func readSome(into bytes: inout [UInt8]) -> Bool {
        let chunk = [UInt8](unsafeUninitializedCapacity: 16384) { buffer, count in
            count = max(0, read(raw, buffer.baseAddress, buffer.count))
        }
        bytes += chunk
        return !chunk.isEmpty
    }

    /// Reads text until a delimiter has come, the other side has closed, or the deadline is over.
    package func readUntil(_ delimiter: Character?, before deadline: ContinuousClock.Instant) -> String {
        var bytes: [UInt8] = []
        while true {
            var file = pollfd(fd: raw, events: Int16(POLLIN), revents: 0)
            guard poll(&file, 1, deadline.millisecondsLeft) > 0, readSome(into: &bytes) else { break }
            if let delimiter = delimiter?.asciiValue, bytes.contains(delimiter) { break }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

extension ContinuousClock.Instant {
    /// Time left until the instant, as poll(2) takes it: milliseconds, rounded up, 0 once it is over.
    package var millisecondsLeft: Int32 {
        let left = ContinuousClock.now.duration(to: self)
        guard left > .zero else { return 0 }
        let (seconds, attoseconds) = left.components
        return Int32(clamping: seconds * 1000 + (attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
    }
}
