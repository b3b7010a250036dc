import ArgumentParser
import Foundation
import Orchestrator

/// `smirun handoff USER (--to HOST | --ap AP)`.
struct HandoffCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "handoff",
        abstract: "Move a machine, live, to another host."
    )

    @Argument var user: String
    @Option(help: "The host to move to.")
    var to: String?
    @Option(help: "The access point whose host to move to.")
    var ap: String?
    @Flag(help: "Wait for the end and print the figures.")
    var wait = false
    @Flag(name: .customLong("dry-run"), help: "Only say whether it could be moved.")
    var dryRun = false
    @OptionGroup var output: OutputOptions
    @OptionGroup var daemon: DaemonOptions

    func validate() throws {
        if (to == nil) == (ap == nil) { throw ValidationError("give either --to HOST or --ap AP") }
    }

    func run() async throws {
        let request = HandoffRequest(user: user, to: to, accessPoint: ap, dryRun: dryRun)
        let showsProgress = wait && output.format != .json && isatty(2) == 1
        // Without --wait the daemon's word that the hand-off has begun is enough; it goes on without us.
        let report = try await daemon.stream(.handoff, request, as: HandoffProgress.self) { step -> HandoffReport?? in
            if let done = step.report { return done }
            if !wait { return .some(nil) }
            if showsProgress, let phase = step.phase {
                let bytes = step.bytes.map { " " + formatBytes($0) } ?? ""
                writeError("\r\u{1b}[K\(user): \(phase)\(bytes)")
            }
            return nil
        }
        if showsProgress { writeError("\r\u{1b}[K") }
        guard let report = report ?? nil else { return }
        if output.format == .json { return try printJSON(report) }
        if let note = report.note { return print(note) }
        print("\(user) moved from \(report.from) to \(report.to)")
        if wait {
            print(
                "frozen \(formatMs(report.frozenMs)) ms, blackout \(formatMs(report.blackoutMs)) ms, "
                    + "total \(formatMs(report.totalMs)) ms, \(formatBytes(report.wireBytes)) bytes"
            )
        }
    }
}
