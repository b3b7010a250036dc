import ArgumentParser
import Foundation
import Isolation
import LinuxSystem
import Orchestrator

/// `smirun demo`: the whole story in a minute or two.
struct DemoCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "demo",
        abstract:
            "A lab, a machine, a walk past three access points; checks that nothing is lost and prints the figures."
    )

    @Flag(help: "Leave the lab and the machine up.")
    var keep = false
    @Option(help: "Rate of each host's link.")
    var rate = "50mbit"
    @OptionGroup var output: OutputOptions

    func run() async throws {
        let quiet = output.format == .json
        let demo = Demo(rate: rate, say: { if !quiet { print($0) } })
        let outcome = try await undoingIfInterrupted(demo.cleanUp) { await demo.run() }
        if keep {
            if !quiet { print("the lab is left up: `smirun attach alice`, `smirun ls`, `smirun lab down`") }
        } else {
            try await demo.cleanUp()
        }
        switch outcome {
        case .success(let result):
            if quiet { try printJSON(result) } else { print(result.table) }
            if !result.faults.isEmpty { throw ExitCode(1) }
        case .failure(let error):
            throw error
        }
    }
}

/// The demo's course.
struct Demo: Sendable {
    let rate: String
    let say: @Sendable (String) -> Void
    private let user = "alice"
    private let lab = Lab()
    private let daemon: DaemonOptions = {
        var options = DaemonOptions()
        options.socket = nil
        return options
    }()

    init(rate: String, say: @escaping @Sendable (String) -> Void) {
        self.rate = rate
        self.say = say
    }

    /// Runs it; a failure is kept until the lab has been cleaned up.
    func run() async -> Result<DemoResult, any Error> {
        do {
            return .success(try await walk())
        } catch {
            return .failure(error)
        }
    }

    /// Takes the lab down with all that is in it.
    func cleanUp() async throws {
        let lab = lab
        _ = try await offload { try lab.down() }
    }

    private func walk() async throws -> DemoResult {
        try await ensureImage()
        say("bringing up three hosts with links of \(rate) …")
        let (lab, plan) = (lab, try LabPlan(hosts: 3, spacing: 69, rate: LinkRate(parsing: rate), delay: 0))
        let status = try await offload { try lab.up(plan) }
        guard let first = status.hosts.first, let holder = first.holder else {
            throw OrchestratorError(
                .daemonUnreachable,
                cause: "the lab has no hosts",
                remedy: "run `smirun lab status`"
            )
        }
        let launched = try await launch(at: first.accessPoint)
        say("launched \(user) on \(launched.host) at \(launched.addresses.ipv4) in \(formatMs(launched.launchMs)) ms")
        let visitor = Visitor(namespace: try NetworkNamespace(of: holder), address: launched.addresses.ipv4)
        let start = try await visitor.statusWhenServing()
        let client = DemoClient(connection: try await visitor.connect(DemoWorkload.streamPort))
        defer { client.close() }
        let shell = try DemoShell(user: user, socket: daemon.controlSocket)
        defer { shell.close() }
        try shell.type("mark=$RANDOM; cd /var/tmp; sleep 100000 &\n")
        let shellState = "echo $mark $PWD $$ $(jobs -p)"
        let before = try shell.ask(shellState, within: 20)
        var result = DemoResult(rate: rate)
        var previous = start
        for accessPoint in status.hosts.dropFirst().map(\.accessPoint) + [first.accessPoint] {
            say("\(user) walks to \(accessPoint) …")
            _ = client.takeObserved()
            let report = try await handOff(to: accessPoint)
            let now = try await visitor.statusWhenServing()
            let answer = try shell.ask(shellState, within: 20)
            try await client.awaitProgress(limit: .seconds(60))
            let seen = client.takeObserved()
            result.add(
                DemoStep(accessPoint: accessPoint, report: report, status: now, client: seen),
                faults: check(now, after: previous, start: start, seen: seen)
                    + (answer == before ? [] : ["the shell's state was '\(before)' and is '\(answer)'"])
                    + (try await checkLog(now))
            )
            say("  on \(report.to) again after \(formatMs(report.frozenMs)) ms")
            previous = now
        }
        return result
    }

    private func ensureImage() async throws {
        let store = ImageStore(directory: HostPaths().images)
        if (try? await offload({ try store.resolve("debian") })) != nil { return }
        say("building the debian image (once; about a minute) …")
        let builder = ImageBuilder(store: store, libexec: HostConfiguration.libexec())
        let recipe = try ImageRecipe.find("debian")
        _ = try await offload { try builder.build(recipe) }
    }

    private func launch(at accessPoint: String) async throws -> LaunchReply {
        let request = LaunchRequest(
            user: user,
            image: "debian",
            accessPoint: accessPoint,
            limits: (memory: 512 << 20, cpus: 2, pids: 256),
            program: DemoWorkload.program
        )
        return try await daemon.call(.launch, request, as: LaunchReply.self)
    }

    private func handOff(to accessPoint: String) async throws -> HandoffReport {
        let request = HandoffRequest(user: user, accessPoint: accessPoint)
        let report = try await daemon.stream(.handoff, request, as: HandoffProgress.self) { $0.report }
        guard let report else {
            throw OrchestratorError(
                .handoffFailed,
                cause: "no report of the hand-off",
                remedy: "look at the daemons' logs"
            )
        }
        return report
    }

    private func check(
        _ now: DemoStatus,
        after previous: DemoStatus,
        start: DemoStatus,
        seen: DemoClient.Observed
    ) -> [String] {
        var faults: [String] = []
        if now.pid != start.pid { faults.append("the program's pid was \(start.pid) and is \(now.pid)") }
        if now.badPages > 0 { faults.append("\(now.badPages) pages have other contents") }
        if now.rewrites <= previous.rewrites { faults.append("the program does not go on") }
        if now.monotonicJumps > 0 { faults.append("the monotonic clock jumped") }
        if now.monotonic < previous.monotonic { faults.append("the monotonic clock ran backwards") }
        if let fault = seen.fault { faults.append("TCP client: \(fault)") }
        return faults
    }

    /// Every line of the log is there once, in order.
    private func checkLog(_ status: DemoStatus) async throws -> [String] {
        let dial = BrokerClient.dialler(socketPath: daemon.sessionSocket, user: user)
        let test = "awk '$1 != NR { bad = 1 } END { exit bad || NR < \(status.logLines) }' \(DemoWorkload.logFile)"
        let code = try await offload { try SessionCommands.exec(argv: ["sh", "-c", test], dial: dial) }
        return code == 0 ? [] : ["the program's log file lost or doubled lines"]
    }
}

/// Somebody in the lab who asks the workload how it is.
struct Visitor: Sendable {
    let namespace: NetworkNamespace
    let address: String

    /// Opens a connection to one of the workload's ports.
    func connect(_ port: UInt16) async throws -> Descriptor {
        let (namespace, address) = (namespace, address)
        return try await offload { try namespace.connect(ipv4: address, port: port) }
    }

    /// The workload's own report; waits, at most 30 s, until it serves.
    func statusWhenServing() async throws -> DemoStatus {
        let deadline = ContinuousClock.now + .seconds(30)
        while true {
            do {
                let socket = try await connect(DemoWorkload.statusPort)
                let bytes = try await offload { try Self.readAll(socket) }
                return try decode(DemoStatus.self, bytes)
            } catch let error as SyscallError {
                guard error.code == ECONNREFUSED, ContinuousClock.now < deadline else { throw error }
                try await Task.sleep(for: .milliseconds(50))
            }
        }
    }

    private static func readAll(_ socket: Descriptor) throws -> [UInt8] {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = try syscall("read") { read(socket.raw, &buffer, buffer.count) }
            if count == 0 { return bytes }
            bytes += buffer[..<count]
        }
    }
}
