import Glibc
import LinuxSystem
import Synchronization

extension SandboxHost {
    /// Exists once everything that a restore needs has arrived.
    private func seal(_ user: String) -> String { paths.runtime(user) + "/cut.whole" }

    /// CRIU's images as chunks of at most 256 KB, valid while the sandbox is frozen.
    package func readCut(_ user: String) -> any ChunkSource {
        TreeSource(directory: paths.cut(user), rules: .cut)
    }

    /// The rootfs's writable layer as chunks of at most 256 KB, valid while the sandbox is frozen.
    package func readUpper(_ user: String) -> any ChunkSource {
        TreeSource(directory: rootfs(user).upper, rules: .upper)
    }

    /// Takes the images of a cut.
    package func cutSink(_ user: String) async throws -> any ChunkSink {
        try IsolationError.wrapping("take the images of \(user)") {
            try removeCut(user)
            return try TreeWriter(directory: paths.cut(user), rules: .cut)
        }
    }

    /// Takes the writable layer of a cut; path traversal and device nodes in it are refused.
    package func upperSink(_ user: String) async throws -> any ChunkSink {
        try IsolationError.wrapping("take the files of \(user)") {
            unlink(seal(user))
            return try TreeWriter(directory: rootfs(user).upper, rules: .upper)
        }
    }

    /// Marks the cut as whole, so that it is found and restored again after a crash of the daemon.
    ///
    /// `memoryEpoch` where its memory is in backing files, as that epoch.
    package func sealCut(_ user: String, memoryEpoch: UInt64?) async throws {
        try IsolationError.wrapping("keep the images of \(user)") {
            try FileContents.replace(seal(user), with: Array((memoryEpoch.map(String.init) ?? "").utf8))
        }
    }

    /// The epoch of the backing files that belong to the cut that is here; nil where its images hold all memory.
    package func memoryEpoch(ofCut user: String) async -> UInt64? {
        knownMemoryEpoch(user)
    }

    func knownMemoryEpoch(_ user: String) -> UInt64? {
        (try? FileContents.string(of: seal(user))).flatMap { UInt64($0) }
    }

    /// Deletes the images of the cut in flight and ends what was started in advance for it; none is no error.
    package func discardCut(_ user: String) async throws {
        try await locks.alone(user) { [self] in
            closeCriu(user)
            try IsolationError.wrapping("delete the images of \(user)") {
                try removeCut(user)
                if takeCutPrepared(user) { try Directories.removeTree(paths.carry(user)) }
            }
        }
    }

    func hasWholeCut(_ user: String) -> Bool { Directories.exists(seal(user)) }

    func removeCut(_ user: String) throws(SyscallError) {
        unlink(seal(user))
        try Directories.removeTree(paths.cut(user))
    }
}

/// A tree that is opened when its first chunk is asked for.
private final class TreeSource: ChunkSource {
    private let directory: String
    private let rules: TreeRules
    private let reader = Mutex<TreeReader?>(nil)

    init(directory: String, rules: TreeRules) {
        self.directory = directory
        self.rules = rules
    }

    func next() async throws -> [UInt8]? {
        try await offload { [self] in
            let reader = try reader.withLock { opened in
                if let opened { return opened }
                let made = try TreeReader(directory: directory, rules: rules)
                opened = made
                return made
            }
            return try reader.nextChunk()
        }
    }
}
