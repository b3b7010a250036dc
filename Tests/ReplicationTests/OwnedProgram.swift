import BackingStore
import Foundation
import Glibc
import LinuxSystem
import Logging
import Testing

@testable import Replication

/// A program of a test's own, the owner of its memory, and a directory with room for replicas.
struct OwnedProgram: Sendable {
    let directory: String
    /// Has the number 7 inside.
    let process: FlushedProcess
    let owner: MemoryOwner

    /// Starts what `arguments` gives for a directory, waits until it has made the file `ready` there, and ends it after `body`.
    ///
    /// `withChildren`: the owner's processes are its children, too.
    static func with(
        _ arguments: (_ directory: String) throws -> [String],
        withChildren: Bool = false,
        _ body: (OwnedProgram) async throws -> Void
    ) async throws {
        let directory = "/tmp/smirun-replication-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        try Directories.make(directory)
        defer { try? Directories.removeTree(directory) }
        let arguments = try arguments(directory)
        let child = try SpawnRequest(arguments[0], arguments: arguments).start()
        defer {
            try? child.signal(SIGKILL)
            _ = try? child.wait()
        }
        let process = FlushedProcess(hostPid: child.pid, inner: 7)
        let owner = try MemoryOwner(
            MemoryOwner.Surroundings(
                user: "alice",
                generation: { 1 },
                image: "none",
                processes: { [process] + (withChildren ? children(of: process) : []) },
                rates: LinkRates(),
                priority: LinkPriority(),
                logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            ),
            directory: directory + "/owner"
        )
        let deadline = ContinuousClock.now + .seconds(30)
        while access(directory + "/ready", F_OK) != 0 {
            try #require(ContinuousClock.now < deadline, "the program has not filled its memory")
            try await Task.sleep(for: .milliseconds(5))
        }
        try await body(OwnedProgram(directory: directory, process: process, owner: owner))
        await owner.close()
        await owner.endTracking()
    }

    private static func children(of process: FlushedProcess) -> [FlushedProcess] {
        let path = "/proc/\(process.hostPid)/task/\(process.hostPid)/children"
        let pids = ((try? FileContents.string(of: path)) ?? "").split(separator: " ").compactMap { pid_t($0) }
        return pids.map { FlushedProcess(hostPid: $0, inner: $0) }
    }

    /// Stops it, and waits until it stands still.
    func stop() async throws {
        let pid = process.hostPid
        try await offload {
            var change: Int32 = 0
            try syscall("kill") { kill(pid, SIGSTOP) }
            #expect(waitpid(pid, &change, WUNTRACED) == pid)
        }
    }
}
