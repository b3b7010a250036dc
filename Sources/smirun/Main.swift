import ArgumentParser
import Foundation
import Orchestrator

/// Entry: parses, runs, and turns whatever is thrown into `error:`, `help:` and an exit status.
@main
struct Main {
    static func main() async {
        signal(SIGPIPE, SIG_IGN)
        do {
            var command = try Smirun.parseAsRoot()
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
        } catch {
            exit(report(error))
        }
    }

    /// Prints an error as the contract says and returns the exit status.
    private static func report(_ error: any Error) -> Int32 {
        if let code = error as? ExitCode { return code.rawValue }
        if let failure = Failure(error) {
            failure.print()
            return failure.status
        }
        let status = Smirun.exitCode(for: error)
        if status != .success, status != .validationFailure {
            // Neither one of ours nor the argument parser's: still one cause, one remedy, and not the status of bad usage.
            let failure = Failure(wrapping: error)
            failure.print()
            return failure.status
        }
        let message = Smirun.fullMessage(for: error)
        if status == .success {
            print(message)
            return 0
        }
        var lines = message.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        if let first = lines.first, first.hasPrefix("Error: ") {
            lines[0] = "error: " + first.dropFirst(7)
        }
        let usage = lines.firstIndex { $0.hasPrefix("Usage: ") }
        if let usage { lines[usage] = "help: " + lines[usage].dropFirst(7) }
        writeError(lines.joined(separator: "\n") + "\n")
        return 2
    }
}

/// Writes to the standard error.
func writeError(_ text: String) {
    FileHandle.standardError.write(Data(text.utf8))
}
