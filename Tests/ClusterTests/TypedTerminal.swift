import Foundation
import Glibc
import LinuxSystem
import Synchronization
import Testing

/// A person at a terminal who runs a command of the product, types, and waits for what appears on the screen.
final class TypedTerminal: Sendable {
    /// What shows on the screen: escape sequences and carriage returns left out.
    fileprivate struct Screen {
        var text: [UInt8] = []
        /// The bytes as they came, for tests that count every one of them.
        var raw: [UInt8] = []
        var escape: Escape = .none

        enum Escape { case none, begun, sequence, title }
    }

    private let terminal: PseudoTerminal
    private let child: ChildProcess
    private let screen = Mutex(Screen())

    /// Runs `smirun` with these arguments on a terminal of its own.
    init(_ cluster: ClusterFixture, _ arguments: [String], rows: UInt16 = 40, columns: UInt16 = 200) throws {
        terminal = try PseudoTerminal()
        try Self.setSize(of: terminal, rows: rows, columns: columns)
        let socket = cluster.smirun.socket.map { ["SMIRUN_SOCKET=\($0)"] } ?? []
        var request = SpawnRequest(
            Smirun.binary,
            arguments: ["smirun"] + arguments,
            environment: SpawnRequest.plainEnvironment + socket + ["TERM=xterm"]
        )
        request.descriptors = [0: terminal.slave, 1: terminal.slave, 2: terminal.slave]
        child = try request.start()
    }

    deinit {
        try? child.signal(SIGKILL)
        _ = try? child.wait()
    }

    /// Types text; waits where the terminal takes no more.
    func type(_ text: String) async throws {
        try await offload { [self] in try FileContents.writeAll(Array(text.utf8), to: terminal.master) }
    }

    /// Waits until the screen has shown a text since it was last waited for, and returns what came before it.
    @discardableResult
    func await(_ text: String, within limit: Duration = .seconds(60)) async throws -> String {
        try await offload { [self] in
            let (pattern, deadline) = (Array(text.utf8), ContinuousClock.now + limit)
            while true {
                let before = screen.withLock { screen -> String? in
                    guard let at = screen.text.index(of: pattern) else { return nil }
                    defer { screen.text.removeFirst(at + pattern.count) }
                    return String(decoding: screen.text[..<at], as: UTF8.self)
                }
                if let before { return before }
                guard try readSome(before: deadline) else {
                    let shown = screen.withLock { String(decoding: $0.text.suffix(2000), as: UTF8.self) }
                    throw Silence(cause: "'\(text)' did not appear; the screen shows: \(shown)")
                }
            }
        }
    }

    /// Types a command to a shell and returns what it printed.
    func ask(_ command: String) async throws -> String {
        let mark = UInt32.random(in: 0 ... .max)
        // Typed in two pieces, so that the echo of the command is not taken for its answer.
        try await type("\(command); echo \"@\"\"\(mark)@\"\n")
        try await self.await("\"@\"\"\(mark)@\"\n")
        return try await self.await("@\(mark)@").trimmingCharacters(in: .whitespacesAndNewlines)
    }

    /// Everything that has come so far, byte by byte, without waiting.
    func received() async throws -> [UInt8] {
        try await offload { [self] in
            while try readSome(before: .now) {}
            return screen.withLock(\.raw)
        }
    }

    /// Waits until the command has ended and returns its exit status.
    func exitStatus(within limit: Duration = .seconds(60)) async throws -> Int32 {
        try await offload { [self] in
            let deadline = ContinuousClock.now + limit
            // Read on: a command whose terminal is full cannot end.
            while try !child.hasEnded(within: 10) {
                guard ContinuousClock.now < deadline else {
                    let shown = screen.withLock { String(decoding: $0.text.suffix(2000), as: UTF8.self) }
                    throw Silence(cause: "the command has not ended; the screen shows: \(shown)")
                }
                while try readSome(before: .now) {}
            }
            while try readSome(before: .now) {}
            return try child.wait().code
        }
    }

    /// Sends a signal to the command.
    func signal(_ number: Int32) throws { try child.signal(number) }

    /// Changes the size of the window, as a terminal emulator does.
    func resize(rows: UInt16, columns: UInt16) throws {
        try Self.setSize(of: terminal, rows: rows, columns: columns)
        try child.signal(SIGWINCH)
    }

    /// How the terminal is set, for comparisons.
    func mode() throws -> TerminalSettings {
        var settings = termios()
        try syscall("tcgetattr") { tcgetattr(terminal.slave.raw, &settings) }
        return TerminalSettings(settings)
    }

    private static func setSize(of terminal: PseudoTerminal, rows: UInt16, columns: UInt16) throws {
        var size = winsize(ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0)
        try syscall("ioctl") { ioctl(terminal.master.raw, UInt(TIOCSWINSZ), &size) }
    }

    /// Reads what is there; false where nothing came before the deadline.
    private func readSome(before deadline: ContinuousClock.Instant) throws -> Bool {
        var entry = pollfd(fd: terminal.master.raw, events: Int16(POLLIN), revents: 0)
        guard poll(&entry, 1, deadline.millisecondsLeft) > 0 else { return false }
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = try syscall("read") { read(terminal.master.raw, &buffer, buffer.count) }
        screen.withLock { screen in
            for byte in buffer[..<count] { screen.take(byte) }
        }
        return count > 0
    }
}

fileprivate extension TypedTerminal.Screen {
    mutating func take(_ byte: UInt8) {
        raw.append(byte)
        switch (escape, byte) {
        case (.none, 0x1b): escape = .begun
        case (.none, 0x0d), (.none, 0x07), (.none, 0x0f): break
        case (.none, _): text.append(byte)
        case (.begun, UInt8(ascii: "[")): escape = .sequence
        case (.begun, UInt8(ascii: "]")): escape = .title
        case (.begun, UInt8(ascii: "(")), (.begun, UInt8(ascii: ")")), (.begun, 0x20...0x2f): break
        case (.begun, _): escape = .none
        case (.sequence, 0x40...0x7e): escape = .none
        case (.sequence, _): break
        case (.title, 0x07), (.title, 0x5c): escape = .none
        case (.title, _): break
        }
    }
}

/// A terminal's settings (termios(3)) in a form that can be compared and printed.
struct TerminalSettings: Equatable {
    let flags: [UInt32]
    let characters: [UInt8]

    fileprivate init(_ settings: termios) {
        flags = [settings.c_iflag, settings.c_oflag, settings.c_cflag, settings.c_lflag]
        characters = withUnsafeBytes(of: settings.c_cc) { Array($0) }
    }

    /// Whether keys arrive one by one and are not echoed.
    var isRaw: Bool { flags[3] & UInt32(ICANON | ECHO) == 0 }
}

extension [UInt8] {
    /// Where a pattern begins; nil where it does not occur.
    fileprivate func index(of pattern: [UInt8]) -> Int? {
        guard count >= pattern.count else { return nil }
        return (0...(count - pattern.count)).first { self[$0...].starts(with: pattern) }
    }
}
