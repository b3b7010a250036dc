import Foundation
import Glibc
import Isolation
import LinuxSystem
import Orchestrator
import Synchronization

/// The peer of a hand-off: `criu dump`, a copy of the images through the same link, `criu restore`, by command line.
///
/// The same program as in the machine, but as an ordinary process of the host: no namespaces to dump, no rootfs to copy,
/// no packets to stop. CRIU is the one that set-up installed, without our preload library; the images are on tmpfs.
final class PlainCriu: Sendable {
    /// What one move took, ms, by the command.
    struct Times {
        let dump: Double
        let copy: Double
        let restore: Double
        /// Size of the images.
        let bytes: Int64
    }

    private static let images = "/run/plain-criu"
    private static let port = 7070

    private let lab: BenchLab
    private let criu: CriuInstallation
    private let pid: Int32
    private let state: Mutex<State>

    private struct State {
        /// The program: of the number that it began with, but another process after each move.
        var process: ChildProcess
        var hostIndex = 0
    }

    /// Starts the workload on the first host.
    ///
    /// - Throws: where there is no CRIU.
    init(lab: BenchLab, workload: Workload) throws {
        self.lab = lab
        criu = try CriuInstallation.find(paths: HostPaths(libexec: HostConfiguration.libexec()))
        // The program loses its parent, CRIU, at each restore: whoever gets it must reap it, or its number is not free for
        // the next one.
        try ChildProcess.adoptOrphans()
        let path = BenchLab.base + BenchImage.program
        var command = try lab.lab.command(on: lab.hosts[0].name, [path] + workload.arguments)
        command.newSession = true
        let process = try command.start()
        pid = process.pid
        state = Mutex(State(process: process))
    }

    /// Where the program can be asked.
    func place() throws -> Workload.Place {
        let index = state.withLock(\.hostIndex)
        return Workload.Place(network: try lab.network(lab.hosts[index]), address: "127.0.0.1")
    }

    /// Moves it between the first two hosts.
    ///
    /// Blocks its thread, for as long as the copy takes.
    func move() throws -> Times {
        try state.withLock { try move(&$0) }
    }

    private func move(_ state: inout State) throws -> Times {
        let (from, to) = (lab.hosts[state.hostIndex], lab.hosts[1 - state.hostIndex])
        let make = "rm -rf \(Self.images); mkdir \(Self.images)"
        for host in [from, to] { try on(host, ["sh", "-c", make]) }
        // tar gets the connection itself: nc would end with its own input.
        let target = ["busybox", "nc", "-l", "-p", "\(Self.port)", "-e", "tar", "-x", "-C", Self.images]
        let receiver = try lab.lab.command(on: to.name, target).begin(timeout: .seconds(3600))
        try awaitListener(on: to)
        let dumpStart = ContinuousClock.now
        let children = try children()
        try runCriu(on: from, ["dump", "-t", "\(pid)"])
        // CRIU has killed them.
        for process in [state.process] + children { _ = try process.wait() }
        let dump = millisecondsSince(dumpStart)
        let copyStart = ContinuousClock.now
        let source = "tar -c -C \(Self.images) . | busybox nc \(to.addresses[0]) \(Self.port)"
        try on(from, ["sh", "-c", source])
        let received = try receiver.finish()
        guard received.status == 0 else {
            throw OrchestratorError(
                .internalError,
                cause: "the images did not arrive whole on \(to.name)",
                remedy: "read tar's words below",
                log: received.error
            )
        }
        let copy = millisecondsSince(copyStart)
        let restoreStart = ContinuousClock.now
        try runCriu(on: to, ["restore", "--restore-detached"])
        let restore = millisecondsSince(restoreStart)
        guard let process = try ChildProcess(adopted: pid) else {
            throw OrchestratorError(
                .internalError,
                cause: "the program that CRIU restored on \(to.name) ended at once",
                remedy: "run the benchmark again"
            )
        }
        state = State(process: process, hostIndex: 1 - state.hostIndex)
        return Times(dump: dump, copy: copy, restore: restore, bytes: try imageBytes(on: from))
    }

    /// Ends the program.
    func end() throws {
        try state.withLock { state in
            let all = [state.process] + (try children())
            for process in all { try process.signal(SIGKILL) }
            for process in all { _ = try process.wait() }
        }
    }

    /// The program's children, which are this process's once the program has ended.
    private func children() throws -> [ChildProcess] {
        let numbers = try FileContents.string(of: "/proc/\(pid)/task/\(pid)/children").split(separator: " ")
        return try numbers.compactMap { Int32($0) }.compactMap { try ChildProcess(adopted: $0) }
    }

    private func runCriu(on host: LabStatus.Host, _ arguments: [String]) throws {
        let start = criu.loader.map { [$0.path, "--library-path", $0.libraries] } ?? []
        let options = ["--images-dir", Self.images, "--manage-cgroups=ignore", "-v1", "--log-file", "criu.log"]
        do {
            try on(host, start + [criu.executable] + arguments + options)
        } catch {
            let log = try? on(host, ["cat", Self.images + "/criu.log"]).output
            throw OrchestratorError(
                .internalError,
                cause: "criu \(arguments[0]) failed on \(host.name): \(error)",
                remedy: "read CRIU's words below",
                log: log
            )
        }
    }

    @discardableResult
    private func on(_ host: LabStatus.Host, _ argv: [String]) throws -> HelperResult {
        try lab.lab.command(on: host.name, argv).runChecked(argv.joined(separator: " "), limit: .seconds(3600))
    }

    private func imageBytes(on host: LabStatus.Host) throws -> Int64 {
        let output = try on(host, ["du", "-sb", Self.images]).output
        return output.split(separator: "\t").first.flatMap { Int64($0) } ?? 0
    }

    private func awaitListener(on host: LabStatus.Host) throws {
        let port = ":" + String(Self.port, radix: 16, uppercase: true)
        let deadline = ContinuousClock.now + .seconds(10)
        while ContinuousClock.now < deadline {
            for table in ["tcp", "tcp6"] {
                let lines = try FileContents.string(of: "/proc/\(host.holder ?? 0)/net/\(table)").split(separator: "\n")
                // `sl local_address rem_address st …`, where state 0A is LISTEN.
                for fields in lines.map({ $0.split(separator: " ") }) where fields.count > 3 {
                    if fields[1].hasSuffix(port), fields[3] == "0A" { return }
                }
            }
            poll(nil, 0, 5)
        }
        throw OrchestratorError(
            .internalError,
            cause: "busybox nc does not listen on \(host.name)",
            remedy: "install Debian's busybox-static"
        )
    }
}
