import Foundation
import Isolation
import LinuxSystem
import Orchestrator

/// Debian's crun, the peer of launch and exec.
struct Crun: Sendable {
    /// Path of the program.
    let program: String
    /// Keeps a view of the file system in which crun finds cgroups that it can use; nil where it can use the machine's.
    private(set) var surroundings: ChildProcess?

    /// Where it is installed; nil where it is not.
    static func find() -> Crun? {
        HelperCommand.locate("crun").map { Crun(program: $0) }
    }

    /// Makes the surroundings that this machine calls for.
    ///
    /// crun refuses a machine that has controllers of both cgroup versions. It is shown version 1 alone then, where the
    /// controllers are that smirun uses too.
    mutating func prepare() throws {
        let hierarchies = CgroupHierarchy.mounted()
        guard let unified = hierarchies.first(where: \.isUnified), hierarchies.contains(where: { !$0.isUnified }) else {
            return
        }
        let controllers = try FileContents.string(of: unified.mount + "/cgroup.controllers")
        guard !controllers.trimmingCharacters(in: .whitespacesAndNewlines).isEmpty else { return }
        let script = "umount \(unified.mount) && echo ready && exec sleep infinity >/dev/null"
        let output = try DescriptorPair.pipe()
        var command = HelperCommand(["unshare", "--mount", "--propagation", "slave", "sh", "-c", script])
        command.newSession = true
        let holder = try command.start([1: output.write])
        output.write.close()
        surroundings = holder
        guard output.read.readUntil("\n", before: .now + .seconds(10)) == "ready\n" else {
            try end()
            throw OrchestratorError(
                .internalError,
                cause: "crun cannot be shown cgroup version 1 alone",
                remedy: "uninstall crun to leave the peer out, or boot with one version of cgroups"
            )
        }
    }

    /// Ends what `prepare` made.
    func end() throws {
        try surroundings?.signal(SIGKILL)
        _ = try surroundings?.wait()
    }

    /// A command of crun's; cgroups are made directly, as smirun makes them.
    func command(_ arguments: [String]) -> HelperCommand {
        inSurroundings(HelperCommand([program, "--cgroup-manager=cgroupfs"] + arguments))
    }

    /// The same command where crun works.
    func inSurroundings(_ command: HelperCommand) -> HelperCommand {
        var command = command
        if let surroundings {
            command.namespacesOf = surroundings.pid
            command.namespaces = ["mnt"]
        }
        return command
    }
}

/// An OCI bundle made from the benchmarks' image, with a machine's isolation.
struct CrunBundle: Sendable {
    private static let container = "smirun-bench-crun"

    let crun: Crun
    /// Holds `base` (the image's files, mounted by `BenchImage`), `rootfs`, `config.json` and the writable layer.
    let directory: String

    /// Makes what stays the same from run to run, runs `body` and takes it away.
    static func with<Value>(
        _ crun: Crun,
        directory: String,
        _ body: (CrunBundle) async throws -> Value
    ) async throws -> Value {
        var crun = crun
        try Directories.make(directory + "/rootfs", mode: 0o755)
        try crun.prepare()
        let result: Value
        do {
            result = try await body(CrunBundle(crun: crun, directory: directory))
        } catch {
            try? crun.end()
            throw error
        }
        try crun.end()
        return result
    }

    /// Runs a program in a new container to its end, cleans up and returns what it wrote.
    func run(_ argv: [String], limits: ResourceLimits) throws -> String {
        try withRoot(argv, limits: limits) {
            try crun.command(["run", "--bundle", directory, Self.container]).runChecked("crun run").output
        }
    }

    /// Runs `body` while a program runs in a container; `body` gets the container's name.
    func running<Value>(_ argv: [String], limits: ResourceLimits, _ body: (String) throws -> Value) throws -> Value {
        try withRoot(argv, limits: limits) {
            try crun.command(["run", "--detach", "--bundle", directory, Self.container]).runDetached("crun run")
            defer { _ = try? crun.command(["delete", "--force", Self.container]).run() }
            return try body(Self.container)
        }
    }

    /// Writes the bundle, mounts a fresh root and takes it away again after `body`.
    private func withRoot<Value>(
        _ argv: [String],
        limits: ResourceLimits,
        _ body: () throws -> Value
    ) throws -> Value {
        let configuration = CrunConfiguration(argv: argv, limits: limits, cgroup: "/" + Self.container)
        try FileContents.replace(directory + "/config.json", with: try configuration.encoded())
        let layer = directory + "/layer"
        for name in ["upper", "work"] { try Directories.make(layer + "/" + name, mode: 0o755) }
        let options =
            "lowerdir=base,upperdir=layer/upper,workdir=layer/work,index=on,nfs_export=on,metacopy=off"
        try Mounts.mountOverlay(in: directory, target: "rootfs", options: options)
        defer {
            try? Mounts.detachAll(directory + "/rootfs")
            try? Directories.removeTree(layer)
        }
        return try body()
    }
}

extension HelperCommand {
    /// Runs a command that leaves a program behind, which keeps the command's output open: that is not waited for.
    fileprivate func runDetached(_ purpose: String) throws {
        let status = try start().wait()
        guard status.isSuccess else {
            throw OrchestratorError(
                .internalError,
                cause: "\(purpose) failed with status \(status.code)",
                remedy: "run \(argv.joined(separator: " ")) to read why"
            )
        }
    }
}
