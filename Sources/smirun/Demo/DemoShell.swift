import Foundation
import Glibc
import LinuxSystem

/// A person at a terminal: runs `smirun attach` on a pseudo-terminal, types, and reads what appears.
final class DemoShell {
    private let master: Descriptor
    private let child: ChildProcess
    private var seen: [UInt8] = []
    private var question = 0

    /// Attaches a shell to a user's machine.
    init(user: String, socket: String) throws {
        let terminal = try PseudoTerminal()
        master = terminal.master
        var request = SpawnRequest(
            try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"),
            arguments: ["smirun", "attach", user, "--socket", socket],
            environment: SpawnRequest.plainEnvironment + ["TERM=xterm"]
        )
        request.descriptors = [0: terminal.slave, 1: terminal.slave, 2: terminal.slave]
        child = try request.start()
    }

    /// Types a command and returns what it printed, joined by blanks.
    ///
    /// - Throws: Where the answer has not appeared within `limit` seconds.
    func ask(_ command: String, within limit: Double) throws -> String {
        question += 1
        // The marks are typed in pieces, so that the echo of the command is not taken for its answer.
        let line = "echo \"<\"\(question)\"[\" $(\(command)) \"]\"\(question)\">\"\n"
        try type(line)
        let begin = Array("<\(question)[".utf8)
        let end = Array("]\(question)>".utf8)
        let deadline = ContinuousClock.now + .seconds(limit)
        while true {
            if let from = find(begin), let to = find(end), from + begin.count <= to {
                let text = String(decoding: seen[(from + begin.count)..<to], as: UTF8.self)
                seen.removeSubrange(..<(to + end.count))
                return text.trimmingCharacters(in: .whitespacesAndNewlines)
            }
            guard ContinuousClock.now < deadline else { throw ShellSilent(command: command) }
            var poller = pollfd(fd: master.raw, events: Int16(POLLIN), revents: 0)
            guard poll(&poller, 1, 200) > 0 else { continue }
            var buffer = [UInt8](repeating: 0, count: 4096)
            let count = read(master.raw, &buffer, buffer.count)
            guard count > 0 else { throw ShellSilent(command: command) }
            seen += buffer[..<count]
        }
    }

    /// Types something without waiting for an answer.
    func type(_ text: String) throws {
        let bytes = Array(text.utf8)
        try syscall("write") { write(master.raw, bytes, bytes.count) }
    }

    /// Leaves the shell.
    func close() {
        try? type("exit\n")
        master.close()
        if (try? child.hasEnded(within: 5000)) != true { try? child.signal(SIGKILL) }
        _ = try? child.wait()
    }

    private func find(_ pattern: [UInt8]) -> Int? {
        guard seen.count >= pattern.count else { return nil }
        return (0...(seen.count - pattern.count)).first { Array(seen[$0..<($0 + pattern.count)]) == pattern }
    }
}

/// A shell that did not answer.
struct ShellSilent: Error, CustomStringConvertible {
    let command: String

    var description: String { "the shell did not answer '\(command)'" }
}
