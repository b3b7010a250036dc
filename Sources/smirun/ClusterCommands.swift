import ArgumentParser
import Foundation
import Orchestrator

/// `smirun host …`.
struct HostCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "host",
        abstract: "The hosts of the cluster.",
        subcommands: [HostListCommand.self, HostJoinCommand.self]
    )
}

/// `smirun host ls`.
struct HostListCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "List the hosts.")

    @OptionGroup var output: OutputOptions
    @OptionGroup var daemon: DaemonOptions

    func run() async throws {
        let hosts = try await daemon.call(.hosts, Nothing(), as: [HostView].self)
        if output.format == .json { return try printJSON(hosts) }
        printTable(
            ["HOST", "STATE", "PID", "ADDRESS", "MACHINES"],
            hosts.map {
                [
                    $0.name, $0.state, $0.pid.map { "\($0)" } ?? "-", $0.addresses.joined(separator: ","),
                    $0.smis.joined(separator: " "),
                ]
            }
        )
    }
}

/// `smirun ap …`.
struct AccessPointCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ap",
        abstract: "The access points and the hosts that serve them.",
        subcommands: [AccessPointListCommand.self, AccessPointImportCommand.self, AccessPointCountsCommand.self]
    )
}

/// `smirun ap ls`.
struct AccessPointListCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "List the access points.")

    @OptionGroup var output: OutputOptions
    @OptionGroup var daemon: DaemonOptions

    func run() async throws {
        let points = try await daemon.call(.accessPoints, Nothing(), as: [AccessPointView].self)
        if output.format == .json { return try printJSON(points) }
        printTable(
            ["AP", "HOST", "ZONE", "POSITION"],
            points.map { [$0.ap, $0.host, $0.zone ?? "-", Self.position($0)] }
        )
    }

    private static func position(_ point: AccessPointView) -> String {
        if let x = point.x, let y = point.y { return "\(x), \(y) m" }
        if let latitude = point.lat, let longitude = point.lon { return "\(latitude), \(longitude)" }
        return "-"
    }
}

/// `smirun ap counts`.
struct AccessPointCountsCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "counts",
        abstract: "Show what this host's event sources have taken in, merged and dropped since its daemon started."
    )

    @OptionGroup var output: OutputOptions
    @OptionGroup var daemon: DaemonOptions

    func run() async throws {
        let counts = try await daemon.call(.roamingCounts, Nothing(), as: [String: Int].self)
        if output.format == .json { return try printJSON(counts) }
        let seen = counts.filter { $0.value > 0 || output.format == .wide }.sorted { $0.key < $1.key }
        printTable(["WHAT", "COUNT"], seen.map { [$0.key, "\($0.value)"] })
    }
}

/// `smirun daemon`.
struct DaemonCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "daemon", abstract: "Run the host agent.")

    @Option(help: "The configuration file.")
    var config = "/etc/smirun/smirun.toml"

    func run() async throws {
        let configuration = try HostConfiguration.read(config, mustExist: config != "/etc/smirun/smirun.toml")
        try await Daemon(configuration: configuration, build: buildVersion).run()
    }
}
