import ArgumentParser
import Foundation
import LinuxSystem
import Logging
import Orchestrator

/// `smirun lab …`.
struct LabCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lab",
        abstract: "Hosts on this one machine, to try things on.",
        subcommands: [
            LabUpCommand.self, LabDownCommand.self, LabStatusCommand.self, LabExecCommand.self,
            LabSuperviseCommand.self, LabDelayLinkCommand.self,
        ]
    )
}

/// Where the lab is; hidden, as tests alone have more than one on a machine.
struct LabOptions: ParsableArguments {
    @Option(help: .hidden) var state = LabLayout().state
    @Option(help: .hidden) var run = LabLayout().run
    @Option(help: .hidden) var configuration = LabLayout().configuration
    @Option(help: .hidden) var cgroup = LabLayout().cgroup
    @Option(help: .hidden) var images: String?
    @Option(help: .hidden) var binary: String?

    var layout: LabLayout {
        LabLayout(state: state, run: run, configuration: configuration, cgroup: cgroup, images: images)
    }

    /// The lab, which says what it does where somebody watches.
    func lab() -> Lab {
        let isWatched = isatty(2) == 1
        return Lab(layout: layout, binary: binary, supervisor: executablePath()) { step in
            if isWatched { writeError("\(step)\n") }
        }
    }
}

/// `smirun lab up`.
struct LabUpCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "up",
        abstract: "Make a lab and wait until its hosts are ready; bring one back that was damaged."
    )

    @Option(help: "Number of hosts, 1 to 50.")
    var hosts = 3
    @Option(help: "Metres between the access points, one per host.")
    var spacing = 100.0
    @Option(help: "Rate of each host's link, each way: such as 50mbit, or none.")
    var rate = "50mbit"
    @Option(help: "One-way delay of each host's link, such as 20ms.")
    var delay = "0ms"
    @OptionGroup var output: OutputOptions
    @OptionGroup var options: LabOptions

    func run() throws {
        let plan = try LabPlan(
            hosts: hosts,
            spacing: spacing,
            rate: LinkRate(parsing: rate),
            delay: LabPlan.delay(parsing: delay)
        )
        try show(options.lab().up(plan), output.format)
    }
}

/// `smirun lab down`.
struct LabDownCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "down",
        abstract: "Remove the lab and all that runs on it, whatever state it is in; keeps images."
    )

    @OptionGroup var output: OutputOptions
    @OptionGroup var options: LabOptions

    func run() throws {
        let report = try options.lab().down()
        if output.format == .json { return try printJSON(report) }
        print(report.found ? "the lab is down (\(report.processes) processes ended)" : "no lab was up")
    }
}

/// `smirun lab status`.
struct LabStatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "status", abstract: "Show the lab's hosts.")

    @OptionGroup var output: OutputOptions
    @OptionGroup var options: LabOptions

    func run() throws {
        let lab = options.lab()
        try lab.requireRoot()
        try show(lab.status(), output.format)
    }
}

/// `smirun lab exec HOST -- CMD…`.
struct LabExecCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "exec",
        abstract: "Run a command on a host of the lab, in its namespaces."
    )

    @Argument var host: String
    @Argument(parsing: .postTerminator, help: "The command, after --.")
    var command: [String] = []
    @OptionGroup var options: LabOptions

    func validate() throws {
        if command.isEmpty { throw ValidationError("give a command after --") }
    }

    func run() throws {
        try options.lab().exec(host, command)
    }
}

/// `smirun lab supervise`: started by `lab up`.
struct LabSuperviseCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "supervise", shouldDisplay: false)

    @OptionGroup var options: LabOptions

    func run() throws {
        let log = Logger(label: "lab") { StreamLogHandler.standardError(label: $0) }
        try LabSupervisor(layout: options.layout, log: log)?.run()
    }
}

/// `smirun lab delay-link HOST`: started by the supervisor of a lab with delay.
struct LabDelayLinkCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "delay-link", shouldDisplay: false)

    @Argument var host: String
    @OptionGroup var options: LabOptions

    func run() throws {
        try options.lab().delayLink(host)
    }
}

private func show(_ status: LabStatus, _ format: OutputFormat) throws {
    if format == .json { return try printJSON(status) }
    if status.hosts.isEmpty {
        return print(status.state == "down" ? "no lab is up" : "the lab is \(status.state): run `smirun lab down`")
    }
    let wide = format == .wide
    printTable(
        ["HOST", "STATE", "ADDRESS", "AP", "DAEMON", "RESTARTS", "RATE", "DELAY"] + (wide ? ["HOLDER", "SOCKET"] : []),
        status.hosts.map { host in
            [
                host.name, host.state, wide ? host.addresses.joined(separator: ",") : host.addresses[0],
                host.accessPoint, host.daemon.map { "\($0)" } ?? "-", "\(host.restarts)",
                host.cut ? "cut" : host.rate, "\(host.delay) ms",
            ] + (wide ? [host.holder.map { "\($0)" } ?? "-", host.sockets.first ?? "-"] : [])
        }
    )
    if status.supervisor == nil {
        writeError("warning: the supervisor does not run; run `smirun lab up` with the same arguments\n")
    }
}
