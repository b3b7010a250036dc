import ArgumentParser
import Orchestrator

/// `smirun launch USER`.
struct LaunchCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "launch", abstract: "Launch a user's machine.")

    @Argument(help: "The user: a letter, then letters, digits and hyphens.")
    var user: String
    @Option(help: "The base image, by name or digest.")
    var image = "debian"
    @Option(help: "The host to launch on; this one unless given.")
    var host: String?
    @Option(help: "The access point whose host to launch on.")
    var ap: String?
    @Option(help: "Memory limit, e.g. 256M.")
    var memory = ByteCount(bytes: 256 << 20)
    @Option(help: "Processors, e.g. 1.5.")
    var cpus = 1.0
    @Option(help: "Limit of processes and threads.")
    var pids = 1024
    @Option(name: .customLong("env"), help: "NAME=value for the program and the sessions; may be repeated.")
    var environment: [String] = []
    @Flag(help: "Keep a restorable copy at any moment: a program that writes too fast is slowed down for a hand-off.")
    var wholeCopy = false
    @OptionGroup var output: OutputOptions
    @OptionGroup var daemon: DaemonOptions
    @Argument(parsing: .postTerminator, help: "The main program and its arguments, after --.")
    var program: [String] = []

    func run() async throws {
        let request = LaunchRequest(
            user: user,
            image: image,
            host: host,
            accessPoint: ap,
            limits: (memory.bytes, cpus, pids),
            program: program,
            environment: environment,
            wholeCopy: wholeCopy
        )
        let reply = try await daemon.call(.launch, request, as: LaunchReply.self)
        if output.format == .json { return try printJSON(reply) }
        print(
            "\(reply.user) runs on \(reply.host) at \(reply.addresses.ipv4), launched in \(formatMs(reply.launchMs)) ms"
        )
    }

    func validate() throws {
        if host != nil && ap != nil { throw ValidationError("give either --host or --ap") }
    }
}

/// `smirun stop USER`.
struct StopCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stop",
        abstract: "End a machine's processes; its files are kept."
    )

    @Argument var user: String
    @OptionGroup var daemon: DaemonOptions

    func run() async throws {
        _ = try await daemon.call(.stop, UserRequest(user: user), as: Nothing.self)
    }
}

/// `smirun rm USER`.
struct RemoveCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm",
        abstract: "Remove a stopped machine and its files."
    )

    @Argument var user: String
    @Flag(name: .shortAndLong, help: "Stop it first where it runs.")
    var force = false
    @OptionGroup var daemon: DaemonOptions

    func run() async throws {
        _ = try await daemon.call(.remove, RemoveRequest(user: user, force: force), as: Nothing.self)
    }
}

/// `smirun ls`.
struct ListCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "List the machines of the cluster.")

    @OptionGroup var output: OutputOptions
    @OptionGroup var daemon: DaemonOptions

    func run() async throws {
        let views = try await daemon.call(.list, Nothing(), as: [SMIView].self)
        switch output.format {
        case .json: try printJSON(views)
        case .table:
            printTable(
                ["USER", "HOST", "STATE", "ADDRESS", "IMAGE"],
                views.map { [$0.user, $0.host, $0.state, $0.addresses.ipv4, $0.imageName] }
            )
        case .wide:
            printTable(
                ["USER", "HOST", "GENERATION", "STATE", "IPV4", "IPV6", "IMAGE", "DIGEST", "PROGRAM"],
                views.map {
                    [
                        $0.user, $0.host, "\($0.generation)", $0.state, $0.addresses.ipv4, $0.addresses.ipv6,
                        $0.imageName, String($0.image.prefix(19)), $0.program.joined(separator: " "),
                    ]
                }
            )
        }
    }
}

/// `smirun ps USER`.
struct ProcessesCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(commandName: "ps", abstract: "List the processes of a machine.")

    @Argument var user: String
    @OptionGroup var output: OutputOptions
    @OptionGroup var daemon: DaemonOptions

    func run() async throws {
        let processes = try await daemon.call(.processes, UserRequest(user: user), as: [ProcessView].self)
        if output.format == .json { return try printJSON(processes) }
        let wide = output.format == .wide
        printTable(
            ["PID", "PPID"] + (wide ? ["HOST-PID"] : []) + ["STATE", "RSS", "COMMAND"],
            processes.map {
                ["\($0.pid)", "\($0.ppid)"] + (wide ? ["\($0.hostPid)"] : [])
                    + [$0.state, formatBytes($0.rss), $0.command.isEmpty ? "[\($0.name)]" : $0.command]
            }
        )
    }
}

/// `smirun inspect USER`.
struct InspectCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect",
        abstract: "Show all that is known of a machine."
    )

    @Argument var user: String
    @OptionGroup var output: OutputOptions
    @OptionGroup var daemon: DaemonOptions

    func run() async throws {
        let view = try await daemon.call(.inspect, UserRequest(user: user), as: SMIView.self)
        if output.format == .json { return try printJSON(view) }
        let rows: [(String, String)] = [
            ("user", view.user), ("host", view.host), ("generation", "\(view.generation)"), ("state", view.state),
            ("ipv4", view.addresses.ipv4), ("ipv6", view.addresses.ipv6), ("mac", view.addresses.mac),
            ("image", "\(view.imageName) \(view.image)"), ("program", view.program.joined(separator: " ")),
            ("memory", formatBytes(view.limits.memory)), ("cpus", "\(view.limits.cpus)"),
            ("whole copy", view.wholeCopy == true ? "always" : "not while pages follow a hand-off"),
            ("pids", "\(view.limits.pids)"), ("pid", view.pid.map { "\($0)" } ?? "-"),
            ("last hand-off", view.lastHandoff.map { "\($0.from) -> \($0.to)" } ?? "-"),
        ]
        for (name, value) in rows { print("\(name.padding(toLength: 14, withPad: " ", startingAt: 0))\(value)") }
        if let plan = view.plan { PlanTable(plan).print() }
    }
}
