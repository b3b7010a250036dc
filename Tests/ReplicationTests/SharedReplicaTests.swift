import BackingStore
import Glibc
import LinuxSystem
import Testing

@testable import Replication

@Suite("Shared memory at a replica")
struct SharedReplicaTests {
    private static let number = SharedNumber.first + 3
    private static let shape = SharedShape(
        object: SharedObject(kind: .file, inode: 815),
        size: 20 * 4096,
        name: "some"
    )

    private func with(_ body: (String) throws -> Void) throws {
        let directory = "/tmp/smirun-shared-replica-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        defer { try? Directories.removeTree(directory) }
        try Directories.make(directory)
        try body(directory)
    }

    /// Sends pages that all hold one byte, as one epoch; `isWhole` sends its end, too.
    private func send(
        _ pages: Range<UInt64>,
        _ byte: UInt8,
        epoch: UInt64,
        from store: PageStore,
        to replica: MemoryReplica,
        isWhole: Bool = true
    ) throws {
        let data = [UInt8](repeating: byte, count: pages.count * 4096)
        let frame = try PageDelta.encode(Array(pages), data, from: store, baseEpoch: 0, codec: .lz4)
        for page in pages { try store.put(page, [UInt8](repeating: byte, count: 4096)) }
        try store.commit(epoch: epoch)
        _ = try replica.take(.begin(epoch: epoch, quick: true))
        _ = try replica.take(.frame(process: Self.number, parent: nil, bytes: frame))
        _ = try replica.take(.shared(number: Self.number, shape: Self.shape))
        guard isWhole else { return }
        let answer = try replica.take(.end(epoch: epoch, processes: [Self.number]))
        #expect(answer == .whole(epoch: epoch))
    }

    /// The first byte of each page of what a restore would take.
    private func filled(_ replica: MemoryReplica) throws -> [UInt8] {
        let filled = try #require(replica.fills?.filled(replica.shared, epoch: replica.epoch).first)
        #expect(filled.number == Self.number && filled.original.inode == 815)
        return try (0..<20).map { page in
            var byte: UInt8 = 0
            try syscall("pread") { pread(filled.descriptor.raw, &byte, 1, off_t(page * 4096)) }
            return byte
        }
    }

    @Test("is kept ready for a restore, epoch by epoch, and never holds half of one")
    func ready() throws {
        try with { directory in
            let store = try PageStore.create(at: directory + "/owner.pages")
            let replica = try MemoryReplica(directory: directory + "/replica")
            try send(0..<10, 1, epoch: 1, from: store, to: replica)
            #expect(replica.fills == nil)
            replica.keepFilled(true)
            let first = [UInt8](repeating: 1, count: 10) + [UInt8](repeating: 0, count: 10)
            #expect(try filled(replica) == first)
            try send(5..<12, 2, epoch: 2, from: store, to: replica, isWhole: false)
            // Whoever asks for it in the midst of a round gets none of it.
            replica.keepFilled(false)
            replica.keepFilled(true)
            #expect(replica.fills?.filled(replica.shared, epoch: 1).isEmpty == true)
            replica.drop()
            try send(3..<4, 3, epoch: 3, from: store, to: replica)
            var third = first
            third[3] = 3
            #expect(try filled(replica) == third)
        }
    }

    @Test("is known again after the daemon was started again, where the last epoch was a cut")
    func known() throws {
        try with { directory in
            let store = try PageStore.create(at: directory + "/owner.pages")
            try send(0..<10, 1, epoch: 1, from: store, to: MemoryReplica(directory: directory + "/replica"))
            let replica = try MemoryReplica(directory: directory + "/replica")
            #expect(replica.epoch == 1)
            #expect(replica.shared[Self.number]?.object == Self.shape.object)
            #expect(replica.shared[Self.number]?.size == Self.shape.size)
            let files = Directories.entries(of: directory + "/replica").sorted()
            #expect(files == ["3.shared", "epoch", "shared"])
        }
    }

    @Test("is refused under the number of a process")
    func refused() throws {
        try with { directory in
            let replica = try MemoryReplica(directory: directory)
            _ = try replica.take(.begin(epoch: 1, quick: false))
            #expect(throws: EpochMessageError.self) { try replica.take(.shared(number: 12, shape: Self.shape)) }
        }
    }
}
