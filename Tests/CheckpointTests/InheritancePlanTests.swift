import Glibc
import LinuxSystem
import Testing

@testable import Isolation

@Suite("The plan of what tasks inherit")
struct InheritancePlanTests {
    private static let plain = Int(MAP_PRIVATE | MAP_ANONYMOUS)
    private static let anonymous = 1 | 1 << 9
    private static let ofFile = 1 | 1 << 6

    private struct Entry {
        var start: Int
        var pages: Int
        var flags = InheritancePlanTests.plain
        var status = InheritancePlanTests.anonymous
        var protection = 3
    }

    private static func image(_ messages: [[UInt8]]) -> [UInt8] {
        [UInt8](repeating: 0x77, count: 8)
            + messages.flatMap { message in
                (0..<4).map { UInt8(truncatingIfNeeded: message.count >> (8 * $0)) } + message
            }
    }

    private static func mappings(_ entries: [Entry]) -> [UInt8] {
        var message = ProtobufWriter()
        message.integer(1, 4711)
        for entry in entries {
            var mapping = ProtobufWriter()
            mapping.integer(1, entry.start * 4096)
            mapping.integer(2, (entry.start + entry.pages) * 4096)
            mapping.integer(5, entry.protection)
            mapping.integer(6, entry.flags)
            mapping.integer(7, entry.status)
            message.message(14, mapping.bytes)
        }
        return image([message.bytes])
    }

    private static func tree(_ parents: [(Int, Int)]) -> [UInt8] {
        image(
            parents.map { process, parent in
                var entry = ProtobufWriter()
                entry.integer(1, process)
                entry.integer(2, parent)
                return entry.bytes
            }
        )
    }

    private func withImages(_ files: [String: [UInt8]], _ body: (String) throws -> Void) throws {
        let directory = "/tmp/smirun-plan-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        defer { try? Directories.removeTree(directory) }
        try Directories.make(directory)
        for (name, bytes) in files { try FileContents.replace(directory + "/" + name, with: bytes) }
        try body(directory)
    }

    @Test("names every private mapping in order, and moves in those that are plain, whole in a region and wanted")
    func plan() throws {
        let entries = [
            Entry(start: 0x100, pages: 4),
            Entry(start: 0x110, pages: 2, status: Self.ofFile),
            Entry(start: 0x120, pages: 8, flags: Int(MAP_SHARED | MAP_ANONYMOUS), status: 1 | 1 << 8),
            Entry(start: 0x130, pages: 1, flags: Self.plain | Int(MAP_HUGETLB)),
            Entry(start: 0x140, pages: 3, flags: Self.plain | Int(MAP_GROWSDOWN)),
            Entry(start: 0x150, pages: 3, protection: 1),
            Entry(start: 0x1ff, pages: 2),
            Entry(start: 0x180, pages: 1),
        ]
        let files = [
            "mm-2.img": Self.mappings(entries), "mm-1.img": Self.mappings([Entry(start: 0x100, pages: 1)]),
            "pstree.img": Self.tree([(1, 0), (2, 1)]),
        ]
        try withImages(files) { images in
            let regions = [Int32(2): [InheritedRegion(pages: 0x100..<0x200, source: 0x1000_0000)]]
            let inherited = try InheritancePlan.write(regions, images: images) { $0 == 2 && $1.lowerBound != 0x180 }
            #expect(inherited == [2: [0x100..<0x104, 0x150..<0x153]])
            // Shared memory has no place there; huge pages have, and are not made.
            let expected = """
                total 10000
                4000 3 22 10000000
                2000 3 22 0
                3000 3 122 0
                3000 1 22 10050000
                2000 3 22 0
                1000 3 22 0

                """
            #expect(try FileContents.string(of: images + "/inherit-2") == expected)
            // Both forks copy what the second one's task needs.
            let spans = try FileContents.string(of: images + "/inherit")
            #expect(
                spans.split(separator: "\n").sorted() == ["1 0 0", "1 10000000 100000", "2 0 0", "2 10000000 100000"]
            )
            InheritancePlan.remove(images: images)
            #expect(Directories.entries(of: images).sorted() == files.keys.sorted())
        }
    }

    @Test("is refused for an image that is cut off, and ends for a tree that goes round in a circle")
    func damage() throws {
        let whole = Self.mappings([Entry(start: 0x100, pages: 4)])
        let tree = Self.tree([(1, 2), (2, 1)])
        let regions = [Int32(2): [InheritedRegion(pages: 0x100..<0x200, source: 0x1000_0000)]]
        try withImages(["mm-2.img": whole, "pstree.img": tree]) { images in
            let inherited = try InheritancePlan.write(regions, images: images) { _, _ in true }
            #expect(inherited == [2: [0x100..<0x104]])
        }
        for length in 9..<whole.count {
            try withImages(["mm-2.img": Array(whole[..<length]), "pstree.img": tree]) { images in
                #expect(throws: IsolationError.self) {
                    try InheritancePlan.write(regions, images: images) { _, _ in true }
                }
            }
        }
    }
}
