import Foundation
import Orchestrator

/// Runs `body`; where SIGINT or SIGTERM comes before its end, `undo` is run and this program ends, as interrupted ones do.
///
/// Without it the default would end this program and leave what it has made.
func undoingIfInterrupted<Value>(
    _ undo: @escaping @Sendable () async throws -> Void,
    _ body: () async throws -> Value
) async throws -> Value {
    let signals = TerminationSignals()
    let watcher = Task {
        await signals.wait()
        guard !Task.isCancelled else { return }
        writeError("interrupted: removing what was made …\n")
        do {
            try await undo()
        } catch {
            writeError("error: \(error)\n")
        }
        exit(128 + SIGINT)
    }
    defer { watcher.cancel() }
    return try await body()
}
