import CLinux
import Glibc
import LinuxSystem
import Synchronization

/// Reads a directory tree as a stream of chunks of at most 256 KB.
///
/// Memory is bounded: one chunk, one descriptor for each level of directories, and the paths of files with several names.
/// The tree must stand still (its sandbox is frozen); a file that changes size under way makes the stream fail.
package final class TreeReader: ChunkSource {
    private let walk: Mutex<TreeWalk>

    /// Reads the tree below `directory`.
    package init(directory: String, rules: TreeRules) throws {
        do {
            let root = try Descriptor(open: directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
            walk = Mutex(try TreeWalk(root: root, directory: directory, rules: rules))
        } catch {
            throw Self.failure(directory, error)
        }
    }

    /// The next chunk; nil after the last.
    ///
    /// Blocks the thread on the file system.
    package func nextChunk() throws -> [UInt8]? {
        try walk.withLock { walk in
            do {
                return try walk.fill()
            } catch {
                throw Self.failure(walk.directory, error)
            }
        }
    }

    package func next() async throws -> [UInt8]? {
        try await offload { try self.nextChunk() }
    }

    private static func failure(_ directory: String, _ error: any Error) -> any Error {
        if error is IsolationError { return error }
        return IsolationError(
            .systemCall,
            cause: "the files in \(directory) could not be read: \(error)",
            remedy: "check the disk and the kernel's log"
        )
    }
}

/// The state of a walk through a tree, and the bytes that it has produced but not given away.
struct TreeWalk: ~Copyable {
    let directory: String
    private let rules: TreeRules
    private var levels: [Level] = []
    private var file: OpenFile?
    private var linked: [FileIdentity: [UInt8]] = [:]
    private var output: ChunkBuffer
    private var ended = false

    /// O_NOATIME of fcntl.h, which is only there with _GNU_SOURCE.
    private static let noAccessTime: Int32 = 0o1000000

    private struct Level {
        let descriptor: Descriptor
        let path: [UInt8]
        /// Names still to visit, in reverse order.
        var names: [[UInt8]]
    }

    private struct OpenFile {
        let descriptor: Descriptor
        let path: [UInt8]
        let size: Int
        var position = 0
        /// End of the data that begins at or before `position`.
        var dataEnd = 0
    }

    private struct FileIdentity: Hashable {
        let device: UInt64
        let inode: UInt64
    }

    init(root: Descriptor, directory: String, rules: TreeRules) throws {
        self.directory = directory
        self.rules = rules
        output = ChunkBuffer()
        output.append(TreeFormat.magic)
        var status = stat()
        try syscall("fstat", directory) { fstat(root.raw, &status) }
        let place = "/proc/self/fd/\(root.raw)/."
        try record(try entry(path: [], kind: .directory, status: status, place: place))
        levels.append(Level(descriptor: root, path: [], names: Self.names(in: root)))
    }

    /// Produces bytes until a chunk is full or the tree is done.
    mutating func fill() throws -> [UInt8]? {
        while !output.isFull && !ended {
            if file != nil {
                try copyData()
            } else if let top = levels.indices.last {
                guard let name = levels[top].names.popLast() else {
                    levels.removeLast()
                    continue
                }
                try visit(name, in: levels[top].descriptor, path: levels[top].path)
            } else {
                var end = ByteWriter()
                end.integer(output.checksum)
                output.header(.end, length: end.bytes.count)
                output.append(end.bytes)
                ended = true
            }
        }
        return output.take()
    }

    private static func names(in directory: Descriptor) -> [[UInt8]] {
        Directories.names(in: directory).sorted { $1.lexicographicallyPrecedes($0) }
    }

    private mutating func visit(_ name: [UInt8], in parent: Descriptor, path parentPath: [UInt8]) throws {
        let path = parentPath.isEmpty ? name : parentPath + [UInt8(ascii: "/")] + name
        let shown = String(decoding: path, as: UTF8.self)
        guard path.count <= TreeFormat.longestPath else { throw refusal(shown.prefix(60) + "…", "is nested too deep") }
        var status = stat()
        let cName = name.map { CChar(bitPattern: $0) } + [0]
        try syscall("fstatat", shown) { fstatat(parent.raw, cName, &status, AT_SYMLINK_NOFOLLOW) }
        if rules.leavesOut(path, status) { return }
        let place = "/proc/self/fd/\(parent.raw)/"
        let attributePath = place.utf8.map { CChar(bitPattern: $0) } + cName
        let kind = try kind(of: status, path: shown, place: attributePath)
        guard rules.allows(kind, depth: levels.count) else { throw refusal(shown, "does not belong there") }
        if kind == .file && status.st_nlink > 1 {
            let identity = FileIdentity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
            if let first = linked[identity] {
                var link = try entry(path: path, kind: .hardLink, status: status, place: nil)
                link.target = first
                return try record(link)
            }
            linked[identity] = path
        }
        var entry = try entry(path: path, kind: kind, status: status, attributes: attributePath)
        if kind == .symlink { entry.target = try Self.target(of: cName, in: parent, path: shown) }
        try record(entry)
        if kind.isDirectory {
            let raw = try syscall("open", shown) {
                openat(parent.raw, cName, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            }
            let directory = Descriptor(owning: raw)
            levels.append(Level(descriptor: directory, path: path, names: Self.names(in: directory)))
        } else if kind == .file && status.st_size > 0 {
            let flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | Self.noAccessTime | O_CLOEXEC
            let raw = try syscall("open", shown) { openat(parent.raw, cName, flags) }
            file = OpenFile(descriptor: Descriptor(owning: raw), path: path, size: status.st_size)
        }
    }

    private func kind(of status: stat, path: String, place: [CChar]) throws -> TreeFormat.Kind {
        switch status.st_mode & S_IFMT {
        case S_IFREG: return .file
        case S_IFDIR:
            var value: CChar = 0
            let found = smi_lget_xattr(place, TreeRules.opaqueAttribute, &value, 1) == 1
            return found && value == CChar(UInt8(ascii: "y")) ? .opaqueDirectory : .directory
        case S_IFLNK: return .symlink
        case S_IFIFO: return .fifo
        case S_IFSOCK: return .socket
        case S_IFCHR where status.st_rdev == 0: return .whiteout
        default: throw refusal(path, "is a device node")
        }
    }

    private func refusal(_ path: some StringProtocol, _ reason: String) -> IsolationError {
        IsolationError(
            .treeInvalid,
            cause: "/\(path) cannot be moved: it \(reason)",
            remedy: "remove it inside the sandbox, then try again"
        )
    }

    private static func target(of name: [CChar], in parent: Descriptor, path: String) throws -> [UInt8] {
        var buffer = [CChar](repeating: 0, count: TreeFormat.longestPath + 1)
        let count = try syscall("readlink", path) { readlinkat(parent.raw, name, &buffer, buffer.count) }
        return buffer[..<count].map { UInt8(bitPattern: $0) }
    }

    // MARK: Entries

    private func entry(path: [UInt8], kind: TreeFormat.Kind, status: stat, place: String?) throws -> TreeEntry {
        try entry(path: path, kind: kind, status: status, attributes: place.map { Array($0.utf8CString) })
    }

    private func entry(
        path: [UInt8],
        kind: TreeFormat.Kind,
        status: stat,
        attributes place: [CChar]?
    ) throws -> TreeEntry {
        TreeEntry(
            kind: kind,
            path: path,
            mode: status.st_mode & 0o7777,
            uid: status.st_uid,
            gid: status.st_gid,
            modifiedSeconds: Int64(status.st_mtim.tv_sec),
            modifiedNanoseconds: UInt32(status.st_mtim.tv_nsec),
            size: kind == .file ? UInt64(status.st_size) : 0,
            target: [],
            attributes: try place.map { try TreeAttributes.read($0, rules: rules) } ?? []
        )
    }

    private mutating func record(_ entry: TreeEntry) throws {
        let bytes = entry.encoded()
        guard bytes.count <= TreeFormat.longestRecord else {
            throw refusal(String(decoding: entry.path, as: UTF8.self), "has more than 1 MB of extended attributes")
        }
        output.header(.entry, length: bytes.count)
        output.append(bytes)
    }

    // MARK: Data

    /// Adds one data record of the open file, or closes it at its end.
    ///
    /// Holes are skipped.
    private mutating func copyData() throws {
        guard var open = file else { return }
        if open.position >= open.dataEnd {
            guard try Self.findData(&open) else {
                file = nil
                return
            }
        }
        let wanted = min(open.dataEnd - open.position, TreeFormat.dataPayload)
        let path = String(decoding: open.path, as: UTF8.self)
        let offset = open.position
        let count = try output.data(at: UInt64(offset), length: wanted) { destination throws(SyscallError) in
            try syscall("pread", path) {
                pread(open.descriptor.raw, destination.baseAddress, destination.count, offset)
            }
        }
        guard count > 0 else { throw refusal(path, "changed while it was read") }
        open.position += count
        file = open
    }

    /// Moves to the next data; false where only a hole is left.
    ///
    /// Values of lseek's whence from linux/fs.h.
    private static func findData(_ open: inout OpenFile) throws -> Bool {
        let seekData: Int32 = 3
        let seekHole: Int32 = 4
        let start = lseek(open.descriptor.raw, open.position, seekData)
        if start < 0 {
            let code = errno
            if code == ENXIO { return false }
            throw SyscallError("lseek", code: code, subject: String(decoding: open.path, as: UTF8.self))
        }
        guard start < open.size else { return false }
        open.position = start
        open.dataEnd = min(try syscall("lseek") { lseek(open.descriptor.raw, start, seekHole) }, open.size)
        return open.dataEnd > open.position
    }
}
