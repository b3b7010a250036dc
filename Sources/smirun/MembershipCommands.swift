import ArgumentParser
import Foundation
import Orchestrator

/// `smirun cluster …`.
struct ClusterCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cluster",
        abstract: "Found a cluster and let hosts in.",
        subcommands: [ClusterInitCommand.self, ClusterTokenCommand.self]
    )
}

/// Which host this is and where it keeps things.
struct MemberOptions: ParsableArguments {
    @Option(help: "This host's name; its host name unless given.")
    var name: String?
    @Option(help: "The address that the other hosts reach this one at; give a second one for IPv6 beside IPv4.")
    var address: [String]
    @Option(help: "The configuration file.")
    var config = "/etc/smirun/smirun.toml"

    var hostName: String { name ?? ProcessInfo.processInfo.hostName.split(separator: ".").first.map(String.init) ?? "" }

    func host() throws -> HostConfiguration {
        try HostConfiguration.read(config, mustExist: config != "/etc/smirun/smirun.toml")
    }
}

/// `smirun cluster init`.
struct ClusterInitCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "init",
        abstract: "Make this host the first of a new cluster; it keeps the CA's key and the store."
    )

    @OptionGroup var member: MemberOptions

    func run() async throws {
        let paths = try member.host().paths
        let membership = try ClusterFounding.found(paths, name: member.hostName, addresses: member.address)
        print("\(membership.host.name) is the first host of a new cluster")
        print("start it with `smirun daemon`, then let others in with `smirun cluster token`")
    }
}

/// `smirun cluster token`.
struct ClusterTokenCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "token",
        abstract: "Print a token that lets one host join, within an hour."
    )

    @OptionGroup var daemon: DaemonOptions

    func run() async throws {
        print(try await daemon.call(.token, Nothing(), as: String.self))
    }
}

/// `smirun host join TOKEN`.
struct HostJoinCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "join",
        abstract: "Let this host into the cluster that a token is of."
    )

    @Argument(help: "What `smirun cluster token` printed.")
    var token: String
    @OptionGroup var member: MemberOptions

    func run() async throws {
        let membership = try await ClusterFounding.join(
            member.host().paths,
            token: token,
            name: member.hostName,
            addresses: member.address,
            build: buildVersion
        )
        print(
            "\(membership.host.name) belongs to the cluster of \(membership.store.name); start it with `smirun daemon`"
        )
    }
}
