import Glibc
import LinuxSystem
import Synchronization

@testable import Isolation

/// A session client of the test: pipes as its standard streams, collected as they come.
final class LocalSession: Sendable {
    private struct State: Sendable {
        var output: [UInt8] = []
        var error: [UInt8] = []
        var result: Result<SessionResult, any Error>?
        /// Outputs that are still being collected.
        var openEnds = 0
    }

    private let state = Mutex(State())
    private let signals: Descriptor
    private let input: Descriptor
    let outputEnd: Descriptor

    /// Begins a session; where it does not collect the output, the test reads `outputEnd` itself.
    init(
        _ start: SessionStart,
        isRaw: Bool = false,
        window: WindowSize? = nil,
        patience: Duration = .seconds(20),
        collects: Bool = true,
        dial: @escaping SessionDial
    ) throws {
        // As the commands do: a reader that goes away shows as an error of the write.
        Glibc.signal(SIGPIPE, SIG_IGN)
        let input = try DescriptorPassing.pipe()
        let output = try DescriptorPassing.pipe()
        let error = try DescriptorPassing.pipe()
        let signals = try DescriptorPassing.pipe()
        self.signals = signals.write
        self.input = input.write
        outputEnd = output.read
        if collects { collect(output.read) { $0.output += $1 } }
        collect(error.read) { $0.error += $1 }
        runOnThread {
            let local = SessionInput(
                input: input.read.raw,
                output: WriteEnd(output.write.raw),
                error: WriteEnd(error.write.raw),
                signals: SignalPipe(reading: signals.read),
                isRaw: isRaw,
                window: window.map { size in { size } }
            )
            let result = Result {
                let client = try SessionClient(start: start, local: local, patience: patience, dial: dial)
                return try client.run()
            }
            input.read.close()
            output.write.close()
            error.write.close()
            self.state.withLock { $0.result = result }
        }
    }

    private func collect(_ end: Descriptor, _ take: @escaping @Sendable (inout State, ArraySlice<UInt8>) -> Void) {
        state.withLock { $0.openEnds += 1 }
        runOnThread {
            var buffer = [UInt8](repeating: 0, count: 65536)
            while true {
                let count = read(end.raw, &buffer, buffer.count)
                if count <= 0 { break }
                self.state.withLock { take(&$0, buffer[..<count]) }
            }
            self.state.withLock { $0.openEnds -= 1 }
        }
    }

    var output: [UInt8] { state.withLock(\.output) }
    var text: String { String(decoding: output, as: UTF8.self) }
    var errorText: String { String(decoding: state.withLock(\.error), as: UTF8.self) }

    /// Types text, or sends bytes.
    func send(_ text: String) {
        send(Array(text.utf8))
    }

    func send(_ bytes: [UInt8]) {
        bytes.withUnsafeBytes { buffer in
            var rest = buffer[...]
            while !rest.isEmpty {
                let count = write(input.raw, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
                if count <= 0 { return }
                rest = rest.dropFirst(count)
            }
        }
    }

    /// As if this process had got the signal.
    func signal(_ number: UInt8) {
        var number = number
        _ = write(signals.raw, &number, 1)
    }

    func signal(_ number: Int32) {
        signal(UInt8(number))
    }

    func endInput() {
        input.close()
    }

    /// How it ended; fails the wait after the time.
    func result(within time: Duration = .seconds(30)) async throws -> SessionResult {
        let isOver = await eventually(within: time) { state.withLock { $0.result != nil && $0.openEnds == 0 } }
        guard isOver, let result = state.withLock(\.result) else { throw StillRunning() }
        return try result.get()
    }

    struct StillRunning: Error {}

    /// Runs a program to its end with this input.
    static func run(
        _ argv: [String],
        input: [UInt8] = [],
        dial: @escaping SessionDial
    ) async throws -> (exit: SessionOutcome, output: [UInt8], error: String) {
        let session = try LocalSession(.exec(argv: argv, environment: [], workingDirectory: ""), dial: dial)
        runOnThread {
            session.send(input)
            session.endInput()
        }
        let result = try await session.result(within: .seconds(120))
        return (result.outcome, session.output, session.errorText)
    }
}

extension SessionStart {
    static func shell(_ command: String) -> SessionStart {
        .exec(argv: ["sh", "-c", command], environment: [], workingDirectory: "")
    }

    static let terminal = SessionStart.terminal(
        argv: ["bash", "--norc", "-i"],
        environment: ["PS1=ready> ", "TERM=dumb"],
        workingDirectory: "/"
    )
}
