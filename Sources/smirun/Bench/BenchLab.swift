import Foundation
import Isolation
import LinuxSystem
import Orchestrator

/// A lab of the benchmarks' own, beside whatever else runs on this machine, and the image that they launch.
struct BenchLab: Sendable {
    /// Its directories begin with this, below /var/lib, /run and /etc.
    private static let name = "smirun-bench"
    /// What the peers need: the base image's files, bundles, layers.
    ///
    /// Not below the lab's own directories, which the lab's hosts cannot see.
    static let peerDirectory = "/var/lib/\(name)-peer"
    /// The image's files, for peers.
    static let base = peerDirectory + "/base"
    private static let lockFile = "/run/\(name).lock"

    let lab: Lab
    let hosts: [LabStatus.Host]
    let daemon: DaemonOptions

    /// Makes the image and the lab, runs `body` and takes the lab down again, whatever happened.
    ///
    /// - Throws: what `body` throws; an error where another benchmark runs.
    static func with(
        hosts: Int,
        rate: String = "none",
        options: BenchWords,
        _ body: (BenchLab) async throws -> Void
    ) async throws {
        let layout = LabLayout(
            state: "/var/lib/\(name)",
            run: "/run/\(name)",
            configuration: "/etc/\(name)",
            cgroup: "/\(name)",
            images: try ImageCommand.store().directory
        )
        let lab = Lab(layout: layout)
        try lab.requireRoot()
        let plan = try LabPlan(hosts: hosts, rate: LinkRate(parsing: rate))
        let lock = try takeLock()
        defer {
            unlink(lockFile)
            lock.release()
        }
        // What an interrupted benchmark left.
        try await cleanUp(lab)
        do {
            try await undoingIfInterrupted({ try await cleanUp(lab) }) {
                options.say("making the image and a lab of \(plan.summary)")
                try await BenchImage.prepare(in: peerDirectory, mountPoint: base)
                let status = try await offload { try lab.up(plan) }
                var daemon = DaemonOptions()
                daemon.socket = layout.run + "/" + LabLayout.sockets[0]
                try await body(BenchLab(lab: lab, hosts: status.hosts, daemon: daemon))
            }
        } catch {
            try? await cleanUp(lab)
            throw error
        }
        try await cleanUp(lab)
    }

    private static func takeLock() throws -> FileLock {
        if let lock = try FileLock.take(lockFile, before: .now) { return lock }
        throw OrchestratorError(
            .badArgument,
            cause: "another benchmark runs on this machine",
            remedy: "wait until it has ended: figures taken at the same time are worth nothing"
        )
    }

    private static func cleanUp(_ lab: Lab) async throws {
        try await offload {
            _ = try lab.down()
            for path in [peerDirectory + "/rootfs", base, peerDirectory] { try Mounts.detachAll(path) }
            try Directories.removeTree(peerDirectory)
            unlink(lab.layout.lock)
            for path in [lab.layout.state, lab.layout.run, lab.layout.configuration] { rmdir(path) }
        }
    }

    /// Runs this program's command line on the lab, as a user does, to its end.
    ///
    /// - Throws: where it fails, with what it said.
    @discardableResult
    func smirun(_ arguments: [String], limit: Duration = .seconds(600)) async throws -> HelperResult {
        let socket = daemon.controlSocket
        return try await offload {
            var command = HelperCommand([executablePath()] + arguments)
            command.environment.append("SMIRUN_SOCKET=\(socket)")
            return try command.runChecked("smirun \(arguments.joined(separator: " "))", limit: limit)
        }
    }

    /// Ends and removes a user's machine.
    func remove(_ user: String) async throws {
        _ = try await daemon.call(.remove, RemoveRequest(user: user, force: true), as: Nothing.self)
    }

    /// The network of one of the hosts.
    func network(_ host: LabStatus.Host) throws -> NetworkNamespace {
        guard let holder = host.holder else {
            throw OrchestratorError(
                .daemonUnreachable,
                cause: "\(host.name) is down",
                remedy: "run the benchmark again"
            )
        }
        return try NetworkNamespace(of: holder)
    }
}

extension HelperCommand {
    /// Runs a command that has to succeed; an error names its purpose.
    @discardableResult
    func runChecked(_ purpose: String, limit: Duration = .seconds(600)) throws -> HelperResult {
        let result = try run(timeout: limit)
        guard result.status == 0, !result.timedOut else {
            throw OrchestratorError(
                .internalError,
                cause: "\(purpose) failed with status \(result.status)\(result.timedOut ? ", out of time" : "")",
                remedy: "read its words below",
                log: "\(result.output.suffix(2000))\(result.error.suffix(2000))"
            )
        }
        return result
    }
}
