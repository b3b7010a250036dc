import ArgumentParser
import Orchestrator

/// `smirun replica …`.
struct ReplicaCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replica",
        abstract: "Copies of a machine's memory on other hosts, kept fresh for a hand-off.",
        subcommands: [ReplicaAddCommand.self, ReplicaRemoveCommand.self, ReplicaListCommand.self]
    )
}

/// `smirun replica add USER HOST`.
struct ReplicaAddCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "add", abstract: "Keep a replica on a host.")

    @Argument var user: String
    @Argument var host: String
    @OptionGroup var daemon: DaemonOptions

    func run() async throws {
        _ = try await daemon.call(.addReplica, ReplicaRequest(user: user, host: host), as: Nothing.self)
    }
}

/// `smirun replica rm USER HOST`.
struct ReplicaRemoveCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "rm", abstract: "Give up a replica.")

    @Argument var user: String
    @Argument var host: String
    @OptionGroup var daemon: DaemonOptions

    func run() async throws {
        _ = try await daemon.call(.removeReplica, ReplicaRequest(user: user, host: host), as: Nothing.self)
    }
}

/// `smirun replica ls [USER]`.
struct ReplicaListCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ls",
        abstract: "Show replicas and how fresh they are."
    )

    @Argument(help: "The user; all unless given.")
    var user: String?
    @OptionGroup var output: OutputOptions
    @OptionGroup var daemon: DaemonOptions

    func run() async throws {
        let users: [String]
        if let user {
            users = [user]
        } else {
            users = try await daemon.call(.list, Nothing(), as: [SMIView].self).map(\.user)
        }
        var replicas: [ReplicaView] = []
        for user in users {
            replicas += try await daemon.call(.replicas, UserRequest(user: user), as: [ReplicaView].self)
        }
        if output.format == .json { return try printJSON(replicas) }
        printTable(
            ["USER", "HOST", "WHY", "STATE", "EPOCH", "BEHIND", "BYTES", "SECONDS"],
            replicas.map {
                [
                    $0.user, $0.host, $0.reason, $0.connected ? "connected" : "waiting", "\($0.epoch)",
                    "\($0.epochsBehind)", formatBytes($0.bytesBehind), $0.secondsBehind.map(formatSeconds) ?? "-",
                ]
            }
        )
    }

    private func formatSeconds(_ seconds: Double) -> String { "\((seconds * 10).rounded() / 10)" }
}
