import Glibc
import LinuxSystem

extension SandboxHost {
    /// Exists once everything that a restore needs has arrived.
    private func seal(_ user: String) -> String { paths.runtime(user) + "/cut.whole" }

    /// CRIU's images as chunks of at most 256 KB, valid while the sandbox is frozen.
    package func readCut(_ user: String) -> any ChunkSource {
        CutSource(directory: paths.cut(user))
    }

    /// Takes the images of a cut.
    package func cutSink(_ user: String) async throws -> any ChunkSink {
        try IsolationError.wrapping("take the images of \(user)") {
            unlink(seal(user))
            return try CutSink(directory: paths.cut(user))
        }
    }

    /// Marks the cut as whole, so that it is found and restored again after a crash of the daemon.
    package func sealCut(_ user: String) async throws {
        try IsolationError.wrapping("keep the images of \(user)") { try FileContents.replace(seal(user), with: []) }
    }

    /// Deletes the images of the cut in flight; none is no error.
    package func discardCut(_ user: String) async throws {
        try await locks.alone(user) { [self] in
            try IsolationError.wrapping("delete the images of \(user)") { try removeCut(user) }
        }
    }

    func hasWholeCut(_ user: String) -> Bool { Directories.exists(seal(user)) }

    func removeCut(_ user: String) throws(SyscallError) {
        unlink(seal(user))
        try Directories.removeTree(paths.cut(user))
    }
}
