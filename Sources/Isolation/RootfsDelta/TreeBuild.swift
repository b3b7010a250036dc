import CLinux
import Glibc
import LinuxSystem

/// The state of a tree that is being written from a stream.
struct TreeBuild {
    private let root: Descriptor
    private let rules: TreeRules
    /// Bytes of a record that the last chunk ended in.
    private var pending: [UInt8] = []
    private var started = false
    private var ended = false
    private var checksum: UInt32 = 0
    /// The directories from the root to where the stream is; each gets its time when the stream leaves it.
    private var levels: [Level] = []
    private var file: OpenFile?

    private struct Level {
        let descriptor: Descriptor
        let entry: TreeEntry
    }

    private struct OpenFile {
        let descriptor: Descriptor
        let entry: TreeEntry
    }

    init(root: Descriptor, rules: TreeRules) {
        self.root = root
        self.rules = rules
    }

    static func invalid(_ reason: String) -> IsolationError {
        IsolationError(
            .streamInvalid,
            cause: "the stream of files is refused: \(reason)",
            remedy: "try again; if it happens again, check that both hosts run the same version"
        )
    }

    mutating func consume(_ chunk: [UInt8]) throws {
        if pending.isEmpty {
            let used = try chunk.withUnsafeBytes { try parse($0) }
            pending = Array(chunk[used...])
        } else {
            pending += chunk
            let used = try pending.withUnsafeBytes { try self.parse($0) }
            pending.removeFirst(used)
        }
    }

    mutating func complete() throws {
        guard ended else { throw Self.invalid("it broke off") }
        guard pending.isEmpty else { throw Self.invalid("it goes on after its end") }
    }

    // MARK: Records

    /// Takes as many whole records as there are; returns the bytes used.
    private mutating func parse(_ bytes: UnsafeRawBufferPointer) throws -> Int {
        var position = 0
        if !started {
            guard bytes.count >= TreeFormat.magic.count else { return 0 }
            guard bytes[..<TreeFormat.magic.count].elementsEqual(TreeFormat.magic) else {
                throw Self.invalid("it is not a stream of files of this version")
            }
            position = TreeFormat.magic.count
            checksum = smi_crc32c(0, bytes.baseAddress, position)
            started = true
        }
        while bytes.count - position >= TreeFormat.header {
            if ended { throw Self.invalid("it goes on after its end") }
            guard let type = TreeFormat.Record(rawValue: bytes[position]) else { throw Self.invalid("unknown record") }
            let length = Int(bytes.loadUnaligned(fromByteOffset: position + 1, as: UInt32.self).littleEndian)
            guard length <= TreeFormat.longestRecord else { throw Self.invalid("a record is too long") }
            let next = position + TreeFormat.header + length
            if next > bytes.count { break }
            let payload = UnsafeRawBufferPointer(rebasing: bytes[(position + TreeFormat.header)..<next])
            if type != .end {
                checksum = smi_crc32c(checksum, bytes.baseAddress.map { $0 + position }, next - position)
            }
            try take(type, payload)
            position = next
        }
        return position
    }

    private mutating func take(_ type: TreeFormat.Record, _ payload: UnsafeRawBufferPointer) throws {
        switch type {
        case .entry:
            guard let entry = TreeEntry.decoded(Array(payload)) else { throw Self.invalid("an entry is malformed") }
            try closeFile()
            try add(entry)
        case .data:
            try writeData(payload)
        case .end:
            guard payload.count == 4, payload.loadUnaligned(as: UInt32.self).littleEndian == checksum else {
                throw Self.invalid("its checksum is wrong")
            }
            try closeFile()
            guard !levels.isEmpty else { throw Self.invalid("it is empty") }
            while !levels.isEmpty { try leaveDirectory() }
            ended = true
        }
    }

    // MARK: Entries

    private mutating func add(_ entry: TreeEntry) throws {
        guard rules.allows(entry.kind, depth: entry.path.isEmpty ? 0 : entry.path.count { $0 == 0x2f } + 1) else {
            throw Self.invalid("an object of a kind that does not belong there: \(Self.shown(entry.path))")
        }
        guard entry.path.isEmpty == levels.isEmpty else { throw Self.invalid("the root is not its first entry") }
        if entry.path.isEmpty {
            levels.append(Level(descriptor: root, entry: entry))
            try setMetadata(of: entry, descriptor: root)
            return
        }
        let name = try enterParent(of: entry.path)
        guard let parent = levels.last?.descriptor else { throw Self.invalid("an entry has no directory") }
        try make(entry, name: name, in: parent)
    }

    /// Leaves directories until the parent of `path` is the last; returns the name in it.
    private mutating func enterParent(of path: [UInt8]) throws -> [CChar] {
        guard Self.isPlain(path) else { throw Self.invalid("the path \(Self.shown(path)) is not a plain one") }
        let slash = path.lastIndex(of: 0x2f)
        let parent = slash.map { path[..<$0] } ?? []
        while let last = levels.last, last.entry.path[...] != parent { try leaveDirectory() }
        guard !levels.isEmpty else {
            throw Self.invalid("\(Self.shown(path)) comes outside its directory")
        }
        return path[(slash.map { $0 + 1 } ?? 0)...].map { CChar(bitPattern: $0) } + [0]
    }

    /// Whether a path is names joined by single slashes, none of them `.` or `..`, without a zero byte.
    static func isPlain(_ path: [UInt8]) -> Bool {
        guard !path.isEmpty, path.count <= TreeFormat.longestPath, !path.contains(0) else { return false }
        return path.split(separator: 0x2f, omittingEmptySubsequences: false).allSatisfy { name in
            !name.isEmpty && name.count <= 255 && !name.elementsEqual([0x2e]) && !name.elementsEqual([0x2e, 0x2e])
        }
    }

    private mutating func make(_ entry: TreeEntry, name: [CChar], in parent: Descriptor) throws {
        let shown = Self.shown(entry.path)
        switch entry.kind {
        case .directory, .opaqueDirectory:
            try syscall("mkdir", shown) { mkdirat(parent.raw, name, 0o700) }
            let flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC
            let made = Descriptor(owning: try syscall("open", shown) { openat(parent.raw, name, flags) })
            levels.append(Level(descriptor: made, entry: entry))
            try setMetadata(of: entry, descriptor: made)
        case .file:
            let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
            let made = Descriptor(owning: try syscall("open", shown) { openat(parent.raw, name, flags, 0o600) })
            try syscall("ftruncate", shown) { ftruncate(made.raw, off_t(entry.size)) }
            file = OpenFile(descriptor: made, entry: entry)
        case .hardLink:
            try link(entry, name: name, in: parent)
        case .symlink:
            guard !entry.target.isEmpty, !entry.target.contains(0) else { throw Self.invalid("a link holds nothing") }
            let target = entry.target.map { CChar(bitPattern: $0) } + [0]
            try syscall("symlink", shown) { symlinkat(target, parent.raw, name) }
            try setMetadata(of: entry, name: name, in: parent)
        case .fifo, .socket:
            let type = entry.kind == .fifo ? S_IFIFO : S_IFSOCK
            try syscall("mknod", shown) { mknodat(parent.raw, name, type | 0o600, 0) }
            try setMetadata(of: entry, name: name, in: parent)
        case .whiteout:
            try syscall("mknod", shown) { mknodat(parent.raw, name, S_IFCHR, 0) }
            try setMetadata(of: entry, name: name, in: parent)
        }
    }

    /// Makes another name of a file of this stream: the path is resolved inside the tree and through no symbolic link.
    private func link(_ entry: TreeEntry, name: [CChar], in parent: Descriptor) throws {
        guard Self.isPlain(entry.target) else { throw Self.invalid("a hard link names no plain path") }
        let slash = entry.target.lastIndex(of: 0x2f)
        let directory = slash.map { String(decoding: entry.target[..<$0], as: UTF8.self) } ?? "."
        let flags = O_RDONLY | O_DIRECTORY
        let place = slash.map { entry.target[..<$0].map { CChar(bitPattern: $0) } + [0] } ?? [CChar(0x2e), 0]
        let from = Descriptor(
            owning: try syscall("openat2", directory) { smi_open_below(root.raw, place, flags, 0) }
        )
        let old = entry.target[(slash.map { $0 + 1 } ?? 0)...].map { CChar(bitPattern: $0) } + [0]
        var status = stat()
        try syscall("fstatat", Self.shown(entry.target)) { fstatat(from.raw, old, &status, AT_SYMLINK_NOFOLLOW) }
        guard status.st_mode & S_IFMT == S_IFREG else { throw Self.invalid("a hard link names no file") }
        try syscall("link", Self.shown(entry.path)) { linkat(from.raw, old, parent.raw, name, 0) }
    }

    private static func shown(_ path: [UInt8]) -> String { "/" + String(decoding: path, as: UTF8.self) }

    // MARK: Data

    private func writeData(_ payload: UnsafeRawBufferPointer) throws {
        guard let file, payload.count > 8 else { throw Self.invalid("data belong to no file") }
        let offset = payload.loadUnaligned(as: UInt64.self).littleEndian
        let count = payload.count - 8
        guard offset <= file.entry.size, UInt64(count) <= file.entry.size - offset else {
            throw Self.invalid("data lie beyond the end of \(Self.shown(file.entry.path))")
        }
        var done = 0
        while done < count {
            let wrote = try syscall("pwrite", Self.shown(file.entry.path)) {
                pwrite(
                    file.descriptor.raw,
                    payload.baseAddress.map { $0 + 8 + done },
                    count - done,
                    off_t(offset) + off_t(done)
                )
            }
            done += wrote
        }
    }

    private mutating func closeFile() throws {
        guard let open = file else { return }
        file = nil
        try setMetadata(of: open.entry, descriptor: open.descriptor)
        try setTime(of: open.entry, descriptor: open.descriptor)
    }

    // MARK: Metadata

    private mutating func leaveDirectory() throws {
        guard let level = levels.popLast() else { return }
        try setTime(of: level.entry, descriptor: level.descriptor)
    }

    /// Owner, mode and attributes of an open object.
    ///
    /// Owner first: a change of it clears set-user-id bits.
    private func setMetadata(of entry: TreeEntry, descriptor: Descriptor) throws {
        let shown = Self.shown(entry.path)
        try syscall("fchown", shown) { fchown(descriptor.raw, entry.uid, entry.gid) }
        try syscall("fchmod", shown) { fchmod(descriptor.raw, entry.mode) }
        for attribute in try checked(entry.attributes) { try TreeAttributes.write(attribute, to: descriptor) }
        if entry.kind == .opaqueDirectory {
            let opaque = TreeEntry.Attribute(name: Array(TreeRules.opaqueAttribute.utf8), value: Array("y".utf8))
            try TreeAttributes.write(opaque, to: descriptor)
        }
    }

    private func setMetadata(of entry: TreeEntry, name: [CChar], in parent: Descriptor) throws {
        let shown = Self.shown(entry.path)
        try syscall("fchownat", shown) {
            fchownat(parent.raw, name, entry.uid, entry.gid, AT_SYMLINK_NOFOLLOW)
        }
        if entry.kind == .fifo || entry.kind == .socket {
            // The object was made by us under this name, and nobody else can reach the tree.
            try syscall("fchmodat", shown) { fchmodat(parent.raw, name, entry.mode, 0) }
        }
        if entry.kind != .whiteout {
            try setAttributes(of: entry, at: "/proc/self/fd/\(parent.raw)/".utf8.map { CChar(bitPattern: $0) } + name)
        }
        var times = Self.times(of: entry)
        try syscall("utimensat", shown) { utimensat(parent.raw, name, &times, AT_SYMLINK_NOFOLLOW) }
    }

    private func setAttributes(of entry: TreeEntry, at place: [CChar]) throws {
        for attribute in try checked(entry.attributes) { try TreeAttributes.write(attribute, at: place) }
    }

    private func checked(_ attributes: [TreeEntry.Attribute]) throws -> [TreeEntry.Attribute] {
        guard attributes.allSatisfy({ rules.carries(attribute: $0.name) && !$0.name.contains(0) }) else {
            throw Self.invalid("it holds an attribute that does not travel")
        }
        return attributes
    }

    private func setTime(of entry: TreeEntry, descriptor: Descriptor) throws {
        var times = Self.times(of: entry)
        try syscall("futimens", Self.shown(entry.path)) { futimens(descriptor.raw, &times) }
    }

    /// Access and modification time; the former does not travel, and atime of a frozen tree matters to nobody.
    private static func times(of entry: TreeEntry) -> [timespec] {
        let time = timespec(tv_sec: Int(entry.modifiedSeconds), tv_nsec: Int(entry.modifiedNanoseconds))
        return [time, time]
    }
}
