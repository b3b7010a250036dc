import Glibc
import LinuxSystem
import NIOPosix

/// The file side of a unix socket that a daemon listens on.
enum UnixSocket {
    /// Longest path that fits into a `sockaddr_un` (unix(7)).
    static let longestPath = 107

    /// Refuses a path that cannot be used or that a live daemon listens on.
    ///
    /// A socket that a dead one left is no hindrance.
    static func prepare(_ path: String) async throws(OrchestratorError) {
        guard path.utf8.count <= longestPath else {
            throw OrchestratorError(
                .badArgument,
                cause: "the socket path \(path) is longer than \(longestPath) bytes",
                remedy: "choose a shorter run directory"
            )
        }
        guard access(path, F_OK) == 0 else { return }
        let connected = try? await ClientBootstrap(group: .singletonMultiThreadedEventLoopGroup)
            .connect(unixDomainSocketPath: path).get()
        guard let connected else { return }
        try? await connected.close()
        throw OrchestratorError(
            .running,
            cause: "another daemon listens on \(path)",
            remedy: "stop it first, or give this one another run directory"
        )
    }

    /// Makes the socket root's only; until here its directory's mode protected it.
    static func restrict(_ path: String) throws(SyscallError) {
        try syscall("chmod", path) { chmod(path, 0o600) }
    }
}
