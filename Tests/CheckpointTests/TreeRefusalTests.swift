import CLinux
import Glibc
import LinuxSystem
import Testing

@testable import Isolation

@Suite("A stream of files that is not what it should be", .enabled(if: geteuid() == 0, "needs root"))
struct TreeRefusalTests {
    /// A directory with something outside that must stay as it is.
    private func surroundings() throws -> ScratchDirectory {
        let scratch = try ScratchDirectory("refusal")
        try shell("echo untouched > outside; mkdir safe", in: scratch.path)
        return scratch
    }

    private func expectRefused(_ records: [TreeEntry], data: [UInt8]? = nil, rules: TreeRules = .upper) throws {
        let scratch = try surroundings()
        var stream = StreamMaker()
        for entry in records { stream.entry(entry) }
        if let data { stream.data(data) }
        stream.end()
        let target = scratch.path + "/safe/tree"
        #expect(throws: IsolationError.self) { try write([stream.bytes], to: target, rules: rules) }
        #expect(try shell("cat outside; ls -A safe", in: scratch.path) == "untouched\n")
    }

    private static let root = TreeEntry.plain(.directory, "")

    @Test(
        "is refused when a path leads elsewhere",
        arguments: ["../outside", "/outside", "a/../../outside", ".", "..", "a//b", "a/", "./a", "a/./b", "a\0b"]
    )
    func traversal(path: String) throws {
        try expectRefused([Self.root, .plain(.directory, "a"), .plain(.file, path)])
    }

    @Test("is refused when a file would be made through a symbolic link")
    func throughLink() throws {
        try expectRefused([Self.root, .plain(.symlink, "a", target: ".."), .plain(.file, "a/outside")])
        try expectRefused([Self.root, .plain(.symlink, "a", target: "/etc"), .plain(.file, "a/new")])
    }

    @Test("is refused when a hard link names something outside, a symbolic link or a directory")
    func hardLinks() throws {
        for target in ["../outside", "/etc/passwd", "missing", "link", "dir", "link/outside", ""] {
            try expectRefused([
                Self.root, .plain(.directory, "dir"), .plain(.symlink, "link", target: ".."),
                .plain(.hardLink, "name", target: target),
            ])
        }
    }

    @Test("is refused when a name comes twice, or before its directory, or without a root")
    func order() throws {
        try expectRefused([Self.root, .plain(.file, "a"), .plain(.file, "a")])
        try expectRefused([Self.root, .plain(.directory, "a"), .plain(.file, "b"), .plain(.file, "a/c")])
        try expectRefused([Self.root, .plain(.file, "a/b")])
        try expectRefused([.plain(.file, "a")])
        try expectRefused([])
        try expectRefused([Self.root, Self.root])
    }

    @Test("is refused when data lie outside a file, or belong to none")
    func data() throws {
        let eight = [UInt8](repeating: 0, count: 8)
        try expectRefused([Self.root, .plain(.file, "a", size: 4)], data: eight + [1, 2, 3, 4, 5])
        try expectRefused([Self.root], data: eight + [1])
        try expectRefused([Self.root, .plain(.file, "a", size: 4)], data: [UInt8](repeating: 255, count: 8) + [1])
    }

    @Test("is refused when it sets attributes that only overlayfs of this host may")
    func attributes() throws {
        for name in ["trusted.overlay.origin", "trusted.overlay.opaque", "trusted.overlay.upper"] {
            var entry = TreeEntry.plain(.directory, "a")
            entry.attributes = [.init(name: Array(name.utf8), value: [1])]
            try expectRefused([Self.root, entry])
        }
    }

    @Test("is refused as a cut when it holds anything but plain files in one directory")
    func cut() throws {
        try expectRefused([Self.root, .plain(.directory, "a")], rules: .cut)
        try expectRefused([Self.root, .plain(.symlink, "a.img", target: "/etc/passwd")], rules: .cut)
        try expectRefused([Self.root, .plain(.fifo, "a.img")], rules: .cut)
    }

    @Test("leaves nothing when it breaks off anywhere")
    func truncated() throws {
        let scratch = try surroundings()
        try shell("mkdir -p source/d; head -c 5000 /dev/urandom > source/d/f; ln -s x source/l", in: scratch.path)
        let whole = Array(try chunks(of: scratch.path + "/source").joined())
        for length in stride(from: 0, to: whole.count, by: 37) {
            #expect(throws: IsolationError.self) {
                try write([Array(whole[..<length])], to: scratch.path + "/safe/tree")
            }
        }
        #expect(throws: IsolationError.self) { try write([whole + [0]], to: scratch.path + "/safe/tree") }
        #expect(throws: IsolationError.self) { try write([whole, whole], to: scratch.path + "/safe/tree") }
        #expect(try shell("ls -A safe", in: scratch.path).isEmpty)
    }

    @Test("is refused, and reaches nothing outside, when any byte is changed")
    func damaged() throws {
        let scratch = try surroundings()
        try shell(
            "mkdir -p source/d; echo hello > source/d/f; ln source/d/f source/g; mkfifo source/p",
            in: scratch.path
        )
        let whole = Array(try chunks(of: scratch.path + "/source").joined())
        for index in whole.indices {
            var damaged = whole
            damaged[index] ^= UInt8(1 << (index % 8))
            #expect(throws: IsolationError.self, "byte \(index)") {
                try write([damaged], to: scratch.path + "/safe/tree")
            }
        }
        #expect(try shell("cat outside; ls -A safe", in: scratch.path) == "untouched\n")
    }

    @Test("is refused when it is noise", arguments: 1...40)
    func noise(seed: UInt64) throws {
        let scratch = try surroundings()
        var generator = SeededGenerator(seed: seed)
        var bytes = seed % 2 == 0 ? TreeFormat.magic : []
        bytes += (0..<Int.random(in: 0...20000, using: &generator)).map { _ in
            UInt8(truncatingIfNeeded: generator.next() >> 7)
        }
        if seed % 4 == 0 { bytes[8] = 1 }
        #expect(throws: IsolationError.self) { try write([bytes], to: scratch.path + "/safe/tree") }
        #expect(try shell("ls -A safe", in: scratch.path).isEmpty)
    }
}

extension TreeEntry {
    static func plain(_ kind: TreeFormat.Kind, _ path: String, target: String = "", size: UInt64 = 0) -> TreeEntry {
        TreeEntry(
            kind: kind,
            path: Array(path.utf8),
            mode: 0o644,
            uid: 0,
            gid: 0,
            modifiedSeconds: 1,
            modifiedNanoseconds: 0,
            size: size,
            target: Array(target.utf8),
            attributes: []
        )
    }
}

/// Makes streams that a reader never would.
struct StreamMaker {
    private(set) var bytes = TreeFormat.magic

    mutating func entry(_ entry: TreeEntry) { record(.entry, entry.encoded()) }
    mutating func data(_ payload: [UInt8]) { record(.data, payload) }

    mutating func end() {
        var checksum = ByteWriter()
        checksum.integer(bytes.withUnsafeBytes { smi_crc32c(0, $0.baseAddress, $0.count) })
        record(.end, checksum.bytes)
    }

    private mutating func record(_ type: TreeFormat.Record, _ payload: [UInt8]) {
        var writer = ByteWriter()
        writer.integer(type.rawValue)
        writer.integer(UInt32(payload.count))
        bytes += writer.bytes + payload
    }
}
