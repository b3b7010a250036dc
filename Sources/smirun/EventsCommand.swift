import ArgumentParser
import Foundation
import Orchestrator

/// `smirun events [--follow] [USER]`.
struct EventsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "events",
        abstract: "Show what happened, oldest first."
    )

    @Argument var user: String?
    @Flag(name: .shortAndLong, help: "Go on with what happens from now on.")
    var follow = false
    @OptionGroup var output: OutputOptions
    @OptionGroup var daemon: DaemonOptions

    func run() async throws {
        let format = output.format
        let formatter = DateFormatter()
        formatter.dateFormat = "yyyy-MM-dd HH:mm:ss.SSS"
        let request = EventsRequest(user: user, follow: follow)
        let _: Never? = try await daemon.stream(.events, request, as: EventRecord.self) { event in
            if format == .json {
                try printJSON(event)
            } else {
                let detail = event.detail.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
                let time = formatter.string(from: Date(timeIntervalSince1970: event.at))
                let fields = [time, event.host, event.user ?? "-", event.kind] + detail
                FileHandle.standardOutput.write(Data((fields.joined(separator: "  ") + "\n").utf8))
            }
            return nil
        }
    }
}
