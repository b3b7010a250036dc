import CLinux
import Glibc
import LinuxSystem
import Synchronization

/// Writes a directory tree from a stream that `TreeReader` made.
///
/// The tree grows in `<directory>.incoming` and takes its place only when the stream has ended and its checksum is right:
/// a stream that breaks off leaves nothing visible. Nothing in the stream can reach outside: every object is made with
/// O_EXCL under a plain name in a directory that this stream itself has made.
package final class TreeWriter: ChunkSink {
    private let state: Mutex<TreeBuild?>
    private let directory: String
    private let incoming: String

    /// Prepares to write a tree to `directory`, which is absent or empty, in a parent that exists.
    package init(directory: String, rules: TreeRules) throws {
        self.directory = directory
        let incoming = directory + ".incoming"
        self.incoming = incoming
        do {
            try Directories.removeTree(incoming)
            try syscall("mkdir", incoming) { mkdir(incoming, 0o700) }
            state = Mutex(TreeBuild(root: try Descriptor(open: incoming, O_RDONLY | O_DIRECTORY), rules: rules))
        } catch {
            throw Self.failure(directory, error)
        }
    }

    /// Takes the next chunk; after an error nothing is left and every further chunk is refused.
    package func consume(_ chunk: [UInt8]) throws {
        try guarded { build in try build.consume(chunk) }
    }

    /// Checks that the stream is whole and puts the tree in its place.
    package func complete() throws {
        try guarded { build in try build.complete() }
        state.withLock { $0 = nil }
        do {
            try syscall("rename", directory) { rename(incoming, directory) }
        } catch {
            discard()
            throw Self.failure(directory, error)
        }
    }

    /// Drops what was written.
    package func discard() {
        state.withLock { $0 = nil }
        try? Directories.removeTree(incoming)
    }

    package func write(_ chunk: [UInt8]) async throws {
        try await offload { try self.consume(chunk) }
    }

    package func finish() async throws {
        try await offload { try self.complete() }
    }

    package func abandon() async {
        try? await offload { self.discard() }
    }

    private func guarded(_ body: (inout TreeBuild) throws -> Void) throws {
        do {
            try state.withLock { state in
                guard var build = state.take() else { throw TreeBuild.invalid("it has ended") }
                try body(&build)
                state = build
            }
        } catch {
            discard()
            throw Self.failure(directory, error)
        }
    }

    private static func failure(_ directory: String, _ error: any Error) -> any Error {
        if error is IsolationError { return error }
        let full = (error as? SyscallError).map { $0.code == ENOSPC || $0.code == EDQUOT } ?? false
        return IsolationError(
            full ? .diskFull : .systemCall,
            cause: "the files in \(directory) could not be written: \(error)",
            remedy: full ? "free space on that file system" : "check the disk and the kernel's log"
        )
    }
}
